"""Report: an evaluation as a page to look at, and as files for other programs.

*Results* are what `nnunet-cel evaluate` wrote, read back. A *chart* is a drawing of
numbers, a *picture* one of a lesion. *Agreement* is at each voxel whether the
prediction is true positive, false positive or false negative.

Nothing here imports torch or nnU-Net.
"""
