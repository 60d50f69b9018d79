"""Damage for files: what disks, networks, editors and other programs do to them.

A *damage* has a name, and turns the bytes of a whole file into those of a damaged one.
Each table of damages is for one format. The names say what is wrong.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Damage = Callable[[bytes], bytes]

HEADER = 352  # bytes before the voxels of a NIfTI file


def bytewise(*, seeds: int = 2) -> dict[str, Damage]:
    """Return damages that do not care for the format."""
    damages: dict[str, Damage] = {
        "empty": lambda content: b"",
        "one byte": lambda content: content[:1],
        "first half": lambda content: content[: len(content) // 2],
        "last byte missing": lambda content: content[:-1],
        "zeros": lambda content: bytes(len(content)),
        "a page of the provider": lambda content: b"<html>404 Not Found</html>",
        "noise": lambda content: random.Random(0).randbytes(len(content)),
        "start missing": lambda content: content[17:],
    }

    def flip(seed: int) -> Damage:
        def damage(content: bytes) -> bytes:
            chance = random.Random(seed)
            changed = bytearray(content)
            for _ in range(max(3, len(content) // 50)):
                changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            return bytes(changed)

        return damage

    return damages | {f"bits flipped {seed}": flip(seed) for seed in range(seeds)}


# Name of a field of the NIfTI header: its offset and type.
_FIELDS = {
    "dims": (40, "<i2"),
    "dim1": (42, "<i2"),
    "dim3": (46, "<i2"),
    "datatype": (70, "<i2"),
    "pixdim1": (80, "<f4"),
    "vox_offset": (108, "<f4"),
    "scl_slope": (112, "<f4"),
    "xyzt_units": (123, "u1"),
    "srow_x0": (280, "<f4"),
    "srow_x1": (284, "<f4"),
    "magic": (344, "<u4"),
}
_VALUES: dict[str, list[float]] = {
    "dims": [0, 2],
    "dim1": [0, 32767],
    "dim3": [32767],
    "datatype": [0, 32, 128],
    "pixdim1": [np.nan, 0],
    "vox_offset": [3e9],
    "scl_slope": [np.nan],
    "xyzt_units": [1],
    "srow_x0": [0, np.nan],
    "srow_x1": [5],
    "magic": [0],
}


def set_field(name: str, value: float, *, compressed: bool) -> Damage:
    """Return the damage that sets a field of the header of a NIfTI file."""
    offset, kind = _FIELDS[name]

    def damage(content: bytes) -> bytes:
        raw = bytearray(gzip.decompress(content) if compressed else content)
        field = np.array([value]).astype(kind).tobytes()
        raw[offset : offset + len(field)] = field
        return gzip.compress(bytes(raw), mtime=0) if compressed else bytes(raw)

    return damage


def nifti(*, compressed: bool = True) -> dict[str, Damage]:
    """Return damages of NIfTI files."""
    damages = bytewise() | {
        f"{name} {value:g}": set_field(name, value, compressed=compressed)
        for name, values in _VALUES.items()
        for value in values
    }
    if not compressed:
        return damages

    def inside(change: Damage) -> Damage:
        return lambda content: gzip.compress(change(gzip.decompress(content)), mtime=0)

    return damages | {
        "header alone": inside(lambda raw: raw[:HEADER]),
        "last voxel missing": inside(lambda raw: raw[:-1]),
        "not compressed": gzip.decompress,
        "compressed twice": lambda content: gzip.compress(content, mtime=0),
        "checksum": lambda content: content[:-8] + bytes(4) + content[-4:],
        "NaN voxels": inside(lambda raw: raw[:HEADER] + b"\xff" * (len(raw) - HEADER)),
    }


def text() -> dict[str, Damage]:
    """Return damages of any text file."""
    return bytewise(seeds=1) | {
        "UTF-16": lambda content: content.decode().encode("utf-16"),
        "Latin-1": lambda content: b"\xe4\xf6\xfc" + content,
        "null byte": lambda content: content[:20] + b"\0" + content[20:],
    }


_WRONG: tuple[Any, ...] = (None, "text", [], {}, -1, float("nan"), True)


def json_file() -> dict[str, Damage]:
    """Return damages of any JSON file."""
    damages = text() | {
        f"is {value!r}": lambda content, value=value: json.dumps(value).encode()
        for value in _WRONG
    }
    damages |= {
        "trailing comma": lambda content: content.rstrip()[:-1] + b",}",
        "twice": lambda content: content + content,
    }
    return damages


def json_entries(
    content: bytes, *, depth: int = 3, each: int = 2
) -> Iterator[tuple[str, bytes]]:
    """Yield the JSON file with one entry after the other missing or of a wrong type.

    Args:
        content: The whole file.
        depth: How deep entries may lie.
        each: How many wrong values are tried for each entry.
    """
    whole = json.loads(content)
    chance = random.Random(0)
    for path in list(_paths(whole, depth)):
        for value in [..., *chance.sample(_WRONG, each)]:
            changed = json.loads(content)
            place = changed
            for key in path[:-1]:
                place = place[key]
            if value is ...:
                del place[path[-1]]
            elif type(place[path[-1]]) is type(value) and not place[path[-1]]:
                continue  # no damage
            else:
                place[path[-1]] = value
            what = "missing" if value is ... else repr(value)
            name = "/".join(map(str, path))
            yield f"{name} {what}", json.dumps(changed).encode()


def _paths(content: Any, depth: int) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of entries: all of objects, the first of lists."""
    if not depth:
        return
    if isinstance(content, dict):
        keys: list[Any] = list(content)
    else:
        keys = [0] if isinstance(content, list) and content else []
    for key in keys:
        yield (key,)
        for rest in _paths(content[key], depth - 1):
            yield (key, *rest)


def csv_file() -> dict[str, Damage]:
    """Return damages of any CSV file."""

    def lines(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
        return lambda content: b"\n".join(change(content.splitlines())) + b"\n"

    def column(change: Callable[[bytes], bytes]) -> Damage:
        """Change the last cell of every row but the first."""
        return lines(
            lambda rows: (
                [rows[0]]
                + [
                    b",".join([*row.split(b",")[:-1], change(row.split(b",")[-1])])
                    for row in rows[1:]
                ]
            )
        )

    return text() | {
        "header alone": lines(lambda rows: rows[:1]),
        "no header": lines(lambda rows: rows[1:]),
        "first column missing": lines(lambda r: [x.partition(b",")[2] for x in r]),
        "column twice": lines(lambda r: [x.partition(b",")[0] + b"," + x for x in r]),
        "a row twice": lines(lambda rows: [*rows, rows[-1]]),
        "a row missing": lines(lambda rows: rows[:-1]),
        "a cell too many": lines(lambda rows: [*rows[:-1], rows[-1] + b",,x"]),
        "a cell too few": lines(lambda rows: [*rows[:-1], rows[-1].partition(b",")[0]]),
        "text for numbers": column(lambda cell: b"text"),
        "empty cells": column(lambda cell: b""),
        "infinite": column(lambda cell: b"inf"),
        "negative": column(lambda cell: b"-7"),
    }


def yaml_file() -> dict[str, Damage]:
    """Return damages of YAML files with a mapping."""
    return text() | {
        "runs code": lambda c: b"name: !!python/object/apply:os.system ['exit 1']\n",
        "a list": lambda c: b"- 1\n- 2\n",
        "a number": lambda c: b"7\n",
        "tabs": lambda c: c.replace(b"  ", b"\t"),
        "two documents": lambda c: c + b"---\n" + c,
        "a key that is a list": lambda c: b"? [1, 2]\n: 3\n" + c,
        "an unknown alias": lambda c: b"name: *unknown\n",
    }


def itk() -> dict[str, Damage]:
    """Return damages of NRRD and MetaImage files, whose headers are text."""

    def line(start: bytes, new: bytes) -> Damage:
        def damage(content: bytes) -> bytes:
            first = content.find(start)
            if first < 0:
                return b"lacks " + start
            stop = content.index(b"\n", first)
            return content[:first] + new + content[stop:]

        return damage

    return bytewise() | {
        "sizes": line(b"sizes:", b"sizes: 99999 99999 99999"),
        "directions": line(b"space directions:", b"space directions: none none none"),
        "NaN directions": line(
            b"space directions:", b"space directions: (nan,0,0) (0,1,0) (0,0,1)"
        ),
        "DimSize": line(b"DimSize", b"DimSize = 99999 99999 99999"),
        "TransformMatrix": line(
            b"TransformMatrix", b"TransformMatrix = 0 0 0 0 0 0 0 0 0"
        ),
        "ElementSpacing": line(b"ElementSpacing", b"ElementSpacing = 0 -1 nan"),
        "absent file": line(b"ElementDataFile", b"ElementDataFile = absent.raw"),
    }


def dicom() -> dict[str, Damage]:
    """Return damages of one DICOM file of a series."""

    def tag(group: int, element: int, change: Callable[[bytes], bytes]) -> Damage:
        def damage(content: bytes) -> bytes:
            mark = np.array([group, element], "<u2").tobytes()
            start = content.find(mark, 132)
            if start < 0:
                return b"lacks the tag"
            # With or without the two letters that tell the type.
            explicit = content[start + 4 : start + 6].isalpha()
            sizes = (
                content[start + 6 : start + 8]
                if explicit
                else (content[start + 4 : start + 8])
            )
            size = int.from_bytes(sizes, "little")
            value = content[start + 8 : start + 8 + size]
            new = change(value)[:size].ljust(size)
            return content[: start + 8] + new + content[start + 8 + size :]

        return damage

    return bytewise() | {
        "place": tag(0x20, 0x32, lambda v: b"1\\2\\999"),
        "place NaN": tag(0x20, 0x32, lambda v: b"nan\\nan\\nan"),
        "place text": tag(0x20, 0x32, lambda v: b"here"),
        "no place": tag(0x20, 0x32, lambda v: b""),
        "direction": tag(0x20, 0x37, lambda v: b"0\\0\\0\\0\\0\\0"),
        "no direction": tag(0x20, 0x37, lambda v: b""),
        "spacing": tag(0x28, 0x30, lambda v: b"0\\0"),
        "other series": tag(0x20, 0x0E, lambda v: b"1.2.3"),
    }


def training_log() -> dict[str, Damage]:
    """Return damages of nnU-Net's training logs."""
    return text() | {
        "no number": lambda c: c.replace(b"0.5", b"abc"),
    }
