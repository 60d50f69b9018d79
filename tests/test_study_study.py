"""Tests of the reader of studies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from studies import DATA, make_study

from nnunet_cel.phantom.layouts import LAYOUTS
from nnunet_cel.study.study import (
    RESOURCES,
    CelData,
    WmhData,
    declared_networks,
    parse_study,
    read_study,
)
from nnunet_cel.study.workflow import workflow_file


def test_template_shows_the_defaults() -> None:
    """Taking the comment signs away changes nothing, and every key is there."""
    path = workflow_file("config", "template.yaml")
    text = re.sub(r"^( *)#(?=\w)", r"\1", path.read_text("utf-8"), flags=re.MULTILINE)
    content = yaml.safe_load(text)
    sparse = read_study(path)

    assert parse_study({**content, "out": None}, folder=path.parent) == sparse
    assert set(content) == set(vars(sparse))
    assert set(content["resources"]) == set(RESOURCES)
    for name in ("planning", "training", "nnunet"):
        assert set(content[name]) == set(vars(getattr(sparse, name)))


@pytest.mark.parametrize("name", ["demo", "template"])
def test_examples_have_everything_and_survive_their_record(name: str) -> None:
    """What jobs of the workflow read is what the user wrote."""
    study = read_study(workflow_file("config", f"{name}.yaml"))

    assert study.tables == [2, 3, 4, 5, 6, 7, 8]
    assert study.figures == [7, 8, 9]
    assert study.networks == declared_networks()
    record = study.model_dump(mode="json", exclude_unset=True)
    assert parse_study(record, folder=Path("/elsewhere")) == study


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """So that a study can be started from anywhere."""
    path = tmp_path / "my study.yaml"
    path.write_text(
        "data:\n  wmh: {dataset: x/Dataset501_A}\n  cel: {source: b c}\nout: x\n"
        "training: {arch_kwargs: {transunet: {pretrained_file: w.npz, depth: 2}}}\n"
    )
    study = read_study(path)

    assert study.data.wmh.dataset == str(tmp_path / "x" / "Dataset501_A")
    assert study.data.cel.source == str(tmp_path / "b c")
    assert study.out == str(tmp_path / "x")
    file = str(tmp_path / "w.npz")
    arguments = study.training.arch_kwargs
    assert arguments == {"transunet": {"pretrained_file": file, "depth": 2}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"split": 2}, "no setting 'split'. Did you mean 'splits'?"),
        ({"training": {"fold": 1}}, "'training.fold'. Did you mean 'folds'?"),
        ({"training": {"settings": {"max_epoch": 1}}}, "Did you mean 'max_epochs'?"),
        ({"training": {"settings": {"loss": "dice"}}}, "that all rows can share"),
        ({"networks": ["unet", "fcadense"]}, "Did you mean 'fcadensenet'?"),
        ({"networks": []}, "1 or more entries"),
        ({"training": {"arch_kwargs": {"unnet": {}}}}, "Did you mean 'unet'?"),
        ({"resources": {"trian": {"gpu": 1}}}, "must be one of"),
        ({"resources": {"train": {"gpu": -1}}}, "a number >= 0. Got -1"),
        ({"nnunet": {"trainer": "a; b"}}, "a text that fits"),
        ({"seed": -1, "folds": 2}, "study.json has 2 problems"),
    ],
)
def test_wrong_values_are_named(content: Any, message: str) -> None:
    """With the rule, what was got, and the nearest known name."""
    with pytest.raises(ValueError, match=re.escape(message)):
        make_study(**content)


@pytest.mark.parametrize(
    ("wmh", "cel", "more", "message"),
    [
        ({"dataset": "Dataset501_A", "phantoms": {"isbi2015": 1}}, {}, {}, "exactly"),
        (None, {}, {}, "'data.wmh' of the study must be given"),
        ({}, {"phantoms": {}}, {}, "'data.cel' of the study must be given"),
        ({"phantoms": {"cel-bids": 1}}, {}, {}, "'isbi2015', 'msseg2016' or 'wmh2017'"),
        ({"phantoms": {"isbi2015": 0}}, {}, {}, "must be a number > 0"),
        ({}, {"phantoms": {"cel-bids": 1, "cel-dicom": 1}}, {}, "1 or fewer entries"),
        ({"dataset": "lesions"}, {}, {}, r"Dataset.*Got 'lesions'"),
        # what is divided is not divided again
        ({}, {"dataset": "Dataset502_A", "phantoms": {}}, {"splits": 2}, "must be 1"),
    ],
)
def test_data_come_from_one_place(
    wmh: dict[str, Any] | None, cel: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    """A data set is given by one key, by names that all commands know."""
    data = {"wmh": wmh or (DATA["wmh"] if wmh == {} else None)}
    with pytest.raises(ValueError, match=message):
        make_study(data={**data, "cel": DATA["cel"] | cel}, **more)


def test_table_5_alone_needs_no_pretraining() -> None:
    """Its models are trained directly."""
    ours = make_study(data={"cel": DATA["cel"]}, tables=[5], figures=[])
    assert not ours.data.wmh.given


def test_protocol_is_read_before_anything_is_done(tmp_path: Path) -> None:
    """What is wrong in its file is said with all that is wrong in the study."""
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nmin_lesion: 3\n")
    with pytest.raises(ValueError, match="min_lesion"):
        make_study(protocol=str(path))
    with pytest.raises(FileNotFoundError, match="The protocol must be one of"):
        make_study(protocol="none.yaml")


def test_layouts_are_those_of_phantom() -> None:
    """A new layout has to be named in both places."""
    for data in (WmhData, CelData):
        kind, _ = get_args(data.model_fields["phantoms"].annotation)
        expected = {n for n, lay in LAYOUTS.items() if lay.kind == data.kind}
        assert set(get_args(kind)) == expected


def test_resources_complete_the_defaults() -> None:
    """Names that only the executor knows are handed on."""
    given = {"train": {"threads": 2, "slurm_partition": "long"}}
    assert make_study(resources=given).resources["train"] == {
        **{"threads": 2, "mem_mb": 24_000, "runtime": 4320, "gpu": 1},
        "slurm_partition": "long",
    }


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not YAML"), ("", "must be a mapping")]
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file."""
    path = tmp_path / "study.yaml"
    with pytest.raises(FileNotFoundError, match="protocol init"):
        read_study(path)
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_study(path)

    assert path.name in str(error.value)
