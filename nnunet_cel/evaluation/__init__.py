"""Evaluation: how well predictions agree with references, lesion by lesion.

Words, beside those of :mod:`nnunet_cel`:

- *reference lesion*, *predicted lesion*: a connected group of lesion voxels of the
  reference, of the prediction.
- *protocol*: what counts as a lesion, when it is found, and what a metric is where it
  has nothing to measure.
- *dropped*: a lesion too small for the protocol. Lesion-wise metrics leave it out.
- *hit*: a reference lesion that the prediction found, or a predicted lesion that is
  one of the reference.
- *missed*: a reference lesion that the prediction did not find.
- *false*: a predicted lesion that is none of the reference.
- *ignored*: a predicted lesion on nothing but dropped reference lesions, neither hit
  nor false.

Nothing here imports torch or nnU-Net. Stages are joined by files only: label maps and
probabilities go in, tables come out.
"""
