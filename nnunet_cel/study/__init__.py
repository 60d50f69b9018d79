"""Study: the whole study of the paper as one workflow, with its tables and figures.

Words, beside those of :mod:`nnunet_cel` and :mod:`nnunet_cel.evaluation`:

- *study*: what one file, such as ``study.yaml``, asks for, and the folder of all that
  comes of it.
- *stage*: how a model came to be: ``pretrained`` on white matter hyperintensities,
  trained ``direct`` on enhancing lesions, ``finetuned`` on them, or ``nnunet``, which
  is nnU-Net's own trainer, directly on them.
- *model*: one configuration at one stage.
- *split*: one random division of the CEL scans into training and test.
- *method*: a model as a table of the paper names it.

:mod:`study` and :mod:`models` are read by every job of the workflow and import neither
torch nor nnU-Net.
"""
