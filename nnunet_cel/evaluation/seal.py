"""Tells whether the files of an evaluation are as they were written.

Reports, comparisons and exports read the files of an evaluation back, and state what
stands in them. So the summary holds the SHA-256 of each table, and one of itself. This
finds damage and files of different evaluations, not forgery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_cel.files import sha256

__all__ = ["check_seal", "sealed"]

_FILES, _SEAL = "files", "seal"


def sealed(summary: Mapping[str, Any], tables: Iterable[Path]) -> dict[str, Any]:
    """Return a summary with the SHA-256 of tables that are written, and of itself."""
    content = {**summary, _FILES: {path.name: sha256(path) for path in tables}}
    return {**content, _SEAL: _digest(content)}


def check_seal(path: Path, summary: Mapping[str, Any]) -> None:
    """Refuse a summary, or a table beside it, that was changed.

    A summary without seals is left alone.

    Raises:
        ValueError: If a file was changed or is missing; the message names it.
    """
    files = summary.get(_FILES)
    if _SEAL not in summary and files is None:
        return
    content = {name: value for name, value in summary.items() if name != _SEAL}
    changed = []
    if summary.get(_SEAL) != _digest(content) or not isinstance(files, dict):
        changed = [path]
    else:
        tables = {path.parent / Path(name).name: known for name, known in files.items()}
        changed = [
            table
            for table, known in tables.items()
            if not table.is_file() or sha256(table) != known
        ]
    if changed:
        raise ValueError(
            "The files of an evaluation must be as they were written. Changed or "
            f"missing: {', '.join(map(str, changed))}. Evaluate again."
        )


def _digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of content that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
