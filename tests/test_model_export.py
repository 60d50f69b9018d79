"""Weights travel whole, as files that hold no code; whoever hides code is refused.

Most tests change the model of an earlier version in ``data/earlier_model``. The same
version exported ``data/earlier_export``, a U-Net, whose library holds most tensors
under two names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from safetensors.torch import load_file, save_file

from nnunet_cel import cli
from nnunet_cel.model_export import read_checkpoint, read_manifest

DATA = Path(__file__).parent / "data"
SECRET = "ERIKA_MUSTERMANN"
FINAL = "checkpoint_final.pth"
FILE = "fold_0.safetensors"
BIAS = "network.head.bias"

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


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with one fold, which names a patient where people might."""
    folder = tmp_path / "a model"
    shutil.copytree(DATA / "earlier_model", folder)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d"]["comment"] = SECRET
    architecture = plans["configurations"]["2d"]["architecture"]
    arguments = architecture["arch_kwargs"] | {"pretrained_file": f"/home/{SECRET}"}
    plans["configurations"]["2d_heir"] = {
        "inherits_from": "2d",
        "batch_size": 7,
        "architecture": architecture | {"arch_kwargs": arguments},
    }
    (folder / "plans.json").write_text(json.dumps(plans | {"note": f"/home/{SECRET}"}))
    dataset = json.loads((folder / "dataset.json").read_text())
    dataset["dataset"] = {f"case_{SECRET}": {"images": [f"/home/{SECRET}/a.nii.gz"]}}
    (folder / "dataset.json").write_text(json.dumps(dataset))
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


def edit(export: Path, how: Change = lambda content: None) -> None:
    """Change `model.json`, with the hash of the weights as they are now."""
    content = json.loads((export / "model.json").read_text())
    digest = hashlib.sha256((export / FILE).read_bytes()).hexdigest()
    content["files"]["0"].update(sha256=digest)
    how(content)
    (export / "model.json").write_text(json.dumps(content))


def test_round_trip_gives_the_same_weights(model: Path, tmp_path: Path) -> None:
    """Every tensor of every fold comes back; a second export has the same bytes.

    Inheritance is written out. What people write into plans, dataset.json, logs and
    paths stays behind.
    """
    change(model, lambda c: c["init_args"].update(configuration="2d_heir"))
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
    """The output is that of the original, and so are weights to fine-tune from."""
    assert call("import", export / "model.json", tmp_path / "in") == 0
    volume = torch.rand(1, 1, 32, 32, 32, generator=torch.manual_seed(0))

    outputs = []
    for folder in (model, tmp_path / "in"):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        assert list(predictor.allowed_mirroring_axes) == [0, 2]
        with torch.no_grad():
            outputs.append(predictor.network.eval()(volume))

    assert torch.equal(*outputs)
    trained = load(model)["network_weights"]
    torch.nn.init.zeros_(predictor.network.network.head.weight)
    load_pretrained_weights(predictor.network, str(tmp_path / "in" / "fold_0" / FINAL))
    torch.testing.assert_close(dict(predictor.network.state_dict()), dict(trained))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda c: c["network_weights"][BIAS].fill_(torch.nan), f"'{BIAS}' has NaN"),
        (lambda c: c["network_weights"].pop(BIAS), "Missing key"),
        (lambda c: c.update(trainer_name="os"), "Got 'os'"),
        (lambda c: c.update(trainer_name="nnUNetTrainerX"), "trainer nnUNetTrainerX"),
        (
            lambda c: c["init_args"].update(configuration="2d_n9"),
            "2d_n9 not found in plans",
        ),
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


HIDING_PLACES: dict[str, Callable[[Any], Any]] = {
    "in the weights": lambda evil: small(network_weights={"a": evil}),
    "in an array of objects": lambda evil: small(logging=np.array([evil], object)),
    "in a dict": lambda evil: small(logging=OrderedDict(note=evil)),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_hidden_code_is_named_and_does_not_run(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a call hides; nnU-Net would make it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    touched, path = tmp_path / "touched", tmp_path / "evil.pth"
    torch.save(HIDING_PLACES[place](Evil(touched)), path)

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


def put(value: object, *place: str) -> Change:
    """Return a change of one entry."""

    def how(content: dict[str, Any]) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return how


ENTRY = ("plans", "configurations", "2d")
NETWORK = (*ENTRY, "architecture", "network_class_name")
LAYER = (*ENTRY, "architecture", "arch_kwargs", "dropout_op")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (put("other", "format"), "'format'"),
        (put(2, "version"), "'version'"),
        (put("os", "trainer"), "'trainer'"),
        (put("nnUNetTrainerEvil", "trainer"), "trainer nnUNetTrainerEvil"),
        (put({"sha256": ""}, "files", "../0"), "Got '../0'"),
        (put({"sha256": ""}, "files", "1"), "fold_1.safetensors"),
        (put("0" * 64, "files", "0", "sha256"), "SHA-256 of "),
        (put("/../x", "dataset", "file_ending"), "file_ending"),
        (put(2, "dataset", "labels", "second"), "size mismatch"),
        (put("../x", "plans", "dataset_name"), "dataset_name"),
        (put([float("nan")], *ENTRY, "spacing"), "finite number"),
        *(
            (put(name, *NETWORK), "network_class_name")
            for name in ("os.system", "nnunet_cel.cli.main", "antigravity", "evil.Net")
        ),
        *(
            (put(name, *LAYER), "must import layers of torch")
            for name in ("os.system", "torch.hub.load", "torch.nn.Dropout2d.__init__")
        ),
    ],
)
def test_hostile_manifests_are_refused(
    how: Change, message: str, export: Path, tmp_path: Path, capsys: Output
) -> None:
    """One bad entry is enough; nothing is imported by its name, and nothing left."""
    edit(export, how)

    assert call("import", export, tmp_path / "in") == 1

    assert message in capsys.readouterr().err
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda w: w.pop(BIAS), "Missing key"),
        (lambda w: w.update(more=torch.ones(1)), "Unexpected key"),
        (lambda w: w.update({BIAS: torch.ones(3)}), "size mismatch"),
        (lambda w: w[BIAS].fill_(torch.inf), "has NaN or infinity"),
    ],
)
def test_other_weights_are_refused(
    how: Change, message: str, export: Path, tmp_path: Path, capsys: Output
) -> None:
    """Names, shapes and numbers are looked at even where the hash is right."""
    weights = load_file(export / FILE)
    how(weights)
    save_file(weights, export / FILE)
    edit(export)

    assert call("import", export, tmp_path / "in") == 1

    assert message in capsys.readouterr().err
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
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    weights = load(model)["network_weights"]
    count = sum(w.numel() for n, w in weights.items() if not n.endswith(statistics))
    assert {line[:15].rstrip(): line[16:] for line in lines} == {
        "trainer": "FCADenseTrainer",
        "configuration": "2d",
        "epochs": "4",
        "mirroring axes": "0, 2",
        "tensors": "42",
        "parameters": f"{count:,}",
        "fits the plans": "yes",
    }
