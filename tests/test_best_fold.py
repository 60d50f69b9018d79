"""The best fold is chosen by its validation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from nnunet_cel import best_fold

NAN = float("nan")


@pytest.fixture
def results(nnunet_folders):
    """An empty folder of results, which nnU-Net knows of."""
    return nnunet_folders / "results"


def train(results: Path, fold: object, dice: float | None, checkpoint: bool = True):
    """Leave what nnU-Net would leave after the training of one fold."""
    model = results / "Dataset501_WMH" / "FCADenseTrainer__FCADensePlans__2d"
    validation = model / f"fold_{fold}" / "validation"
    validation.mkdir(parents=True)
    if dice is not None:
        summary = {"foreground_mean": {"Dice": dice, "IoU": 0.5}}
        (validation / "summary.json").write_text(json.dumps(summary))
    path = validation.parent / "checkpoint_final.pth"
    if checkpoint:
        path.touch()
    return path


def run(*arguments: str) -> int:
    """Run the sub-command."""
    parser = argparse.ArgumentParser()
    best_fold.add_arguments(parser)
    return best_fold.run(parser.parse_args(arguments))


@pytest.mark.parametrize("others", [{10: 0.2}, {0: NAN}, {"all": 0.99}, {0: -0.1}])
def test_other_folds_are_never_best(results, capsys, others):
    """Equals of a higher number, no numbers, impossible ones, and all cases."""
    for fold, dice in others.items():
        train(results, fold, dice)
    best = train(results, 2, 0.2)

    run("501")

    assert capsys.readouterr().out == f"{best}\n"


def test_shows_all_folds(results, capsys):
    """The standard error lists the folds, in order; the output is the path alone."""
    best = train(results, 10, 0.7)
    train(results, 2, None)
    train(results, 3, 0.8, checkpoint=False)
    train(results, 4, NAN)
    train(results, 5, 0.6)
    train(results, "all", 0.9)
    for fold, content in enumerate(["", "[]", '{"foreground_mean": {"Dice": []}}']):
        folder = train(results, 20 + fold, 0.9).parent / "validation"
        (folder / "summary.json").write_text(content)

    status = run("Dataset501_WMH", "-c", "2d")

    printed = capsys.readouterr()
    assert (status, printed.out) == (0, f"{best}\n")
    unknown = ["nan", "no Dice in validation/summary.json"]
    assert [line.split(maxsplit=2) for line in printed.err.splitlines()[2:]] == [
        ["2", *unknown],
        ["3", "0.8000", "no checkpoint_final.pth"],
        ["4", *unknown],
        ["5", "0.6000"],
        ["10", "0.7000"],
        *(["20", *unknown], ["21", *unknown], ["22", *unknown]),
        ["all", "0.9000", "left out: validated on its training cases"],
    ]


def test_refuses_what_is_not_there(results):
    """No fold that can be chosen, another model, other data sets: each is named."""
    train(results, 0, None)

    with pytest.raises(FileNotFoundError, match=r"Found none in .*nnUNetv2_train"):
        run("501")
    with pytest.raises(FileNotFoundError, match="set: FCADenseTrainer__FCADensePlans"):
        run("501", "-c", "2d_n3")
    for dataset in ("999", "WMH"):
        with pytest.raises(ValueError, match=f"Got '{dataset}' instead"):
            run(dataset)
    (results / "Dataset501_Other").mkdir()
    with pytest.raises(ValueError, match="More than one dataset name found"):
        run("501")
