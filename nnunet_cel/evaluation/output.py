"""The folder that a command writes its results to."""

from nnunet_cel.files import new_folder as new_results

__all__ = ["new_results"]
