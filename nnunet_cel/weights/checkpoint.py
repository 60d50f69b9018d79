"""Reads checkpoints of nnU-Net without running what they hold.

Two fences, one behind the other: a list of all functions and classes that the pickle
inside the file asks for is compared with those that nnU-Net's checkpoints need, before
anything is loaded; then torch loads the file with ``weights_only=True``. Numbers of
numpy, of which nnU-Net's training log is made, are rebuilt by the two small stand-ins
below, not by numpy.

The file is mapped into memory, not read: the optimizer's state, two thirds of a
checkpoint, is never touched, and torch cannot be told to read beyond its end.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packaging.version import Version
from torch import Tensor

__all__ = ["ALLOWED_GLOBALS", "Checkpoint", "read_checkpoint"]

_STORAGES = (
    *("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int"),
    *("Long", "Short"),
)
_NUMPY_SCALARS = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")

ALLOWED_GLOBALS = frozenset(
    {
        "_codecs.encode",  # how pickle writes bytes
        "collections.OrderedDict",
        "numpy.dtype",
        "torch.device",
        "torch._utils._rebuild_tensor_v2",
        *(f"torch.{name}Storage" for name in _STORAGES),
        *_NUMPY_SCALARS,
    }
)
"""The functions and classes that checkpoints of nnU-Net 2.8 are made of."""

# BINPERSID stands for the tensors' storages; what else could name a function, or build
# an object of a class without naming it, is refused
_OTHER_WAYS_TO_CODE = {
    *("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"),
    *("PERSID", "NEXT_BUFFER", "READONLY_BUFFER"),
}
_MEMBER = re.compile(
    r"[^/\\]+/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id|data/[0-9]+)"
)
_LARGEST_PICKLE = 64 << 20  # bytes; nnU-Net's have some 100 kB
_MOST_MEMBERS = 1_000_000
_OLDEST_TORCH = Version("2.6")  # CVE-2025-32434: weights_only did not hold before


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says about a model.

    Args:
        weights: The network's tensors by name, on the CPU, as they were trained.
        trainer: Name of the trainer's class.
        configuration: Name of the configuration in the plans.
        mirroring_axes: Axes along which predictions are mirrored, None for none.
        epochs: Epochs that were trained, None if the file does not say.
        dataset: The data set's ``dataset.json`` as it is in the checkpoint, if it is.
        entries: Names of all entries of the checkpoint.
    """

    weights: Mapping[str, Tensor]
    trainer: str
    configuration: str
    mirroring_axes: tuple[int, ...] | None
    epochs: int | None
    dataset: Any
    entries: tuple[str, ...]


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint; its tensors stay in the file until they are used.

    Raises:
        ImportError: If torch is too old to load files without running them.
        OSError: If the file cannot be read.
        ValueError: If the file is not what nnU-Net's checkpoints are, above all if it
            asks for a function or class that these do not need. The message names it.
    """
    if Version(torch.__version__) < _OLDEST_TORCH:
        raise ImportError(
            "Checkpoints must be inspected with torch 2.6 or newer: earlier versions "
            f"do not keep them from running code. Got {torch.__version__}: install a "
            "newer torch."
        )
    path = Path(path)
    _check_archive(path)
    try:
        with _only_our_globals():
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:
        # hostile bytes make torch raise almost anything
        raise _refusal(path, f"torch says: {str(error).splitlines()[:1]}") from error
    return _understand(content, path)


def _refusal(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"The checkpoint {path} must hold what nnU-Net's checkpoints hold and nothing "
        f"else. It was not loaded: {reason}. Do not load it by other means unless you "
        "know who wrote it; ask for an export ('nnunet-cel weights export') instead."
    )


def _check_archive(path: Path) -> None:
    """Refuse a file that is no plain zip file, or whose pickle asks for too much."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start != b"PK\x03\x04":
        raise _refusal(
            path, "it is no zip file, which torch writes since 1.6, but begins with "
            f"{start!r}"
        )  # fmt: skip
    with _damage(path, "zip file"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    name = _check_members(path, members)
    with _damage(path, "zip file"), zipfile.ZipFile(path) as archive:
        content = archive.read(name)
    _check_globals(path, content)


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    """Turn whatever damaged bytes make a library raise into a refusal."""
    try:
        yield
    except Exception as error:
        raise _refusal(path, f"the {what} is damaged ({error!r:.200})") from error


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> str:
    """Refuse members that torch does not write; return the name of the pickle."""
    if len(members) > _MOST_MEMBERS:
        raise _refusal(path, f"it has {len(members)} members")
    for member in members:
        if not _MEMBER.fullmatch(member.filename):
            raise _refusal(path, f"it has the member {member.filename!r}")
        if member.compress_type != zipfile.ZIP_STORED:
            # torch never compresses: a few bytes could become many
            raise _refusal(path, f"its member {member.filename!r} is compressed")
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise _refusal(path, "it has two members of one name")
    pickles = [m for m in members if m.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _refusal(path, f"it has {len(pickles)} members data.pkl")
    if pickles[0].file_size > _LARGEST_PICKLE:
        raise _refusal(path, f"its pickle has {pickles[0].file_size} bytes")
    return pickles[0].filename


def _check_globals(path: Path, content: bytes) -> None:
    asked: set[str] = set()
    end = 0
    with _damage(path, "pickle inside"):
        for operation, argument, position in pickletools.genops(content):
            if operation.name == "GLOBAL":
                asked.add(str(argument).replace(" ", "."))
            elif operation.name in _OTHER_WAYS_TO_CODE:
                asked.add(f"the operation {operation.name}")
            end = (position or 0) + 1
    unknown = sorted(asked - ALLOWED_GLOBALS)
    if unknown:
        raise _refusal(path, f"it asks for {', '.join(map(repr, unknown[:5]))}")
    if end != len(content):
        raise _refusal(path, "its pickle goes on after its end")


@contextmanager
def _only_our_globals() -> Iterator[None]:
    """Let torch know the stand-ins, and nothing that other packages have added."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(
        [(_Dtype, "numpy.dtype"), *((_scalar, name) for name in _NUMPY_SCALARS)]
    )
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


class _Dtype:
    """Stands in for ``numpy.dtype``, of which it knows plain numbers only."""

    def __init__(
        self, code: object, align: object = False, copy: object = True
    ) -> None:
        if not isinstance(code, str) or not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise pickle.UnpicklingError(f"numpy.dtype({code!r}) is no plain number")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        """Take no state: byte order is little endian, as on all machines we know."""


def _scalar(dtype: object, content: object) -> Any:
    """Stand in for numpy's function that rebuilds a number; return one of Python's."""
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("a number of numpy must be a type and bytes")
    if len(content) != dtype.dtype.itemsize:
        raise pickle.UnpicklingError("a number of numpy must have as many bytes")
    return np.frombuffer(content, dtype.dtype)[0].item()


def _understand(content: Any, path: Path) -> Checkpoint:
    if type(content) is not dict or not all(isinstance(key, str) for key in content):
        raise _refusal(path, f"it holds a {type(content).__name__}, no dict with names")
    initial = content.get("init_args")
    initial = initial if isinstance(initial, dict) else {}
    trainer, configuration = content.get("trainer_name"), initial.get("configuration")
    if not isinstance(trainer, str) or not isinstance(configuration, str):
        raise _refusal(path, "it names no trainer and configuration")
    epochs = content.get("current_epoch")
    return Checkpoint(
        weights=_check_weights(content.get("network_weights"), path),
        trainer=trainer,
        configuration=configuration,
        mirroring_axes=_axes(content.get("inference_allowed_mirroring_axes"), path),
        epochs=epochs if type(epochs) is int else None,
        dataset=initial.get("dataset_json"),
        entries=tuple(content),
    )


def _axes(value: Any, path: Path) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(
        type(axis) is int for axis in value
    ):
        raise _refusal(path, f"its mirroring axes are {value!r:.80}")
    return tuple(value)


def _check_weights(weights: Any, path: Path) -> Mapping[str, Tensor]:
    """Refuse what is no dict of dense tensors that are as large as they claim."""
    if not isinstance(weights, dict) or not weights:
        raise _refusal(path, "it has no 'network_weights'")
    sizes: dict[tuple[int, int], int] = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or type(tensor) is not Tensor:
            raise _refusal(path, f"its weights {name!r:.80} are no tensor with a name")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise _refusal(path, f"its tensor {name!r:.80} is not dense")
        sizes[tensor.data_ptr(), tensor.numel()] = (
            tensor.numel() * tensor.element_size()
        )
    # a tensor with a stride of 0 could claim any shape
    if sum(sizes.values()) > path.stat().st_size:
        raise _refusal(path, "its tensors are larger than the file")
    return weights
