"""Makes nnU-Net find the classes of this package by their names.

nnU-Net looks a class up by name inside its own folders, with the function
`recursive_find_python_class` of `nnunetv2.utilities.find_class_by_name`.
A `.pth` file beside the package imports this module whenever Python starts, also in
the worker processes that nnU-Net spawns. `install` then puts one finder on
`sys.meta_path`. The finder does nothing until that one module of nnU-Net is imported,
and then wraps that one function: the names in `CLASSES` are answered from the table,
every other name goes to the original with all its arguments.

The environment variable `NNUNET_CEL_DISABLE=1` switches this off.

Every Python process in the environment pays for this module, so it imports nothing
but `sys` and `os`, which are loaded by then anyway. For the same reason there is no
`from __future__ import annotations`: that, too, would be an import.
"""

import os
import sys

# What `typing.TYPE_CHECKING` is, without the import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["CLASSES", "DISABLE_VARIABLE", "install"]

CLASSES: "dict[str, str]" = {
    "FCADenseTrainer": "nnunet_cel.training.trainer",
    "FCADensePlanner": "nnunet_cel.planning.planner",
    "FCADensePreprocessor": "nnunet_cel.planning.preprocessor",
    "KDELastPeakNormalization": "nnunet_cel.planning.normalization",
    "KDEHighestPeakNormalization": "nnunet_cel.planning.normalization",
    # plans made by earlier versions name these, which were these classes of nnU-Net
    "WholeSimpleITKIO": "nnunetv2.imageio.simpleitk_reader_writer:SimpleITKIO",
    "WholeSimpleITKIOWithReorient": (
        "nnunetv2.imageio.simpleitk_reader_writer:SimpleITKIOWithReorient"
    ),
    "WholeNibabelIO": "nnunetv2.imageio.nibabel_reader_writer:NibabelIO",
    "WholeNibabelIOWithReorient": (
        "nnunetv2.imageio.nibabel_reader_writer:NibabelIOWithReorient"
    ),
}
"""Name of each class that nnU-Net can ask for, and the module that defines it.

A colon comes before the name that the class has there, if it is another one.
"""

DISABLE_VARIABLE = "NNUNET_CEL_DISABLE"

_MODULE = "nnunetv2.utilities.find_class_by_name"
_FUNCTION = "recursive_find_python_class"


def install() -> None:
    """Put the finder in place, once; do nothing where it is switched off."""
    disabled = os.environ.get(DISABLE_VARIABLE, "") not in ("", "0")
    if not disabled and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds one module, through the other finders, and has it wrapped when loaded."""

    def find_spec(
        self,
        fullname: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        """Return the spec of nnU-Net's lookup module, None for any other name."""
        if fullname != _MODULE:
            return None
        # Those before this one have been asked.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec: ModuleSpec | None = finder.find_spec(fullname, path, target)
            if spec is not None:
                _wrap_when_loaded(spec.loader)
                return spec
        return None


def _wrap_when_loaded(loader: "Any") -> None:
    """Have the lookup function wrapped by the loader, when it has filled the module."""
    load = loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        # From here on the loader is as if it had never met this function.
        del loader.exec_module
        load(module)
        original = getattr(module, _FUNCTION, None)
        if original is not None:  # else it is another nnU-Net, and `doctor` tells
            setattr(module, _FUNCTION, _answer_first(original))

    loader.exec_module = exec_module


def _answer_first(original: "Callable[..., Any]") -> "Callable[..., Any]":
    """Return `original` with the names of `CLASSES` answered before it is asked."""

    def recursive_find_python_class(
        folder: str, class_name: str, *args: "Any", **kwargs: "Any"
    ) -> "Any":
        if class_name in CLASSES and _is_inside_nnunet(folder):
            name, _, attribute = CLASSES[class_name].partition(":")
            __import__(name)
            return getattr(sys.modules[name], attribute or class_name)
        return original(folder, class_name, *args, **kwargs)

    recursive_find_python_class.__doc__ = original.__doc__
    recursive_find_python_class.__module__ = original.__module__
    recursive_find_python_class.__qualname__ = original.__qualname__
    return recursive_find_python_class


def _is_inside_nnunet(folder: str) -> bool:
    """Return whether nnU-Net searches in itself, not in a user's folder."""
    package = sys.modules.get("nnunetv2")
    inside = os.path.abspath(folder) + os.sep
    return any(
        inside.startswith(os.path.abspath(root) + os.sep)
        for root in getattr(package, "__path__", ())
    )


install()
