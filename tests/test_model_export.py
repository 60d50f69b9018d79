"""Weights travel whole, as files that hold no code; whoever hides code is refused.

Most tests change the model of an earlier version in ``data/earlier_model``. The same
version exported ``data/earlier_export``, a U-Net, whose library holds most tensors
under two names.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from safetensors.torch import load_file, save_file

from nnunet_cel import cli
from nnunet_cel.files import sha256
from nnunet_cel.model_export import read_checkpoint, read_manifest

DATA = Path(__file__).parent / "data"
SECRET = "ERIKA_MUSTERMANN"
FINAL = "checkpoint_final.pth"
FILE = "fold_0.safetensors"
BIAS = "network.head.bias"
KWARGS = ("configurations", "2d", "architecture", "arch_kwargs")

Change = Callable[[dict[str, Any]], object]
Output = pytest.CaptureFixture[str]


def call(*arguments: str | Path) -> int:
    """Run `nnunet-cel weights`."""
    return cli.main(["weights", *map(str, arguments)])


def load(folder: Path, fold: str = "0") -> dict[str, Any]:
    """Return a checkpoint as nnU-Net loads it."""
    path = folder / f"fold_{fold}" / FINAL
    checkpoint: dict[str, Any] = torch.load(path, weights_only=False)
    return checkpoint


def put(value: object, *place: str) -> Change:
    """Return a change of one entry."""

    def how(content: dict[str, Any]) -> None:
        functools.reduce(dict.__getitem__, place[:-1], content)[place[-1]] = value

    return how


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with one fold, which names a patient where people might."""
    folder = tmp_path / "a model"
    shutil.copytree(DATA / "earlier_model", folder)
    heir = {"inherits_from": "2d", "batch_size": 7, "comment": SECRET}
    edit(folder / "plans.json", put(heir, "configurations", "2d_heir"))
    edit(folder / "plans.json", put(SECRET, "note"))
    edit(folder / "dataset.json", put([f"/home/{SECRET}/a.nii.gz"], "dataset"))
    change(folder, lambda c: c.update(inference_allowed_mirroring_axes=(0, 2)))
    change(folder, lambda c: c["init_args"].update(plans={"note": SECRET}))
    return folder


@pytest.fixture
def export(model: Path, tmp_path: Path) -> Path:
    """An export of it."""
    assert call("export", model, tmp_path / "an export") == 0
    return tmp_path / "an export"


def change(model: Path, how: Change, fold: str = "0") -> None:
    """Change the checkpoint of a model."""
    checkpoint = load(model, fold)
    how(checkpoint)
    torch.save(checkpoint, model / f"fold_{fold}" / FINAL)


def edit(path: Path, how: Change) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def test_round_trip_gives_the_same_weights(model: Path, tmp_path: Path) -> None:
    """A second export has the same bytes; what people write into files stays behind."""
    change(model, lambda c: c["init_args"].update(configuration="2d_heir"))
    edit(model / "plans.json", put(f"/home/{SECRET}", *KWARGS, "pretrained_file"))
    shutil.copytree(model / "fold_0", model / "fold_all")
    assert SECRET.encode() in (model / "fold_all" / FINAL).read_bytes()
    change(model, lambda c: c["network_weights"][BIAS].fill_(2), "all")

    assert call("export", model, tmp_path / "b") == 0
    assert call("import", tmp_path / "b", tmp_path / "c") == 0
    assert call("export", tmp_path / "c", tmp_path / "d") == 0

    for fold in ("0", "all"):
        before, after = load(model, fold), load(tmp_path / "c", fold)
        assert list(after["network_weights"]) == list(before["network_weights"])
        torch.testing.assert_close(
            after["network_weights"], before["network_weights"], rtol=0, atol=0
        )
        assert after["inference_allowed_mirroring_axes"] == [0, 2]
    for name in ("fold_0.safetensors", "fold_all.safetensors", "model.json"):
        content = (tmp_path / "b" / name).read_bytes()
        assert content == (tmp_path / "d" / name).read_bytes()
        assert SECRET.encode() not in content
        assert str(tmp_path).encode() not in content
    plans = read_manifest(tmp_path / "b" / "model.json").plans
    (entry,) = plans.configurations.values()
    assert (entry.batch_size, entry.patch_size) == (7, [32, 32, 32])


def test_exports_of_earlier_versions_are_imported(tmp_path: Path) -> None:
    """Its numbers arrive under all their names, and leave again in the same bytes."""
    old = DATA / "earlier_export"

    assert call("import", old, tmp_path / "in") == 0
    assert call("export", tmp_path / "in", tmp_path / "out") == 0

    stored, weights = load_file(old / FILE), load(tmp_path / "in")["network_weights"]
    torch.testing.assert_close({n: weights[n] for n in stored}, stored, rtol=0, atol=0)
    assert len(weights) > len(stored)
    assert (tmp_path / "out" / FILE).read_bytes() == (old / FILE).read_bytes()
    before, after = (read_manifest(f / "model.json") for f in (old, tmp_path / "out"))
    assert before.plans == after.plans


def test_predictor_of_nnunet_takes_the_import(
    model: Path, export: Path, tmp_path: Path
) -> None:
    """The output is that of the original."""
    assert call("import", export / "model.json", tmp_path / "in") == 0
    volume = torch.rand(1, 1, 32, 32, 32, generator=torch.manual_seed(0))

    outputs = []
    for folder in (model, tmp_path / "in"):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        assert list(predictor.allowed_mirroring_axes) == [0, 2]
        with torch.inference_mode():
            outputs.append(predictor.network.eval()(volume))

    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda c: c["network_weights"][BIAS].fill_(torch.nan), f"'{BIAS}' has NaN"),
        (lambda c: c["network_weights"].pop(BIAS), "Missing key"),
        (lambda c: c.update(trainer_name="nnUNetTrainerX"), "trainer nnUNetTrainerX"),
        (lambda c: c["init_args"].update(configuration="n9"), "n9 not found in plans"),
    ],
)
def test_unusable_checkpoints_are_refused(
    how: Change, message: str, model: Path, capsys: Output
) -> None:
    """Weights that do not fit the plans are not exported, and nothing is left."""
    change(model, how)

    assert call("export", model, model.parent / "out") == 1

    assert message in capsys.readouterr().err
    assert [entry.name for entry in model.parent.iterdir()] == [model.name]


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def small(**changes: Any) -> dict[str, Any]:
    """Return the smallest checkpoint that can be read."""
    return {
        "network_weights": {"a": torch.arange(6.0)},
        "trainer_name": "FCADenseTrainer",
        "init_args": {"configuration": "2d"},
    } | changes


@pytest.mark.parametrize("hide", [list, lambda evil: np.array(evil, object)])
def test_hidden_code_is_named_and_does_not_run(
    hide: Callable[[list[Evil]], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a list or in an array of objects; nnU-Net would run it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    touched, path = tmp_path / "touched", tmp_path / "evil.pth"
    torch.save(small(logging=hide([Evil(touched)])), path)

    with pytest.raises(ValueError, match=r"asks for .*posix\.system'"):
        read_checkpoint(path)

    assert not touched.exists()
    torch.load(path, weights_only=False)
    assert touched.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "was not loaded"),
        (small(network_weights={"a": 1}), "network_weights"),
        (small(init_args={}), "configuration"),
    ],
)
def test_other_contents_are_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    """What is no checkpoint of nnU-Net is refused, and the message says why."""
    torch.save(content, tmp_path / "a.pth")

    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (put(2, "version"), "'version'"),
        (put("os", "trainer"), "'trainer'"),
        (put("nnUNetTrainerEvil", "trainer"), "trainer nnUNetTrainerEvil"),
        (put({"sha256": ""}, "files", "../0"), "Got '../0'"),
        (put({"sha256": ""}, "files", "1"), "fold_1.safetensors"),
        (put("0" * 64, "files", "0", "sha256"), "SHA-256 of "),
        (put("/../x", "dataset", "file_ending"), "file_ending"),
        (put(2, "dataset", "labels", "second"), "size mismatch"),
        (put("../x", "plans", "dataset_name"), "dataset_name"),
        (put([float("nan")], "plans", *KWARGS[:2], "spacing"), "finite number"),
        *(
            (put(name, "plans", *KWARGS[:3], "network_class_name"), "network_class_")
            for name in ("os.system", "nnunet_cel.cli.main", "antigravity")
        ),
        *(
            (put(name, "plans", *KWARGS, "dropout_op"), "must import layers of torch")
            for name in ("torch.hub.load", "torch.nn.Dropout2d.__init__")
        ),
    ],
)
def test_hostile_manifests_are_refused(
    how: Change, message: str, export: Path, tmp_path: Path, capsys: Output
) -> None:
    """One bad entry is enough; nothing is imported by its name, and nothing left."""
    edit(export / "model.json", how)

    assert call("import", export, tmp_path / "in") == 1

    assert message in capsys.readouterr().err
    assert not (tmp_path / "in").exists()


def test_other_weights_are_refused(
    export: Path, tmp_path: Path, capsys: Output
) -> None:
    """Numbers are looked at even where the hash is right."""
    stored = load_file(export / FILE)
    save_file(stored | {BIAS: torch.full((2,), torch.inf)}, export / FILE)
    edit(export / "model.json", put(sha256(export / FILE), "files", "0", "sha256"))

    assert call("import", export, tmp_path / "in") == 1

    assert "has NaN or infinity" in capsys.readouterr().err
    assert not (tmp_path / "in").exists()


def test_commands(model: Path, tmp_path: Path, capsys: Output) -> None:
    """They say what they wrote and what comes next, and replace nothing unasked."""
    out = tmp_path / "out"
    assert call("export", model, out, "-f", "0") == 0
    printed = capsys.readouterr().out
    assert "fold 0 (FCADenseTrainer, 2d)" in printed
    digest = printed.split()[-1]
    assert call("export", model, out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert call("export", model, out, "--overwrite") == 0

    assert call("import", out, model) == 1
    assert "not replaced" in capsys.readouterr().err
    assert load(model)["current_epoch"] == 4
    assert call("import", out, tmp_path / "no", "--sha256", "0" * 64) == 1
    assert "its author meant" in capsys.readouterr().err
    assert call("import", out, tmp_path / "in here", "--sha256", digest.upper()) == 0
    printed = capsys.readouterr().out
    assert f"-m '{tmp_path / 'in here'}' -f 0 " in printed


def test_inspect(model: Path, capsys: Output) -> None:
    """The table says what the file holds; other plans end in status 1."""
    file, plans = model / "fold_0" / FINAL, model / "plans.json"
    change(model, lambda c: c["network_weights"].update({"\x1b[31mred": torch.ones(1)}))

    assert call("inspect", file, "--plans", plans, "--tensors") == 1

    printed, error = capsys.readouterr()
    assert "those of the network" in error
    assert "\x1b" not in printed
    assert f"'{BIAS}' float32 [2]" in printed.splitlines()

    change(model, lambda c: c["network_weights"].popitem())
    assert call("inspect", file, "--plans", plans) == 0
    lines = capsys.readouterr().out.splitlines()
    assert dict(line.split(maxsplit=1) for line in lines) == {
        "trainer": "FCADenseTrainer",
        "configuration": "2d",
        "epochs": "4",
        "mirroring": "axes  0, 2",
        "tensors": "42",
        "parameters": "704",
        "fits": "the plans  yes",
    }
