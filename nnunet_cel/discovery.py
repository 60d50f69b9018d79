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

__all__ = ["CLASSES", "DISABLE_VARIABLE", "install", "is_active"]

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
_ORIGINAL = "_nnunet_cel_original"  # marks the function that stands in for theirs


def install() -> None:
    """Put the finder in place, once; do nothing where it is switched off."""
    if os.environ.get(DISABLE_VARIABLE, "") not in ("", "0"):
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    module = sys.modules.get(_MODULE)
    if module is not None:
        _wrap_late(module)


def is_active() -> bool:
    """Return whether nnU-Net finds, or will find, our classes in this process."""
    module = sys.modules.get(_MODULE)
    if module is not None:
        return hasattr(getattr(module, _FUNCTION, None), _ORIGINAL)
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


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
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # a stand-in, see there
                return spec
        return None


class _Loader:
    """Stands in for a module's loader until the module is loaded.

    It is no subclass of `importlib.abc.Loader`: importing that costs more than all the
    rest of this module.
    """

    def __init__(self, loader: "Any") -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        """Let the real loader create the module."""
        create: Callable[[ModuleSpec], ModuleType | None] | None
        create = getattr(self._loader, "create_module", None)
        return None if create is None else create(spec)

    def exec_module(self, module: "ModuleType") -> None:
        """Let the real loader fill the module, then wrap the lookup function."""
        # From here on the module looks as if it had never met this class.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _wrap(module)


def _wrap(module: "ModuleType") -> None:
    """Replace the lookup function of `module`, if it has one."""
    found = getattr(module, _FUNCTION, None)
    if found is None:  # another nnU-Net than the supported ones: `doctor` tells
        return
    setattr(module, _FUNCTION, _answer_first(getattr(found, _ORIGINAL, found)))


def _wrap_late(module: "ModuleType") -> None:
    """Replace the lookup function, also where nnU-Net's modules took hold of it."""
    before = getattr(module, _FUNCTION, None)
    _wrap(module)
    for name, other in list(sys.modules.items()):
        # Through __dict__, because a lazy module would load itself when asked.
        held = getattr(other, "__dict__", {}).get(_FUNCTION)
        if name.startswith("nnunetv2.") and held is not None and held is before:
            setattr(other, _FUNCTION, getattr(module, _FUNCTION))


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
    setattr(recursive_find_python_class, _ORIGINAL, original)
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
