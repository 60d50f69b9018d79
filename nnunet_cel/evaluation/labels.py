"""What the values of label maps mean, and the probabilities beside them.

Words:

- *lesion label*: the value of lesion voxels.
- *ignore label*: the value of voxels that nobody judged. They are left out of
  reference and prediction alike. nnU-Net has it as ``ignore`` in ``dataset.json``.

`nnUNetv2_predict --save_probabilities` writes ``CASE.npz`` with the key
``probabilities``, as (classes, Z, Y, X). The file ``CASE.pkl`` is not needed, and not
opened, because opening a pickle can run code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_cel.files import read_json
from nnunet_cel.schema import Model, parse
from nnunet_cel.volumes import Array

__all__ = ["Labels", "read_labels", "read_probabilities"]


class _DataSet(Model, extra="ignore"):
    """What is read of nnU-Net's ``dataset.json``; a list is a region."""

    labels: dict[str, int | list[int]]


@dataclass(frozen=True)
class Labels:
    """What the values of label maps mean.

    Args:
        lesion: The lesion label.
        ignore: The ignore label, None if there is none.
        known: All values that there may be, None for any.
        regions: Value or values of each region but background, in the order of their
            channels; empty where channels are labels.
    """

    lesion: int = 1
    ignore: int | None = None
    known: frozenset[int] | None = frozenset({0, 1})
    regions: tuple[int | list[int], ...] = ()

    def check(self, path: Path, voxels: Array) -> None:
        """Refuse a label map with a value that nobody explained.

        Raises:
            ValueError: If there is one; the message names the file.
        """
        if self.known is None:
            return
        if strange := sorted(set(np.unique(voxels).tolist()) - self.known):
            raise ValueError(
                f"The label map {path} must have no values but "
                f"{', '.join(map(str, sorted(self.known)))}. Got "
                f"{', '.join(map(str, strange[:5]))} too: name the lesions' value with "
                "--label (all others are background then), or put the dataset.json "
                "beside it."
            )

    def channel(self, path: Path, count: int) -> int:
        """Return the channel of the lesion among the probabilities of a file.

        Raises:
            ValueError: If it is not clear which one it is.
        """
        if count == 1:
            return 0  # one region, without background
        values: Sequence[int | list[int]] = self.regions or range(count)
        for channel, value in enumerate(values):
            if value in (self.lesion, [self.lesion]):
                return channel
        raise ValueError(
            f"The probabilities {path} must have a channel for the lesion label "
            f"{self.lesion}. Got {count} channels, none of which is that label alone: "
            "choose another --label."
        )


def read_labels(
    folders: Iterable[Path], *, lesion: int | None = None, ignore: int | None = None
) -> Labels:
    """Read what label values mean from the first ``dataset.json`` that is there.

    Args:
        folders: Where to look, one after the other.
        lesion: The lesion label. None is 1, and a value that ``dataset.json`` does not
            explain is refused then; otherwise all other values are background.
        ignore: The ignore label; None asks ``dataset.json``.

    Raises:
        ValueError: If ``dataset.json`` is damaged, or lesion and ignore label are the
            same or 0.
    """
    meanings: dict[str, int | list[int]] = {}
    files = [folder / "dataset.json" for folder in folders]
    for path in [file for file in files if file.is_file()][:1]:
        meanings = parse(_DataSet, read_json(path), str(path)).labels
    ignored = meanings.get("ignore")
    if ignore is None and isinstance(ignored, int):
        ignore = ignored
    label = 1 if lesion is None else lesion
    if label < 1 or ignore in (0, label):
        raise ValueError(
            "The lesion label must be at least 1, and the ignore label another one but "
            f"0. Got {label} for lesions and {ignore} to ignore."
        )
    values = [v if isinstance(v, list) else [v] for v in meanings.values()]
    known = frozenset({0, label}).union(*values, () if ignore is None else {ignore})
    regions = [v for n, v in meanings.items() if n != "ignore" and v not in (0, [0])]
    return Labels(
        lesion=label,
        ignore=ignore,
        known=known if lesion is None else None,
        regions=tuple(regions) if any(isinstance(v, list) for v in regions) else (),
    )


def read_probabilities(path: Path, prediction: Array, labels: Labels) -> Array:
    """Read the lesion probability that nnU-Net saved beside a prediction.

    Args:
        path: The ``.npz`` file.
        prediction: The label map, shape (X, Y, Z).
        labels: What label values mean; says which class is the lesion.

    Returns:
        Shape (X, Y, Z).

    Raises:
        ValueError: If it does not hold probabilities of that prediction, or is missing.
    """
    try:
        with path.open("rb") as file:  # numpy would leave a damaged one open
            content = np.load(file, allow_pickle=False)
            saved = np.asarray(content["probabilities"])
    except Exception as error:  # a damaged archive can fail anywhere in numpy
        raise ValueError(
            f"The probabilities {path} cannot be read: {error!r}. Predict the case "
            "with --save_probabilities, or evaluate without --probabilities."
        ) from error
    shape = prediction.shape[::-1]
    fits = saved.ndim == 4 and saved.shape[1:] == shape and saved.dtype.kind == "f"
    # NaN is not in between
    if not fits or not ((saved >= 0) & (saved <= 1 + 1e-3)).all():
        raise ValueError(
            f"The probabilities {path} must be numbers from 0 to 1 of the shape "
            f"(classes, {', '.join(map(str, shape))}), that of the label map in "
            f"reverse. Got {saved.shape} of {saved.dtype}: they are of another "
            "prediction."
        )
    chosen = np.asarray(saved[labels.channel(path, len(saved))].transpose(2, 1, 0))
    mask = prediction == labels.lesion
    if mask.any():
        # Only their order is compared, because a label map may come from any threshold,
        # and postprocessing may have removed lesions.
        usual = np.median(chosen[mask])
        above = np.count_nonzero((chosen >= usual) & ~mask)
        if above > max(mask.size // 100, np.count_nonzero(mask)):
            raise ValueError(
                f"The probabilities {path} must be high where the label map has "
                f"lesion. Got {above} voxels outside that have at least the median of "
                "those inside: they are of another prediction, or nnU-Net turned the "
                "axes (NibabelIOWithReorient), so that they cannot be used."
            )
    return chosen
