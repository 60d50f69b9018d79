"""What the values of label maps mean.

Words:

- *lesion label*: the value of lesion voxels.
- *ignore label*: the value of voxels that nobody judged. They are left out of
  reference and prediction alike. nnU-Net has it as ``ignore`` in ``dataset.json``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.files import read_json
from nnunet_cel.schema import Model, parse

__all__ = ["Labels", "read_labels"]

Array = npt.NDArray[Any]


class _DataSet(Model, extra="ignore"):
    """What is read of nnU-Net's ``dataset.json``; a list is a region."""

    labels: dict[str, int | list[int]]


@dataclass(frozen=True)
class Labels:
    """What the values of label maps mean.

    Args:
        lesion: The lesion label.
        ignore: The ignore label, None if there is none.
        others: Values that count as background beside 0, None for all others.
        regions: Value or values of each region but background, in the order of their
            channels; empty where channels are labels.
    """

    lesion: int = 1
    ignore: int | None = None
    others: frozenset[int] | None = frozenset()
    regions: tuple[int | list[int], ...] = ()

    def check(self, path: Path, voxels: Array) -> None:
        """Refuse a label map with a value that nobody explained.

        Raises:
            ValueError: If there is one; the message names the file.
        """
        if self.others is None:
            return
        known = {0, self.lesion, *self.others}
        if self.ignore is not None:
            known.add(self.ignore)
        strange = sorted(set(np.unique(voxels).tolist()) - known)
        if strange:
            raise ValueError(
                f"The label map {path} must have no values but "
                f"{', '.join(map(str, sorted(known)))}. Got "
                f"{', '.join(map(str, strange[:5]))} too: name the lesions' value with "
                "--label (all others are background then), or put the dataset.json "
                "beside it."
            )

    def channel(self, count: int) -> int:
        """Return the channel of the lesion among probabilities.

        Args:
            count: How many channels there are.

        Raises:
            ValueError: If it is not clear which one it is.
        """
        if count == 1:
            return 0  # one region, without background
        if not self.regions and self.lesion < count:
            return self.lesion
        for channel, value in enumerate(self.regions):
            if value in (self.lesion, [self.lesion]):
                return channel
        raise ValueError(
            f"The probabilities must have a channel for the lesion label {self.lesion}."
            f" Got {count} channels, none of which is that label alone: choose another "
            "--label."
        )


def read_labels(
    folders: Iterable[Path],
    *,
    lesion: int | None = None,
    ignore: int | None = None,
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
    files = [folder / "dataset.json" for folder in folders]
    path = next((file for file in files if file.is_file()), None)
    meanings = _read(path) if path else {}
    ignored = meanings.get("ignore")
    if ignore is None and isinstance(ignored, int):
        ignore = ignored
    label = 1 if lesion is None else lesion
    if label < 1 or ignore == 0 or label == ignore:
        raise ValueError(
            "The lesion label must be at least 1, and the ignore label another one but "
            f"0. Got {label} for lesions and {ignore} to ignore."
        )
    values = [v if isinstance(v, list) else [v] for v in meanings.values()]
    regions = [v for n, v in meanings.items() if n != "ignore" and v not in (0, [0])]
    return Labels(
        lesion=label,
        ignore=ignore,
        others=frozenset().union(*values) if lesion is None else None,
        regions=tuple(regions) if any(isinstance(v, list) for v in regions) else (),
    )


def _read(path: Path) -> dict[str, int | list[int]]:
    """Return the entry ``labels`` of a ``dataset.json``."""
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"The file {path} is not JSON: {error}.") from error
    return parse(_DataSet, content, str(path)).labels
