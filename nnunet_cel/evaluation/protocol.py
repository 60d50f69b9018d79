"""Protocols: the rules of an evaluation, read from a YAML file.

A protocol says what a lesion is, when it is found, and what each metric is where it
has nothing to measure. It is complete or it is refused, so that no rule is left to
chance. ``paper`` and ``anima`` come with the package.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from nnunet_cel.evaluation.metrics import METRICS, EdgeCase
from nnunet_cel.files import read_yaml
from nnunet_cel.schema import Model, parse

__all__ = ["PROTOCOLS", "Overlap", "Protocol", "load_protocol"]

PROTOCOLS = ("paper", "anima")
"""Protocols that come with the package; the first is the default."""

_FRACTIONS = {"any": (), "fraction": ("fraction",), "anima": ("alpha", "beta", "gamma")}

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Overlap(Model):
    """When a lesion is hit by lesions of the other map.

    Args:
        rule: ``"any"``: they share a voxel. ``"fraction"``: they cover at least
            `fraction` of it. ``"anima"``: they cover more than `alpha` of it, and those
            that cover it, the largest overlap first, until they make up `gamma` of the
            overlap, have at most `beta` of their own volume outside.
        fraction: From 0, exclusive, to 1. A rule has its own numbers only.
        alpha: From 0 to 1.
        beta: From 0 to 1.
        gamma: From 0 to 1.
    """

    rule: Literal["any", "fraction", "anima"]
    fraction: Annotated[float, Field(gt=0, le=1)] = math.nan
    alpha: _Share = math.nan
    beta: _Share = math.nan
    gamma: _Share = math.nan

    @model_validator(mode="after")
    def _check_fractions(self) -> Overlap:
        """Refuse numbers that the rule does not use, and a rule without its own."""
        needed = ("rule", *_FRACTIONS[self.rule])
        if self.model_fields_set != set(needed):
            raise ValueError(
                f"must have the entries {', '.join(needed)}. "
                f"Got {', '.join(sorted(self.model_fields_set))}."
            )
        return self


class Protocol(Model):
    """The rules of an evaluation.

    Args:
        name: Name of the protocol.
        version: Raised whenever a rule changes.
        description: Where the rules come from.
        connectivity: Neighbors of a voxel that belong to its lesion: 6, 18 or 26.
        min_voxels: Lesions of fewer voxels are dropped.
        above_mm3: Lesions of this volume or less are dropped.
        overlap: When a lesion is hit.
        on_dropped_reference: Whether a predicted lesion that touches nothing but
            dropped reference lesions is ``"ignored"`` or ``"counted"`` as false.
        size_bins_mm3: Borders of the classes of lesion size in mm3, rising.
        edge_cases: Values of each metric where it has nothing to measure. A metric
            that was added later than the first ones has them in its own row, too, for
            protocols that do not name it.
    """

    name: _Text
    version: Annotated[int, Field(ge=1)]
    description: _Text
    connectivity: Literal[6, 18, 26]
    min_voxels: Annotated[int, Field(ge=1)]
    above_mm3: Annotated[float, Field(ge=0)]
    overlap: Overlap
    on_dropped_reference: Literal["ignored", "counted"]
    size_bins_mm3: Annotated[tuple[int | float, ...], Field(strict=False)]
    edge_cases: Mapping[str, EdgeCase]

    @field_validator("size_bins_mm3")
    @classmethod
    def _check_bins(cls, bins: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse borders that do not rise from above 0."""
        if not bins or any(b <= a for a, b in itertools.pairwise((0, *bins))):
            raise ValueError(f"must be rising numbers > 0. Got {list(bins)}.")
        return bins

    @field_validator("edge_cases", mode="before")
    @classmethod
    def _complete_edge_cases(cls, content: Any) -> Any:
        """Refuse unknown and missing metrics; add those that came later."""
        if not isinstance(content, Mapping):
            return content
        later = {short: m.edge_case for short, m in METRICS.items() if m.edge_case}
        found = {**later, **content}
        missing, unknown = (
            ", ".join(map(repr, names)) or "none"
            for names in (METRICS.keys() - found, found.keys() - METRICS)
        )
        if found.keys() != METRICS.keys():
            raise ValueError(
                f"must have a row for every metric: {', '.join(METRICS)}. Got no row "
                f"for {missing} and one for {unknown}, which is no metric."
            )
        return {short: found[short] for short in METRICS}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the protocol's file."""
        return self.model_dump(exclude_unset=True)


def load_protocol(source: Path | str = PROTOCOLS[0]) -> Protocol:
    """Read a protocol.

    Args:
        source: One of :data:`PROTOCOLS`, or a YAML file.

    Raises:
        FileNotFoundError: If there is no such protocol or file.
        ValueError: If the file is not a complete protocol; the message names the entry.
    """
    path = Path(source)
    if source in PROTOCOLS:
        path = Path(__file__).parent / "protocols" / f"{source}.yaml"
    elif not path.is_file():
        raise FileNotFoundError(
            f"The protocol must be one of {', '.join(PROTOCOLS)}, or a YAML file. "
            f"Got {str(source)!r} instead, which is no file."
        )
    return parse(Protocol, read_yaml(path, "protocol"), str(source))
