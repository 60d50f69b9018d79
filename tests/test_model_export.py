"""Weights travel whole, as files that hold no code; whoever hides code is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from safetensors.torch import load_file, save_file
from torch import nn

from nnunet_cel import cli
from nnunet_cel.checkpoint import read_checkpoint
from nnunet_cel.model_export import export_weights, import_weights, read_manifest
from nnunet_cel.settings import BLOCK, Settings
from nnunet_cel.training.trainer import FCADenseTrainer

SECRET = "ERIKA_MUSTERMANN"
FINAL = "checkpoint_final.pth"
FILE = "fold_0.safetensors"
BIAS = "network.head.bias"
FCADENSENET = {
    "network_class_name": "nnunet_cel.networks.FCADenseNet",
    "arch_kwargs": {
        "down_layers": [1, 1],
        "bottleneck_layers": 1,
        "stem_features": 4,
        "growth_rate": 4,
        "dropout_op": "torch.nn.Dropout2d",
    },
    "_kw_requires_import": ["dropout_op"],
}
# The library of this network holds most tensors under two names.
UNET = {
    "network_class_name": "nnunet_cel.networks.UNet",
    "arch_kwargs": {"features": [4, 8], "convs_per_level": 1},
    "_kw_requires_import": [],
}

Change = Callable[[dict[str, Any]], object]


def make_plans(architecture: dict[str, Any] = FCADENSENET) -> dict[str, Any]:
    """Return plans as the planner writes them, with an entry that names a patient."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": False}
    base: dict[str, Any] = {
        "data_identifier": "FCADensePlans_2d",
        "preprocessor_name": "FCADensePreprocessor",
        "patch_size": [32, 32, 32],
        "median_image_size_in_voxels": [30.0, 31.0, 32.0],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["KDEHighestPeakNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": True,
        "batch_size": 4,
        "architecture": deepcopy(architecture),
        BLOCK: Settings().to_block(),
        "comment": SECRET,
    }
    for kind in ("data", "seg", "probabilities"):
        base[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        base[f"resampling_fn_{kind}_kwargs"] = resampling
    return {
        "dataset_name": "Dataset501_Tiny",
        "plans_name": "FCADensePlans",
        "original_median_shape_after_transp": [30, 31, 32],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "2d": base,
            "2d_heir": {"inherits_from": "2d", "batch_size": 2},
        },
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {"mean": 1.5}},
        "note": f"/home/{SECRET}",
    }


def make_dataset() -> dict[str, Any]:
    """Return a ``dataset.json`` with entries that name a patient."""
    return {
        "channel_names": {"0": "T1 with contrast"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
        "dataset": {f"case_{SECRET}": {"images": [f"/home/{SECRET}/a.nii.gz"]}},
    }


def make_network(architecture: dict[str, Any] = FCADENSENET) -> nn.Module:
    """Return the network of the plans with random weights."""
    manager = PlansManager(make_plans(architecture))
    return FCADenseTrainer.build_network_architecture(
        manager, manager.get_configuration("2d"), 1, 2
    )


def make_model(
    folder: Path,
    *,
    folds: tuple[str, ...] = ("0",),
    architecture: dict[str, Any] = FCADENSENET,
    change: Change = lambda checkpoint: None,
) -> Path:
    """Write a model folder; ``change`` may alter what nnU-Net's trainer saves."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(make_plans(architecture)))
    (folder / "dataset.json").write_text(json.dumps(make_dataset()))
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        network = make_network(architecture)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.Adam(network.parameters()).state_dict(),
            "grad_scaler_state": None,
            "logging": {"ema": [np.float32(0.25), np.float64(0.5), np.int64(3)]},
            "_best_ema": np.float32(0.25),
            "current_epoch": 7,
            "init_args": {
                "plans": {"note": SECRET},
                "configuration": "2d",
                "dataset_json": make_dataset(),
                "device": torch.device("cpu"),
            },
            "trainer_name": "FCADenseTrainer",
            "inference_allowed_mirroring_axes": (0, 2),
        }
        change(checkpoint)
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / FINAL)
    return folder


def load(folder: Path, fold: str = "0") -> dict[str, Any]:
    """Return a checkpoint as nnU-Net loads it."""
    path = folder / f"fold_{fold}" / FINAL
    checkpoint: dict[str, Any] = torch.load(path, weights_only=False)
    return checkpoint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with one fold."""
    return make_model(tmp_path / "a model")


@pytest.fixture
def export(model: Path, tmp_path: Path) -> Path:
    """An export of it."""
    export_weights(model, tmp_path / "an export")
    return tmp_path / "an export"


def edit(export: Path, change: Change = lambda content: None) -> None:
    """Change `model.json`, with size and hash of the weights as they are now."""
    content = json.loads((export / "model.json").read_text())
    weights = (export / FILE).read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    content["files"]["0"].update(bytes=len(weights), sha256=digest)
    change(content)
    (export / "model.json").write_text(json.dumps(content))


@pytest.mark.parametrize("architecture", [FCADENSENET, UNET])
def test_round_trip_gives_the_same_weights(
    architecture: dict[str, Any], tmp_path: Path
) -> None:
    """Every tensor of every fold comes back; a second export has the same bytes."""
    folds = ("0", "all")
    model = make_model(tmp_path / "a", folds=folds, architecture=architecture)

    export_weights(model, tmp_path / "b")
    import_weights(tmp_path / "b", tmp_path / "c")
    export_weights(tmp_path / "c", tmp_path / "d")

    for fold in folds:
        before, after = load(model, fold), load(tmp_path / "c", fold)
        assert list(after["network_weights"]) == list(before["network_weights"])
        for name, tensor in before["network_weights"].items():
            torch.testing.assert_close(
                after["network_weights"][name], tensor, rtol=0, atol=0
            )
        for key in ("trainer_name", "inference_allowed_mirroring_axes"):
            assert after[key] == before[key]
        stored = load_file(tmp_path / "b" / f"fold_{fold}.safetensors")
        tied = len(before["network_weights"]) - len(stored)
        assert (tied > 0) == (architecture is UNET)
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "d" / file.name).read_bytes()


def test_predictor_of_nnunet_takes_the_import(
    model: Path, export: Path, tmp_path: Path
) -> None:
    """The output is that of the original, and so are weights to fine-tune from."""
    import_weights(export / "model.json", tmp_path / "in")
    volume = torch.rand(1, 1, 32, 32, 32, generator=torch.manual_seed(0))
    outputs = []
    for folder in (model, tmp_path / "in"):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), None)
        assert predictor.allowed_mirroring_axes == (0, 2)
        with torch.no_grad():
            outputs.append(predictor.network.eval()(volume))
    network = make_network()
    load_pretrained_weights(network, str(tmp_path / "in" / "fold_0" / FINAL))

    assert torch.equal(*outputs)
    trained = load(model)["network_weights"]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, trained[name])


def test_export_names_nobody(model: Path, tmp_path: Path) -> None:
    """What people write into plans, dataset.json, logs and paths stays behind."""
    assert SECRET.encode() in (model / "fold_0" / FINAL).read_bytes()

    export_weights(model, tmp_path / "out")

    assert {f.name for f in (tmp_path / "out").iterdir()} == {FILE, "model.json"}
    for file in (tmp_path / "out").iterdir():
        assert SECRET.encode() not in file.read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()


def test_manifest_says_what_the_model_is(export: Path) -> None:
    """Names, axes, epochs, labels and tensors are those of the checkpoint."""
    manifest = read_manifest(export / "model.json")

    assert (manifest.trainer, manifest.configuration) == ("FCADenseTrainer", "2d")
    assert manifest.mirroring_axes == [0, 2]
    assert manifest.files["0"].epochs == 7
    assert manifest.dataset.labels == {"background": 0, "lesion": 1}
    assert manifest.tensors[BIAS] == {"shape": [2], "dtype": "float32"}


def test_heirs_are_written_out(tmp_path: Path) -> None:
    """A configuration that inherits is the one that nnU-Net resolves."""
    heir = {"init_args": {"configuration": "2d_heir"}}
    model = make_model(tmp_path / "model", change=lambda c: c.update(heir))

    plans = export_weights(model, tmp_path / "out").plans

    assert list(plans.configurations) == ["2d_heir"]
    assert plans.configurations["2d_heir"].batch_size == 2
    assert plans.configurations["2d_heir"].patch_size == [32, 32, 32]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["network_weights"][BIAS].fill_(torch.nan), f"'{BIAS}' .* has NaN"),
        (lambda c: c["network_weights"].update({BIAS: torch.ones(1)}), "size mismatch"),
        (lambda c: c["network_weights"].pop(BIAS), "Missing key"),
        (lambda c: c["network_weights"].update(a=torch.ones(1)), "Unexpected key"),
        (lambda c: c.update(trainer_name="os"), "ours or nnU-Net's. Got 'os'"),
        (lambda c: c.update(trainer_name="nnUNetTrainerX"), "must be known here"),
        (lambda c: c["init_args"].update(configuration="2d_n9"), "one of the plans'"),
    ],
)
def test_unusable_checkpoints_are_refused(
    change: Change, message: str, tmp_path: Path
) -> None:
    """Weights that do not fit the plans are not exported, and nothing is left."""
    model = make_model(tmp_path / "model", change=change)

    with pytest.raises(ValueError, match=message):
        export_weights(model, tmp_path / "out")

    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_folds_of_other_models_are_refused(tmp_path: Path) -> None:
    """A fold that mirrors along other axes does not belong; ``-f`` leaves it out."""
    model = make_model(tmp_path / "model", folds=("0", "1"))
    other = load(model, "1") | {"inference_allowed_mirroring_axes": None}
    torch.save(other, model / "fold_1" / FINAL)

    with pytest.raises(ValueError, match=r"fold_1.* differs from the folds before"):
        export_weights(model, tmp_path / "out")

    assert list(export_weights(model, tmp_path / "out", folds=["1"]).files) == ["1"]
    with pytest.raises(
        FileNotFoundError, match=r"must have folders fold_X with x\.pth"
    ):
        export_weights(model, tmp_path / "x", checkpoint="x.pth")


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


class Evaluating(Evil):
    """Does the same with Python's own means."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


def small(**changes: Any) -> dict[str, Any]:
    """Return the smallest checkpoint that can be read."""
    return {
        "network_weights": {"a": torch.arange(6.0)},
        "trainer_name": "FCADenseTrainer",
        "init_args": {"configuration": "2d"},
    } | changes


def _with_attribute(dictionary: Any, evil: Evil) -> Any:
    dictionary.note = evil
    return dictionary


HIDING_PLACES: dict[str, Callable[[Any], Any]] = {
    "alone": lambda evil: evil,
    "in the weights": lambda evil: small(network_weights={"a": evil}),
    "as a key": lambda evil: small(logging={("a", evil): 1}),
    "in an array of objects": lambda evil: small(logging=np.array([evil], object)),
    "beside a dict": lambda evil: _with_attribute(OrderedDict(small()), evil),
}


@pytest.mark.parametrize("kind", [Evil, Evaluating])
@pytest.mark.parametrize("place", HIDING_PLACES)
def test_hidden_code_is_named_and_does_not_run(
    place: str, kind: type[Evil], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a call hides, and whatever others allow torch; nnU-Net would make it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    touched, path = tmp_path / "touched", tmp_path / "evil.pth"
    torch.save(HIDING_PLACES[place](kind(touched)), path)

    with torch.serialization.safe_globals([(os.system, "posix.system"), eval]):
        allowed = torch.serialization.get_safe_globals()
        with pytest.raises(ValueError, match=r"asks for .*(posix\.system|eval)'"):
            read_checkpoint(path)
        assert torch.serialization.get_safe_globals() == allowed

    assert not touched.exists()
    torch.load(path, weights_only=False)
    assert touched.exists()


@pytest.mark.parametrize(
    "options", [{"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}]
)
def test_other_formats_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    """What nnU-Net never writes is not read, with code in it or without."""
    for content in (small(), small(logging=Evil(tmp_path / "touched"))):
        torch.save(content, tmp_path / "a.pth", **options)
        with pytest.raises(ValueError, match=r"a\.pth must hold .* was not loaded"):
            read_checkpoint(tmp_path / "a.pth")

    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "was not loaded"),
        (small(network_weights={}), "network_weights"),
        (small(network_weights={"a": 1}), "network_weights"),
        (small(trainer_name=None), "trainer_name"),
        (small(init_args={}), "configuration"),
        (small(inference_allowed_mirroring_axes="xyz"), "mirroring_axes"),
    ],
)
def test_other_contents_are_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    """What is no checkpoint of nnU-Net is refused, and the message says why."""
    torch.save(content, tmp_path / "a.pth")

    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pth")


def _configuration(plans: dict[str, Any]) -> Any:
    return plans["configurations"]["2d"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), "format"),
        (lambda c: c.update(version=2), "version"),
        (lambda c: c.update(more=1), "no setting 'more'"),
        (lambda c: c.update(trainer="os"), "ours or nnU-Net's"),
        (lambda c: c.update(trainer="nnUNetTrainerEvil"), "must be known here"),
        (lambda c: c.update(mirroring_axes=[3]), "mirroring_axes"),
        (lambda c: c["files"].update({"../0": c["files"]["0"]}), "a number or 'all'"),
        (lambda c: c["files"].update({"1": c["files"]["0"]}), "fold_1.safetensors"),
        (lambda c: c["files"]["0"].update(sha256="0" * 64), "size and SHA-256 of"),
        (lambda c: c["dataset"].update(file_ending="/../x"), "file_ending"),
        (lambda c: c["dataset"]["labels"].update(second=2), "size mismatch"),
        (lambda c: c["plans"].update(dataset_name="../x"), "dataset_name"),
        (lambda c: c["plans"].update(image_reader_writer="a/b"), "image_reader_writer"),
        (
            lambda c: _configuration(c["plans"]).update(spacing=[float("nan")]),
            "finite number",
        ),
        *(
            (
                lambda c, name=name: _configuration(c["plans"])["architecture"].update(
                    network_class_name=name
                ),
                "network_class_name",
            )
            for name in ("os.system", "nnunet_cel.cli.main", "antigravity", "evil.Net")
        ),
        *(
            (
                lambda c, name=name: _configuration(c["plans"])["architecture"][
                    "arch_kwargs"
                ].update(dropout_op=name),
                "'dropout_op' of a network must be a layer of torch",
            )
            for name in ("os.system", "torch.hub.load", "torch.nn.Dropout2d.__init__")
        ),
    ],
)
def test_hostile_manifests_are_refused(
    change: Change, message: str, export: Path, tmp_path: Path
) -> None:
    """One bad entry is enough; nothing is imported by its name, and nothing left."""
    edit(export, change)

    with pytest.raises((ValueError, OSError), match=message):
        import_weights(export, tmp_path / "in")

    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": NaN', "[" * 100_000])
def test_other_texts_are_no_manifest(text: str, tmp_path: Path) -> None:
    """Damaged texts end in a message that names the file."""
    (tmp_path / "model.json").write_text(text)

    with pytest.raises(ValueError, match=r"model\.json must be a JSON object"):
        read_manifest(tmp_path / "model.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(BIAS), "Missing key"),
        (lambda w: w.update(more=torch.ones(1)), "Unexpected key"),
        (lambda w: w.update({BIAS: torch.ones(3)}), "size mismatch"),
        (lambda w: w[BIAS].fill_(torch.inf), f"'{BIAS}' in .* has NaN or infinity"),
    ],
)
def test_other_weights_are_refused(
    change: Change, message: str, export: Path, tmp_path: Path
) -> None:
    """Names, shapes and numbers are looked at even where the hash is right."""
    weights = load_file(export / FILE)
    change(weights)
    save_file(weights, export / FILE)
    with pytest.raises(ValueError, match=r"SHA-256 of .*fold_0\.safetensors must be"):
        import_weights(export, tmp_path / "in")
    edit(export)

    with pytest.raises(ValueError, match=message):
        import_weights(export, tmp_path / "in")


def test_existing_model_folder_is_not_replaced(model: Path, export: Path) -> None:
    """A model that is there stays as it is."""
    with pytest.raises(FileExistsError, match="not replaced"):
        import_weights(export, model)

    assert load(model)["current_epoch"] == 7


def call(*arguments: str | Path) -> int:
    """Run `nnunet-cel weights`."""
    return cli.main(["weights", *map(str, arguments)])


def test_commands(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They say what they wrote and what comes next; a wrong hash ends in status 1."""
    out = tmp_path / "out"
    assert call("export", model, out, "-f", "0") == 0
    printed = capsys.readouterr().out
    assert "fold 0 (FCADenseTrainer, 2d)" in printed
    digest = printed.split()[-1]
    assert call("export", model, out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert call("export", model, out, "--overwrite") == 0
    capsys.readouterr()

    assert call("import", out, tmp_path / "no", "--sha256", "0" * 64) == 1
    assert "its author meant" in capsys.readouterr().err
    assert call("import", out, tmp_path / "in here", "--sha256", digest.upper()) == 0
    printed = capsys.readouterr().out
    assert f"-m '{tmp_path / 'in here'}' -f 0 " in printed
    assert "Dataset501_Tiny/FCADenseTrainer__FCADensePlans__2d" in printed
    assert "Note" not in printed
    edit(out, lambda c: c["made_with"].update(nnunetv2="9.9"))
    assert call("import", out, tmp_path / "again") == 0
    assert "made with nnunetv2 9.9, here is" in capsys.readouterr().out


def test_inspect(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table says what the file holds; other plans end in status 1."""
    file = model / "fold_0" / FINAL

    assert call("inspect", file, "--plans", model / "plans.json", "--tensors") == 0

    lines = capsys.readouterr().out.splitlines()
    rows = {line[:15].rstrip(): line[16:] for line in lines if line[15:16] == " "}
    counted = sum(parameter.numel() for parameter in make_network().parameters())
    assert rows["parameters"] == f"{counted:,}"
    assert rows["trainer"] == "FCADenseTrainer"
    assert rows["epochs"] == "7"
    assert rows["mirroring axes"] == "0, 2"
    assert rows["types"] == "float32, int64"
    assert rows["fits the plans"] == "yes"
    assert f"{BIAS} float32 2" in lines

    plans = make_plans(UNET)
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    assert call("inspect", file, "--plans", tmp_path / "plans.json") == 1
    assert "must be those of the network" in capsys.readouterr().err


def test_inspect_prints_nothing_that_terminals_obey(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in names do not reach the screen."""
    content = small(network_weights={"\x1b[31mred": torch.ones(1)}) | {"\x1b]0;x": 1}
    torch.save(content, tmp_path / "a.pth")

    assert call("inspect", tmp_path / "a.pth", "--tensors") == 0

    assert "\x1b" not in capsys.readouterr().out
