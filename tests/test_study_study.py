"""Tests of the reader of studies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nnunet_cel.study.study import (
    RESOURCES,
    declared_networks,
    parse_study,
    read_study,
)
from nnunet_cel.study.workflow import workflow_file

DATA = {"wmh": {"phantoms": {"isbi2015": 3}}, "cel": {"phantoms": {"cel-bids": 4}}}


def problem(tmp_path: Path, **content: Any) -> str:
    """Return what is said of a study with a problem."""
    with pytest.raises(ValueError, match="study") as error:
        parse_study({"data": DATA, **content}, folder=tmp_path)
    return str(error.value)


def test_defaults_are_the_paper(tmp_path: Path) -> None:
    """Without other keys than the data: all tables, figures, networks and folds."""
    study = parse_study({"data": DATA}, folder=tmp_path)

    assert list(study.tables) == [2, 3, 4, 5, 6, 7, 8]
    assert list(study.figures) == [7, 8, 9]
    assert list(study.networks) == declared_networks()
    assert len(study.networks) == 6
    assert study.training.folds == 5
    assert study.training.small_window == 64


def test_template_shows_the_defaults() -> None:
    """Taking the comment signs away changes nothing, and every key is there."""
    path = workflow_file("config", "template.yaml")
    text = re.sub(r"^( *)#(?=\w)", r"\1", path.read_text("utf-8"), flags=re.MULTILINE)
    content = yaml.safe_load(text)
    out = content.pop("out")
    whole, (sparse, _) = parse_study(content, folder=path.parent), read_study(path)

    assert whole == sparse
    assert out == "my_study"
    assert set(content) == {"data", *vars(sparse)} - {"wmh", "cel"}
    assert set(content["resources"]) == set(RESOURCES)
    for name in ("planning", "training", "nnunet"):
        assert set(content[name]) == set(vars(getattr(sparse, name)))


def test_demo_has_all_tables_and_networks() -> None:
    """The example that comes with the workflow leaves nothing out."""
    study, _ = read_study(workflow_file("config", "demo.yaml"))

    assert list(study.tables) == [2, 3, 4, 5, 6, 7, 8]
    assert list(study.networks) == declared_networks()
    assert set(study.training.arch_kwargs) == set(declared_networks())


def test_record_describes_the_same_study() -> None:
    """What jobs of the workflow read is what the user wrote."""
    for name in ("demo", "template"):
        study, _ = read_study(workflow_file("config", f"{name}.yaml"))

        assert parse_study(study.to_dict(), folder=Path("/elsewhere")) == study


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """So that a study can be started from anywhere; without `out` it is here."""
    path = tmp_path / "my study.yaml"
    path.write_text("data:\n  wmh: {dataset: a}\n  cel: {source: b c}\n")
    study, out = read_study(path)

    assert study.wmh.dataset == str(tmp_path / "a")
    assert study.cel.sources == {"cel": str(tmp_path / "b c")}
    assert out == Path.cwd() / "my study_study"

    path.write_text(path.read_text() + "out: x\n")
    assert read_study(path)[1] == tmp_path / "x"


def test_misspelt_key_gets_a_suggestion(tmp_path: Path) -> None:
    """Keys of every level are checked."""
    assert "Did you mean 'splits'?" in problem(tmp_path, split=2)
    assert "'training.fold'. Did you mean 'folds'?" in problem(
        tmp_path, training={"fold": 1}
    )
    assert "'training.settings.max_epoch'" in problem(
        tmp_path, training={"settings": {"max_epoch": 1}}
    )


def test_unknown_network_gets_a_suggestion(tmp_path: Path) -> None:
    """In the list of networks and in their arguments."""
    message = problem(tmp_path, networks=["unet", "fcadense"])

    assert "'networks' of the study must be of" in message
    assert "Did you mean 'fcadensenet'?" in message
    assert "'training.arch_kwargs.unnet'" in problem(
        tmp_path, training={"arch_kwargs": {"unnet": {}}}
    )
    assert "'training.arch_kwargs.unet.feature'" in problem(
        tmp_path, training={"arch_kwargs": {"unet": {"feature": 1}}}
    )


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """One message lists them, by their keys."""
    message = problem(
        tmp_path, tables=[1], folds=2, seed=-1, device="tpu", training={"folds": 6}
    )

    assert "has 5 problems" in message
    for key in ("'tables'", "'folds'", "'seed'", "'device'", "'training.folds'"):
        assert key in message


def test_data_come_from_one_place(tmp_path: Path) -> None:
    """A data set is given by one key; for Table 5 alone pretraining needs none."""
    both = {"wmh": {"dataset": "a", "phantoms": {"isbi2015": 1}}, "cel": DATA["cel"]}

    assert "'data.wmh' of the study must be given by" in problem(tmp_path, data=both)
    assert "'data.wmh'" in problem(tmp_path, data={"cel": DATA["cel"]})
    study = parse_study(
        {"data": {"cel": DATA["cel"]}, "tables": [5], "figures": []}, folder=tmp_path
    )
    assert not study.wmh.phantoms


def test_settings_that_make_rows_cannot_be_shared(tmp_path: Path) -> None:
    """The loss of all rows is not the study's to set, nor what planner writes."""
    for name in ("loss", "neighbor_pairs", "lesion_weight", "heads"):
        message = problem(tmp_path, training={"settings": {name: 1}})
        assert f"'training.settings.{name}'" in message
    assert "'training.pretraining.patience'" in problem(
        tmp_path, training={"pretraining": {"patience": -1}}
    )


def test_options_of_the_study_are_not_given_twice(tmp_path: Path) -> None:
    """What the workflow says to the converter is refused, also with `=`."""
    data = {**DATA, "cel": {**DATA["cel"], "options": ["--seed=3"]}}

    assert "'data.cel.options'" in problem(tmp_path, data=data)


def test_divided_data_set_is_not_divided_again(tmp_path: Path) -> None:
    """Random splits need the scans."""
    data = {**DATA, "cel": {"dataset": "Dataset502_CEL"}}

    assert "'splits' of the study must be 1" in problem(tmp_path, data=data, splits=2)


def test_resources_complete_the_defaults(tmp_path: Path) -> None:
    """Names that only the executor knows are handed on."""
    given = {"train": {"threads": 2, "slurm_partition": "long"}}
    study = parse_study({"data": DATA, "resources": given}, folder=tmp_path)

    assert study.resources["train"] == {
        **{"threads": 2, "mem_mb": 24_000, "runtime": 4320, "gpu": 1},
        "slurm_partition": "long",
    }
    assert "'resources.train.gpu'" in problem(
        tmp_path, resources={"train": {"gpu": "one"}}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- a", "must be a mapping"), ("", "must be a mapping")],
)
def test_what_is_no_study_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file."""
    path = tmp_path / "study.yaml"
    path.write_text(text)

    with pytest.raises(ValueError, match=message) as error:
        read_study(path)
    assert str(path) in str(error.value)


def test_missing_study_is_refused(tmp_path: Path) -> None:
    """The message says how to make one."""
    with pytest.raises(FileNotFoundError, match="protocol init"):
        read_study(tmp_path / "none.yaml")
