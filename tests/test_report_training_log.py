"""Reading training curves from nnU-Net's logs, and drawing them."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from nnunet_cel.report.training_log import draw_training, read_training

TIME = "2026-11-23 06:15:12.313673: "


def epoch(number: int, loss: str, dice: str, *more: str) -> str:
    """Return what nnU-Net writes of an epoch."""
    lines = [
        "",
        f"Epoch {number}",
        "Current learning rate: 0.0002",
        f"train_loss {loss}",
        "val_loss -0.5",
        f"Pseudo dice [{dice}]",
        "Epoch time: 11.07 s",
        *more,
    ]
    return "".join(f"{TIME}{line} \n" for line in lines)


def write_log(fold: Path, name: str, *parts: str) -> None:
    """Write a log that begins as nnU-Net's do."""
    fold.mkdir(parents=True, exist_ok=True)
    head = f"\n#####\nPlease cite\n#####\n\n{TIME}Epoch time is not this line \n"
    (fold / f"training_log_{name}.txt").write_text(head + "".join(parts))


def test_numbers_of_an_epoch_are_read(tmp_path: Path) -> None:
    """Learning rate, losses, mean Dice over labels and seconds are those of the log."""
    write_log(
        tmp_path / "fold_0",
        "2026_1_2_03_04_05",
        epoch(0, "1e-05", "np.float32(0.25), np.float32(0.75)"),
        epoch(1, "0.25", "nan, 0.5", "Yayy! New best EMA pseudo Dice: 0.5"),
        epoch(2, "nan", "nan"),
    )

    table = read_training(tmp_path)

    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["fold"].tolist() == ["0", "0", "0"]
    assert table["train_loss"].tolist()[:2] == [1e-05, 0.25]
    assert table["validation_dice"].tolist()[:2] == [0.5, 0.5]
    assert table.loc[2, ["train_loss", "validation_dice"]].isna().all()
    others = table[["validation_loss", "learning_rate", "seconds"]].drop_duplicates()
    assert others.to_numpy().tolist() == [[-0.5, 0.0002, 11.07]]
    assert table["best"].tolist() == [False, True, False]


def test_continued_trainings_are_put_together(tmp_path: Path) -> None:
    """A later log takes the place of the earlier one from its first epoch on."""
    best = "Yayy! New best EMA pseudo Dice: 0.3"
    earlier = [epoch(0, "9", "0.1", best), epoch(1, "8", "0.2", best)]
    earlier += [epoch(2, "7", "0.3"), epoch(3, "6", "0.3")]
    cut_off = f"{TIME}Epoch 3 \n{TIME}train_loss 5 \n"
    restored = "Restored the best weights, of epoch 0."
    write_log(tmp_path / "fold_0", "2026_9_30_01_00_00", *earlier)
    later = epoch(2, "4", "0.2", restored)
    write_log(tmp_path / "fold_0", "2026_10_1_00_00_00", later, cut_off)
    write_log(tmp_path / "fold_all", "2026_1_1_00_00_00", epoch(0, "1", "0.5"))
    (tmp_path / "fold_1").mkdir()

    table = read_training(tmp_path)

    assert table["train_loss"].tolist() == [9, 8, 4, 1]
    assert table["fold"].tolist() == ["0", "0", "0", "all"]
    assert table["best"].tolist() == [True, False, False, False]
    assert read_training(tmp_path / "fold_all")["fold"].tolist() == ["all"]


def test_folders_without_curves_are_refused(tmp_path: Path) -> None:
    """A folder that is missing, and one whose logs hold no epoch, are named."""
    write_log(tmp_path / "fold_0", "2026_1_1_00_00_00")

    with pytest.raises(ValueError, match="at least one epoch"):
        read_training(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_training(tmp_path / "missing")


@pytest.mark.parametrize("loss", [0.5, math.nan])
def test_training_is_drawn(loss: float) -> None:
    """A line for each fold, whatever the sign of the losses; missing ones are left."""
    table = pd.DataFrame(
        {
            "fold": fold,
            "epoch": epoch,
            "train_loss": loss / (1 + epoch),
            "validation_loss": loss,
            "validation_dice": 0.5,
            "best": epoch == 1,
        }
        for fold in "01"
        for epoch in range(40)
    )

    one, several = draw_training(table[table["fold"] == "0"]), draw_training(table)

    assert "of fold 0" in one.caption
    assert "one line for each fold" in several.caption
    assert f"fold 1 training loss {loss / 40:.3g}, validation loss" in several.alt
