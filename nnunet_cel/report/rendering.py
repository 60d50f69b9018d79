"""The templates of the package, and how they write numbers.

Templates escape whatever they are given: names of cases, files and models come from
outside and may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import jinja2

__all__ = ["environment", "formatter"]

_DASH, _MINUS = "\u2013", "\u2212"


def formatter(pattern: str) -> Callable[[float | None], str]:
    """Return a function that formats numbers, and None and NaN as a dash."""

    def apply(value: float | None) -> str:
        if value is None or math.isnan(value):
            return _DASH
        used = pattern if value else pattern.lstrip("+")  # zero has no sign
        return format(value, used).replace("-", _MINUS)

    return apply


def _probability(value: float | None) -> str:
    """Return a p value; it is never 0."""
    if value is not None and value < 0.0005:
        return "< 0.001"
    return formatter(".3f")(value)


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Return the environment of the templates."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("nnunet_cel.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(
        two=formatter(".2f"),
        three=formatter(".3f"),
        signed=formatter("+.3f"),
        short=formatter("g"),
        probability=_probability,
    )
    return templates
