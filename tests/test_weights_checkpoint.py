"""Checkpoints are read without running them, and strange ones are refused."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from test_weights_export import make_checkpoint, make_dataset, make_network, make_plans

from nnunet_cel.weights.checkpoint import read_checkpoint

ENTRIES = {"trainer_name": "FCADenseTrainer", "init_args": {"configuration": "2d"}}


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


class Evaluating(Evil):
    """Does the same with Python's own means."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.path)!r}, 'w')",)


def small(**changes: Any) -> dict[str, Any]:
    """Return the smallest checkpoint that can be read."""
    return {"network_weights": {"a": torch.arange(6.0)}, **ENTRIES, **changes}


def save(content: object, path: Path, **options: Any) -> Path:
    """Write a checkpoint."""
    torch.save(content, path, **options)
    return path


def rewrite(path: Path, change: Callable[[str, bytes], bytes], **options: Any) -> None:
    """Write a zip file again with changed members."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, change(name, content))


def test_checkpoint_of_a_trainer_is_read(tmp_path: Path) -> None:
    """Weights, names, axes and epochs are those that nnU-Net saved."""
    saved = make_checkpoint(make_network(make_plans(), make_dataset()))

    read = read_checkpoint(save(saved, tmp_path / "a checkpoint.pth"))

    assert list(read.weights) == list(saved["network_weights"])
    for name, tensor in saved["network_weights"].items():
        assert read.weights[name].dtype == tensor.dtype
        assert torch.equal(read.weights[name], tensor)
    assert (read.trainer, read.configuration) == ("FCADenseTrainer", "2d")
    assert (read.mirroring_axes, read.epochs) == ((0, 2), 7)
    assert read.dataset == make_dataset()
    assert read.entries == tuple(saved)


HIDING_PLACES: dict[str, Callable[[Any], Any]] = {
    "alone": lambda evil: evil,
    "in an entry": lambda evil: small(logging=[evil]),
    "in the weights": lambda evil: small(network_weights={"a": evil}),
    "as a key": lambda evil: small(logging={("a", evil): 1}),
    "in an array of objects": lambda evil: small(logging=np.array([evil], object)),
    "in a number": lambda evil: small(logging=_ObjectScalar(evil)),
    "beside a dict": lambda evil: _with_attribute(OrderedDict(small()), evil),
}


class _ObjectScalar:
    """Pickled as a number of numpy that is an object."""

    def __init__(self, evil: Evil) -> None:
        self.evil = evil

    def __reduce__(self) -> tuple[Any, ...]:
        scalar = np.float64(1).__reduce__()[0]
        return scalar, (np.dtype(object), self.evil)


def _with_attribute(dictionary: Any, evil: Evil) -> Any:
    dictionary.note = evil
    return dictionary


@pytest.mark.parametrize("kind", [Evil, Evaluating])
@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 4}])
@pytest.mark.parametrize("place", HIDING_PLACES)
def test_hidden_code_does_not_run(
    place: str, options: dict[str, Any], kind: type[Evil], tmp_path: Path
) -> None:
    """Wherever a call hides, it is named and not made; nnU-Net would make it."""
    touched = tmp_path / "touched"
    path = save(HIDING_PLACES[place](kind(touched)), tmp_path / "evil.pth", **options)

    with pytest.raises(ValueError, match=r"asks for .*(system|eval|STACK_GLOBAL)"):
        read_checkpoint(path)

    assert not touched.exists()


def test_hidden_code_would_have_run(tmp_path: Path) -> None:
    """The file that the other tests hide a call in is dangerous indeed."""
    touched = tmp_path / "touched"

    torch.load(save(small(a=Evil(touched)), tmp_path / "a.pth"), weights_only=False)

    assert touched.exists()


def test_old_format_is_refused(tmp_path: Path) -> None:
    """The format before torch 1.6, which nnU-Net never wrote, is not even opened."""
    touched = tmp_path / "touched"
    for content in (small(), small(logging=Evil(touched))):
        path = save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        with pytest.raises(ValueError, match="it is no zip file"):
            read_checkpoint(path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Evil(touched)))
    with pytest.raises(ValueError, match="it is no zip file"):
        read_checkpoint(plain)

    assert not touched.exists()


def test_allowances_of_others_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what other packages allow nor torch's variable opens the door."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = save(small(logging={1, 2, complex(1, 2)}), tmp_path / "a.pth")
    evil = save(small(logging=Evil(tmp_path / "touched")), tmp_path / "evil.pth")
    with torch.serialization.safe_globals([(os.system, "posix.system"), Evil]):
        before = torch.serialization.get_safe_globals()
        with pytest.raises(ValueError, match=r"'posix\.system'"):
            read_checkpoint(evil)
        with pytest.raises(ValueError, match=r"'.*\.complex', '.*\.set'"):
            read_checkpoint(path)
        read_checkpoint(save(small(), tmp_path / "good.pth"))
        assert set(torch.serialization.get_safe_globals()) == set(before)

    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds a list"),
        ({1: 2}, "it holds a dict, no dict with names"),
        ({"network_weights": {"a": torch.zeros(1)}}, "names no trainer"),
        (dict(ENTRIES), "it has no 'network_weights'"),
        (small(network_weights={}), "it has no 'network_weights'"),
        (small(network_weights={"a": 1}), "no tensor with a name"),
        (small(network_weights={1: torch.zeros(1)}), "no tensor with a name"),
        (
            small(network_weights={"a": torch.zeros(1).expand(10**6)}),
            "its tensors are larger than the file",
        ),
        (
            small(network_weights={"a": torch.zeros(2).to_sparse()}),
            "_rebuild_sparse_tensor",
        ),
        (small(inference_allowed_mirroring_axes="xyz"), "its mirroring axes are 'xyz'"),
    ],
)
def test_other_contents_are_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    """What is no checkpoint of nnU-Net is refused, and the message says why."""
    with pytest.raises(ValueError, match=message):
        read_checkpoint(save(content, tmp_path / "a.pth"))


def test_numbers_beyond_the_file_are_refused(tmp_path: Path) -> None:
    """A tensor that claims more numbers than the file holds reads no other memory."""
    path = save(small(network_weights={"a": torch.arange(4096.0)}), tmp_path / "a.pth")
    rewrite(path, lambda name, old: old[:8] if "/data/" in name else old)

    with pytest.raises(ValueError, match="torch says"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("a/data.pkl", "two members of one name|2 members data.pkl|has the member"),
        ("b/data.pkl", "has 2 members data.pkl"),
        ("a/constants.pkl", "has the member 'a/constants.pkl'"),
        ("a/code/x.py", "has the member"),
        ("../../x", "has the member"),
        ("/etc/passwd", "has the member"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_members_are_refused(extra: str, message: str, tmp_path: Path) -> None:
    """A zip file with members that torch does not write is refused."""
    path = save(small(), tmp_path / "a.pth")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(extra, b"")

    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    """A file of a few bytes cannot become one of many."""
    path = save(small(), tmp_path / "a.pth")
    rewrite(path, lambda name, old: old, compression=zipfile.ZIP_DEFLATED)

    with pytest.raises(ValueError, match="is compressed"):
        read_checkpoint(path)


def test_damaged_files_are_refused_or_read(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Cut or changed bytes end in a message that names the file, never elsewhere."""
    buffer = io.BytesIO()
    torch.save(small(logging=[np.float32(1)], optimizer_state=[torch.ones(3)]), buffer)
    whole = buffer.getvalue()
    path = tmp_path / "damaged.pth"
    refused = 0
    for attempt in range(300):
        damaged = bytearray(whole)
        if attempt % 3 == 0:
            damaged = damaged[: int(rng.integers(len(whole)))]
        else:
            for position in rng.integers(len(whole), size=1 + attempt % 4):
                damaged[position] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)  # noqa: PT017  either end is right

    assert refused > 100


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is an error of the system."""
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        read_checkpoint(tmp_path / "nothing.pth")


def test_old_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch whose ``weights_only`` runs code all the same is not trusted."""
    monkeypatch.setattr("nnunet_cel.weights.checkpoint._OLDEST_TORCH", Version("99"))

    with pytest.raises(ImportError, match="install a newer torch"):
        read_checkpoint(save(small(), tmp_path / "a.pth"))
