"""Protocols: the rules of an evaluation, read from a YAML file.

A protocol says what a lesion is, when it is found, and what each metric is where it
has nothing to measure. It is complete or it is refused, so that no rule is left to
chance. ``paper`` and ``anima`` come with the package.
"""

from __future__ import annotations

import difflib
import itertools
import math
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from nnunet_cel.evaluation.metrics import METRICS, EdgeCase

__all__ = ["PROTOCOLS", "Overlap", "Protocol", "load_protocol", "parse_protocol"]

PROTOCOLS = ("paper", "anima")
"""Protocols that come with the package; the first is the default."""

_CONNECTIVITIES = (6, 18, 26)
_FRACTIONS = {"any": (), "fraction": ("fraction",), "anima": ("alpha", "beta", "gamma")}
_EDGES = tuple(field.name for field in fields(EdgeCase))

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class Overlap:
    """When a lesion is hit by lesions of the other map.

    Args:
        rule: ``"any"``: they share a voxel. ``"fraction"``: they cover at least
            `fraction` of it. ``"anima"``: they cover more than `alpha` of it, and those
            that cover it, the largest overlap first, until they make up `gamma` of the
            overlap, have at most `beta` of their own volume outside.
        fraction: From 0, exclusive, to 1.
        alpha: From 0 to 1.
        beta: From 0 to 1.
        gamma: From 0 to 1.
    """

    rule: Literal["any", "fraction", "anima"]
    fraction: float = math.nan
    alpha: float = math.nan
    beta: float = math.nan
    gamma: float = math.nan


@dataclass(frozen=True)
class Protocol:
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
        edge_cases: Values of each metric where it has nothing to measure.
    """

    name: str
    version: int
    description: str
    connectivity: Literal[6, 18, 26]
    min_voxels: int
    above_mm3: float
    overlap: Overlap
    on_dropped_reference: Literal["ignored", "counted"]
    size_bins_mm3: tuple[float, ...]
    edge_cases: Mapping[str, EdgeCase]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the protocol's file, with None for NaN."""
        content = asdict(self)
        names = ("rule", *_FRACTIONS[self.overlap.rule])
        content["overlap"] = {name: content["overlap"][name] for name in names}
        content["size_bins_mm3"] = list(self.size_bins_mm3)
        for values in content["edge_cases"].values():
            for edge, value in values.items():
                values[edge] = None if math.isnan(value) else value
        return content


def load_protocol(source: Path | str = PROTOCOLS[0]) -> Protocol:
    """Read a protocol.

    Args:
        source: One of :data:`PROTOCOLS`, or a YAML file.

    Raises:
        FileNotFoundError: If there is no such protocol or file.
        ValueError: If the file is not a complete protocol; the message names the entry.
    """
    if str(source) in PROTOCOLS:
        folder = resources.files("nnunet_cel.evaluation") / "protocols"
        return parse_protocol(
            (folder / f"{source}.yaml").read_text(encoding="utf-8"), str(source)
        )
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"The protocol must be one of {', '.join(PROTOCOLS)}, or a YAML file. "
            f"Got {str(source)!r} instead, which is no file."
        )
    try:
        text = Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"The protocol {source} must be a text file.") from error
    return parse_protocol(text, str(source))


def parse_protocol(text: str, source: str) -> Protocol:
    """Read a protocol from the text of its file.

    Args:
        text: YAML.
        source: What to call it in messages.

    Raises:
        ValueError: If it is not a complete protocol; the message names the entry.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    # The others come from dates, numbers and nesting that Python cannot hold.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ValueError(f"The protocol {source} is not YAML: {reason}.") from error
    top = _Entries(content, [field.name for field in fields(Protocol)], source)
    return Protocol(
        name=top.text("name"),
        version=top.whole("version", at_least=1),
        description=top.text("description"),
        connectivity=top.choice("connectivity", _CONNECTIVITIES),
        min_voxels=top.whole("min_voxels", at_least=1),
        above_mm3=top.number("above_mm3", at_least=0),
        overlap=_parse_overlap(top.get("overlap"), source),
        on_dropped_reference=top.choice("on_dropped_reference", ("ignored", "counted")),
        size_bins_mm3=_parse_bins(top),
        edge_cases=_parse_edge_cases(top.get("edge_cases"), source),
    )


class _Loader(yaml.SafeLoader):
    """Builds plain values only, and refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Return the mapping of a node."""
        keys = Counter(str(key.value) for key, _ in node.value)
        twice = [key for key, count in keys.items() if count > 1]
        if twice:
            what = f"the entry {reprlib.repr(twice[0])} is there twice"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark)
        return super().construct_mapping(node, deep=deep)


class _Entries:
    """The entries of a part of a protocol, all there and none beside them.

    Args:
        content: What stands in the file.
        names: The entries that it must have.
        where: What to call the part in messages.
    """

    def __init__(self, content: Any, names: Iterable[str], where: str) -> None:
        names = list(names)
        if not isinstance(content, dict):
            raise ValueError(
                f"The protocol {where} must have the entries {', '.join(names)}. Got "
                f"{reprlib.repr(content)} instead."
            )
        for name in content:
            if name not in names:
                close = difflib.get_close_matches(str(name), names, 1)
                hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
                raise ValueError(
                    f"The protocol {where} has an entry that is not known, "
                    f"{reprlib.repr(name)}. "
                    f"{hint} Its entries are {', '.join(names)}."
                )
        for name in names:
            if name not in content:
                raise ValueError(
                    f"The protocol {where} must have the entry {name!r}. It is "
                    "missing: add it, for example as in the protocol 'paper'."
                )
        self._content, self._where = content, where

    def get(self, name: str) -> Any:
        """Return an entry as it is."""
        return self._content[name]

    def text(self, name: str) -> str:
        """Return an entry that is text."""
        value = self.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "text")
        return value.strip()

    def whole(self, name: str, *, at_least: int) -> int:
        """Return an entry that is a whole number."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise self.wrong(name, f"a whole number >= {at_least}")
        return value

    def number(
        self, name: str, *, at_least: float = -math.inf, at_most: float = math.inf
    ) -> float:
        """Return an entry that is a finite number."""
        value = self.get(name)
        if not _is_number(value) or not at_least <= value <= at_most:
            limits = "" if at_least == -math.inf else f" >= {at_least}"
            if at_most < math.inf:
                limits = f" from {at_least} to {at_most}"
            raise self.wrong(name, f"a number{limits}")
        return float(value)

    def choice(self, name: str, choices: tuple[Any, ...]) -> Any:
        """Return an entry that is one of the choices."""
        value = self.get(name)
        if isinstance(value, (bool, float)) or value not in choices:
            raise self.wrong(name, f"one of {', '.join(map(str, choices))}")
        return value

    def wrong(self, name: str, rule: str) -> ValueError:
        """Return the error for an entry that breaks its rule."""
        return ValueError(
            f"The entry {name!r} of the protocol {self._where} must be {rule}. Got "
            f"{reprlib.repr(self.get(name))} instead."
        )


def _parse_overlap(content: Any, source: str) -> Overlap:
    """Return the overlap rule."""
    where = f"{source}, overlap,"
    rule = content.get("rule") if isinstance(content, dict) else None
    names = _FRACTIONS.get(rule, ()) if isinstance(rule, str) else ()
    entries = _Entries(content, ["rule", *names], where)
    rule = entries.choice("rule", tuple(_FRACTIONS))
    values = {name: entries.number(name, at_least=0, at_most=1) for name in names}
    if values.get("fraction") == 0:
        raise entries.wrong("fraction", "above 0; 'rule: any' is an overlap of a voxel")
    return Overlap(rule, **values)


def _parse_bins(top: _Entries) -> tuple[float, ...]:
    """Return the borders of the size bins."""
    bins = top.get("size_bins_mm3")
    rule = "a list of rising numbers > 0"
    if not isinstance(bins, list) or not bins or not all(map(_is_number, bins)):
        raise top.wrong("size_bins_mm3", rule)
    if bins[0] <= 0 or any(b <= a for a, b in itertools.pairwise(bins)):
        raise top.wrong("size_bins_mm3", rule)
    return tuple(bins)


def _parse_edge_cases(content: Any, source: str) -> dict[str, EdgeCase]:
    """Return the values of the edge cases of every metric."""
    table = _Entries(content, METRICS, f"{source}, edge_cases,")
    edge_cases = {}
    for metric in METRICS:
        row = _Entries(table.get(metric), _EDGES, f"{source}, edge_cases, {metric},")
        values = {}
        for edge in _EDGES:
            value = row.get(edge)
            if not _is_number(value) and not (
                isinstance(value, float) and math.isnan(value)
            ):
                raise row.wrong(edge, "a finite number, or .nan to leave the case out")
            values[edge] = float(value)
        edge_cases[metric] = EdgeCase(**values)
    return edge_cases


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
