"""Build backend: setuptools, plus the `.pth` file that starts the discovery.

setuptools has no setting for a file at the root of site-packages that is installed by
a wheel and by an editable wheel alike. This backend lets setuptools build either kind
and writes `nnunet_cel.pth` and its line of the RECORD into it.

`nnunet_cel.pth` sorts behind the `__editable__*.pth` of setuptools, so in an editable
install the package can be imported by the time that its line is read.

Times and permissions in the wheel are fixed: the same files make the same wheel.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta as _setuptools

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

PTH_NAME = "nnunet_cel.pth"
PTH_TEXT = "import nnunet_cel.discovery\n"

# The earliest time that a zip archive can hold.
_EARLIEST = (1980, 1, 1, 0, 0, 0)

_ConfigSettings = dict[str, Any] | None

build_sdist = _setuptools.build_sdist
get_requires_for_build_editable = _setuptools.get_requires_for_build_editable
get_requires_for_build_sdist = _setuptools.get_requires_for_build_sdist
get_requires_for_build_wheel = _setuptools.get_requires_for_build_wheel
prepare_metadata_for_build_editable = _setuptools.prepare_metadata_for_build_editable
prepare_metadata_for_build_wheel = _setuptools.prepare_metadata_for_build_wheel


def build_wheel(
    wheel_directory: str,
    config_settings: _ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel (PEP 517) and return its file name."""
    # setuptools collects here and never removes what has gone from the tree.
    shutil.rmtree(Path("build", "lib"), ignore_errors=True)
    name: str = _setuptools.build_wheel(
        wheel_directory, config_settings, metadata_directory
    )
    _add_pth(Path(wheel_directory, name))
    return name


def build_editable(
    wheel_directory: str,
    config_settings: _ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the editable wheel (PEP 660) and return its file name."""
    name: str = _setuptools.build_editable(
        wheel_directory, config_settings, metadata_directory
    )
    _add_pth(Path(wheel_directory, name))
    return name


def _add_pth(wheel: Path) -> None:
    """Rewrite `wheel` with the `.pth` file; the RECORD stays the last entry."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    record = next(name for name in contents if name.endswith(".dist-info/RECORD"))
    del contents[record]
    contents[PTH_NAME] = PTH_TEXT.encode("ascii")
    metadata = record.removesuffix("RECORD")
    names = sorted(contents, key=lambda name: (name.startswith(metadata), name))

    temporary = wheel.with_name(f"{wheel.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in names:
                _write(archive, name, contents[name])
            _write(archive, record, _record_text(record, names, contents))
        temporary.replace(wheel)
    finally:
        temporary.unlink(missing_ok=True)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=_timestamp())
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix, on every system
    info.external_attr = 0o100644 << 16
    archive.writestr(info, content)


def _record_text(record: str, names: list[str], contents: dict[str, bytes]) -> bytes:
    """Return the RECORD: name, hash and size of each file, and itself with neither."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name in names:
        digest = hashlib.sha256(contents[name]).digest()
        code = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        writer.writerow([name, f"sha256={code}", len(contents[name])])
    writer.writerow([record, "", ""])
    return text.getvalue().encode("utf-8")


def _timestamp() -> tuple[int, int, int, int, int, int]:
    """Return SOURCE_DATE_EPOCH where it is set, else the earliest time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return _EARLIEST
    now = time.gmtime(int(epoch))
    return max(_EARLIEST, (*now[:3], *now[3:6]))
