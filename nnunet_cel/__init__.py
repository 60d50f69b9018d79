"""Plug-in for nnU-Net v2 that segments brain lesions slice by slice in three planes.

nnU-Net finds the classes of this package by name (`nnunet_cel.discovery`), trains them
and predicts with them through its own commands.
To nnU-Net the model is a volume model; inside, it cuts the volume into 2.5D slices,
sends them through one 2D network and averages what comes back.

The words used everywhere, each for one thing:

case: one examination of one subject, the unit that nnU-Net names `CASE_0000.nii.gz`.
channel: one image of a case (FLAIR, T1, ...), the number behind the case's name.
fold: one of the splits into training and validation cases.
plans: the file in which the planner writes how a data set is preprocessed and trained.
configuration: one named entry of the plans, for example `2d`.
plane: sagittal, coronal or axial, named by the axis that it cuts.
slice: one 2D cut of a volume in one plane.
neighbor: a slice beside another one in the same plane.
stack: 2k + 1 neighboring slices of one plane, folded into the channel axis.
window: the S x S crop of a stack that training looks at.
lesion: one connected group of foreground voxels.
reference: the label map that experts drew.
prediction: the label map or the probabilities that a model computed.

This module imports nothing, because every start of Python loads it.
"""
