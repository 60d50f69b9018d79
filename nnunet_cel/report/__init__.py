"""Report: an evaluation as a page to look at, and as files for other programs.

Words, beside those of :mod:`nnunet_cel` and :mod:`nnunet_cel.evaluation`:

- *results*: what `nnunet-cel evaluate` wrote, read back.
- *chart*: a drawing of numbers. *Picture*: a drawing of a lesion.
- *agreement*: at each voxel, whether the prediction is true positive, false positive
  or false negative.
- *page*: the HTML file. It holds everything it shows and asks for no other file.

Nothing here imports torch or nnU-Net.
"""
