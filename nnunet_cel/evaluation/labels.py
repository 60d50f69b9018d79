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

__all__ = ["Labels", "read_labels"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Labels:
    """What the values of label maps mean.

    Args:
        lesion: The lesion label.
        ignore: The ignore label, None if there is none.
        others: Values that count as background beside 0, None for all others.
        header: The entry ``labels`` of ``dataset.json``, None if there is no such file.
    """

    lesion: int = 1
    ignore: int | None = None
    others: frozenset[int] | None = frozenset()
    header: dict[str, Any] | None = None

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
        header = self.header or {}
        if not any(isinstance(value, list) for value in header.values()):
            if self.lesion < count:
                return self.lesion
            regions = []
        else:
            regions = [
                value
                for name, value in header.items()
                if name != "ignore" and value not in (0, [0])
            ]
        for channel, value in enumerate(regions):
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
    header = None
    for folder in folders:
        path = folder / "dataset.json"
        if path.is_file():
            header = _read_header(path)
            break
    values = [_values(value) for value in (header or {}).values()]
    others = frozenset(value for part in values for value in part)
    if ignore is None and header is not None and isinstance(header.get("ignore"), int):
        ignore = header["ignore"]
    label = 1 if lesion is None else lesion
    if label < 1 or ignore == 0 or label == ignore:
        raise ValueError(
            "The lesion label must be at least 1, and the ignore label another one but "
            f"0. Got {label} for lesions and {ignore} to ignore."
        )
    return Labels(label, ignore, others if lesion is None else None, header)


def _read_header(path: Path) -> dict[str, Any]:
    """Return the entry ``labels`` of a ``dataset.json``."""
    try:
        labels = read_json(path)["labels"]
        for value in labels.values():
            _values(value)
        if isinstance(labels.get("ignore"), bool) or labels.get("ignore") == 0:
            raise ValueError("the ignore label is no label")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The file {path} must have the entry 'labels' with a number, or a list of "
            "numbers, for every label, as nnU-Net writes it. Mend it, or move it away."
        ) from error
    return dict(labels)


def _values(value: Any) -> list[int]:
    """Return the values of a label or region."""
    return [int(v) for v in value] if isinstance(value, list) else [int(value)]
