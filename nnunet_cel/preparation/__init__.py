"""From images as the scanner made them to images that the model is trained on.

The steps of the paper's section "Data preprocessing": brain extraction, and voxels of
1 mm; bias correction and denoising on request. And the way back: a prediction on the
prepared image becomes a label map on the original one.
"""
