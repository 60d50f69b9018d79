"""Imports give back the weights, and refuse whatever is not an export."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from safetensors.torch import load_file, save_file
from test_weights_export import UNET, make_dataset, make_model, make_network, make_plans

from nnunet_cel.weights.checkpoint import read_checkpoint
from nnunet_cel.weights.export import export_weights
from nnunet_cel.weights.rebuild import import_weights

FILE = "fold_0.safetensors"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """An export of a small model."""
    export_weights(make_model(tmp_path / "model"), tmp_path / "an export")
    return tmp_path / "an export"


def load(folder: Path, fold: str = "0") -> dict[str, Any]:
    """Return a checkpoint as nnU-Net loads it."""
    path = folder / f"fold_{fold}" / "checkpoint_final.pth"
    checkpoint: dict[str, Any] = torch.load(path, weights_only=False)
    return checkpoint


def confirm(export: Path) -> None:
    """Write size and hash of a changed file into the manifest, as a stranger would."""
    content = json.loads((export / "model.json").read_text())
    changed = (export / FILE).read_bytes()
    content["files"]["0"]["bytes"] = len(changed)
    content["files"]["0"]["sha256"] = hashlib.sha256(changed).hexdigest()
    (export / "model.json").write_text(json.dumps(content))


def edit(export: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    content = json.loads((export / "model.json").read_text())
    change(content)
    (export / "model.json").write_text(json.dumps(content))


@pytest.mark.parametrize("architecture", [None, UNET])
def test_round_trip_gives_the_same_weights(
    architecture: dict[str, Any] | None, tmp_path: Path
) -> None:
    """Every tensor of every fold comes back, in order, type and value."""
    model = make_model(tmp_path / "a", folds=("0", "all"), architecture=architecture)
    export_weights(model, tmp_path / "b")

    import_weights(tmp_path / "b", tmp_path / "c")

    for fold in ("0", "all"):
        before, after = load(model, fold), load(tmp_path / "c", fold)
        assert list(after["network_weights"]) == list(before["network_weights"])
        for name, tensor in before["network_weights"].items():
            assert after["network_weights"][name].dtype == tensor.dtype
            assert torch.equal(after["network_weights"][name], tensor)
        assert after["trainer_name"] == before["trainer_name"]
        assert after["inference_allowed_mirroring_axes"] == (0, 2)
    sizes = [
        (folder / "fold_0" / "checkpoint_final.pth").stat().st_size
        for folder in (model, tmp_path / "c")
    ]
    assert sizes[1] < sizes[0]


def test_import_is_the_same_every_time(export: Path, tmp_path: Path) -> None:
    """Two imports of one export do not differ in a byte, and are safe to inspect."""
    for name in ("first", "second"):
        import_weights(export, tmp_path / name)

    files = [p for p in (tmp_path / "first").rglob("*") if p.is_file()]
    assert len(files) == 3
    for file in files:
        other = tmp_path / "second" / file.relative_to(tmp_path / "first")
        assert file.read_bytes() == other.read_bytes()
    read_checkpoint(tmp_path / "first" / "fold_0" / "checkpoint_final.pth")


def test_second_export_is_the_first(export: Path, tmp_path: Path) -> None:
    """An export of an import is the export that it came from."""
    import_weights(export, tmp_path / "b")
    export_weights(tmp_path / "b", tmp_path / "c")

    for file in export.iterdir():
        assert file.read_bytes() == (tmp_path / "c" / file.name).read_bytes()


def test_predictor_of_nnunet_takes_the_model(export: Path, tmp_path: Path) -> None:
    """The predictor builds the network, and its output is that of the original."""
    import_weights(export / "model.json", tmp_path / "imported")
    volume = torch.rand(1, 1, 32, 32, 32, generator=torch.manual_seed(0))
    outputs = []
    for folder in (tmp_path / "model", tmp_path / "imported"):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        assert predictor.allowed_mirroring_axes == (0, 2)
        with torch.no_grad():
            outputs.append(predictor.network.eval()(volume))

    assert torch.equal(*outputs)


def test_pretrained_weights_of_nnunet_takes_the_checkpoint(
    export: Path, tmp_path: Path
) -> None:
    """-pretrained_weights loads the imported weights into a new network."""
    import_weights(export, tmp_path / "imported")
    network = make_network(make_plans(), make_dataset())

    path = tmp_path / "imported" / "fold_0" / "checkpoint_final.pth"
    load_pretrained_weights(network, str(path))

    trained = load(tmp_path / "model")["network_weights"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, trained[name])


def refuse(export: Path, message: str, **options: Any) -> None:
    """Check that an import is refused, and that nothing is left of it."""
    out = export.parent / "refused"
    with pytest.raises((ValueError, OSError), match=message):
        import_weights(export, out, **options)
    assert not [p for p in export.parent.iterdir() if "refused" in p.name]


def test_changed_weights_are_refused(export: Path) -> None:
    """One flipped bit is noticed."""
    content = bytearray((export / FILE).read_bytes())
    content[-1] ^= 1
    (export / FILE).write_bytes(content)

    refuse(export, "size and SHA-256 of .*fold_0.safetensors must be")


def test_changed_manifest_is_refused_if_its_hash_is_known(export: Path) -> None:
    """With the hash from the author nobody in between can change anything."""
    right = hashlib.sha256((export / "model.json").read_bytes()).hexdigest()
    import_weights(export, export.parent / "out", sha256_of_manifest=right.upper())
    edit(export, lambda content: content.update(mirroring_axes=None))

    refuse(export, "not the export that its author meant", sha256_of_manifest=right)


def test_other_files_are_refused(export: Path) -> None:
    """What the manifest does not name could be what somebody runs later."""
    (export / "checkpoint_final.pth").write_bytes(b"")
    refuse(export, r"'.*checkpoint_final\.pth' is not named")


def test_folders_and_links_are_refused(export: Path) -> None:
    """A link could make the import read, and publish, another file."""
    (export / "sub").mkdir()
    refuse(export, "'.*sub' is a link or a folder")
    (export / "sub").rmdir()
    (export / FILE).rename(export.parent / "elsewhere")
    (export / FILE).symlink_to(export.parent / "elsewhere")
    refuse(export, "is a link or a folder")
    (export / FILE).unlink()
    os.mkfifo(export / FILE)
    refuse(export, "is a link or a folder")


def test_missing_files_are_named(export: Path, tmp_path: Path) -> None:
    """Folders without manifest or weights are no exports."""
    (export / FILE).unlink()
    refuse(export, f"must have the file {FILE}")
    (export / "model.json").unlink()
    refuse(export, r"must have the file model\.json")
    refuse(tmp_path / "model" / "fold_0" / "checkpoint_final.pth", "must be a folder")


def test_existing_model_folder_is_not_replaced(export: Path, tmp_path: Path) -> None:
    """A model that is there stays as it is."""
    before = load(tmp_path / "model")["current_epoch"]

    with pytest.raises(FileExistsError, match="not replaced"):
        import_weights(export, tmp_path / "model")

    assert load(tmp_path / "model")["current_epoch"] == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["plans"]["configurations"]["2d"]["architecture"].update(
                network_class_name="antigravity.fly"
            ),
            "network_class_name",
        ),
        (lambda c: c.update(trainer="nnUNetTrainerEvil"), "trainer must be"),
        (lambda c: c["tensors"].pop("network.head.bias"), "head.bias' is missing"),
        (
            lambda c: c["tensors"].update(more={"shape": [1], "dtype": "float32"}),
            "'more' is unknown",
        ),
        (
            lambda c: c["tensors"]["network.head.bias"].update(shape=[2**31]),
            r"shape \(2147483648,\), not \(2,\)",
        ),
        (
            lambda c: c["tensors"]["network.head.bias"].update(dtype="int64"),
            "is of torch.int64, not torch.float32",
        ),
        (
            lambda c: c["tensors"]["network.head.bias"].update(dtype="float16"),
            "must be of float16. Got float32",
        ),
        (
            lambda c: c["dataset"]["labels"].update(second=2),
            r"has shape \(2, .*, not \(3, ",
        ),
        (
            lambda c: c["files"].update({"1": c["files"]["0"]}),
            "must have the file fold_1.safetensors",
        ),
    ],
)
def test_manifest_must_fit_weights_and_network(
    change: Callable[[dict[str, Any]], object], message: str, export: Path
) -> None:
    """Names, shapes and types are those of file and network alike."""
    edit(export, change)

    refuse(export, message)


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header, content[8 + length :]


def _with_header(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    header, rest = _header(content)
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


BIAS, WEIGHT = "network.head.bias", "network.head.weight"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda c: b"",
    "cut in the length": lambda c: c[:5],
    "cut in the header": lambda c: c[:50],
    "cut in the numbers": lambda c: c[:-7],
    "longer": lambda c: c + b"0" * 64,
    "header without an end": lambda c: struct.pack("<Q", 2**63) + c[8:],
    "header of 99 MB": lambda c: struct.pack("<Q", 99 << 20) + c[8:],
    "header no JSON": lambda c: c[:8] + b"\x00" * (len(c) - 8),
    "deep header": lambda c: struct.pack("<Q", 10**5) + b"[" * 10**5 + c,
    "overlapping": lambda c: _with_header(
        c, lambda h: h[BIAS].update(data_offsets=[0, 8])
    ),
    "outside": lambda c: _with_header(
        c, lambda h: h[BIAS].update(data_offsets=[2**40, 2**40 + 8])
    ),
    "backward": lambda c: _with_header(
        c, lambda h: h[BIAS].update(data_offsets=[8, 0])
    ),
    "shape larger than its numbers": lambda c: _with_header(
        c, lambda h: h[BIAS].update(shape=[2**40])
    ),
    "shape that overflows": lambda c: _with_header(
        c, lambda h: h[BIAS].update(shape=[2**63, 2**63])
    ),
    "negative shape": lambda c: _with_header(c, lambda h: h[BIAS].update(shape=[-2])),
    "other shape": lambda c: _with_header(c, lambda h: h[BIAS].update(shape=[1, 2])),
    "unknown type": lambda c: _with_header(c, lambda h: h[BIAS].update(dtype="OBJ")),
    "other type": lambda c: _with_header(c, lambda h: h[BIAS].update(dtype="I32")),
    "other name": lambda c: _with_header(c, lambda h: h.update(other=h.pop(BIAS))),
    "metadata": lambda c: _with_header(c, lambda h: h.update(__metadata__={"a": "b"})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_hostile_safetensors_are_refused(damage: str, export: Path) -> None:
    """Headers that lie end in a message that names the file."""
    path = export / FILE
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    confirm(export)

    refuse(export, "'files'" if damage == "empty" else "fold_0.safetensors")


def test_random_damage_is_refused_or_changes_numbers_only(
    export: Path, rng: np.random.Generator, tmp_path: Path
) -> None:
    """Flipped bytes with a right hash: a message, or the same names and shapes."""
    whole = (export / FILE).read_bytes()
    shapes = {name: tensor.shape for name, tensor in load_file(export / FILE).items()}
    for attempt in range(20):
        damaged = bytearray(whole)
        for position in rng.integers(8 if attempt % 2 else len(whole), size=2):
            damaged[position] = int(rng.integers(256))
        (export / FILE).write_bytes(damaged)
        confirm(export)
        out = tmp_path / f"out_{attempt}"
        try:
            import_weights(export, out)
        except ValueError as error:
            assert FILE in str(error)  # noqa: PT017  both ends are right
        else:
            weights = load(out)["network_weights"]
            assert {name: tensor.shape for name, tensor in weights.items()} == shapes


def test_infinite_weights_are_refused(export: Path) -> None:
    """Weights of which no prediction can be made are not imported."""
    weights = load_file(export / FILE)
    weights[WEIGHT].flatten()[0] = float("inf")
    save_file(weights, export / FILE)
    confirm(export)

    refuse(export, "'network.head.weight' in .* has NaN or infinity")
