"""Weights that travel: files that hold no code, and checks of files from others.

nnU-Net loads checkpoints with pickle, which runs whatever code the file holds. This
package moves the weights of a model folder in files that cannot hold code, and reads
checkpoints without running any.

The words used here:

checkpoint: a file `checkpoint_*.pth` of nnU-Net, a zip file with a pickle inside.
model folder: what `nnUNetv2_predict` needs of a model, `plans.json`, `dataset.json` and
    folders `fold_X` with checkpoints.
export: a folder with `model.json` and one file `fold_X.safetensors` for each fold.
tied tensor: a tensor that a network holds under several names; files store it once.
"""
