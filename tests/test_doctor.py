"""The check of the installation tells what is wrong and how to repair it."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import pytest

from nnunet_cel import discovery, doctor
from nnunet_cel.doctor import Check


@pytest.fixture
def make_python(tmp_path):
    """Make a program that prints `output` in place of an interpreter."""

    def make(output: str, status: int = 0) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {status}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("found", "supported", "status"),
    [
        ("2.8.1", ">=2.8.1,<2.9", "ok"),
        ("2.8.0", ">=2.8.1,<2.9", "WRONG"),
        ("2.9.0", ">=2.8.1,<2.9", "WRONG"),
        (None, ">=2.8.1,<2.9", "WRONG"),
        ("2.10.0+cu130", ">=2.4", "ok"),  # 10 is more than 4; the build is no matter
        ("2.12.0.dev1", ">=2.4", "ok"),
        ("1", "", "ok"),
    ],
)
def test_version(found, supported, status):
    """A version is right if it lies in the supported range."""
    check = doctor.check_version("nnunetv2", found, supported)

    assert check.status == status
    assert bool(check.cure) == (status == "WRONG")


def test_version_cure():
    """The cure for a wrong version is the command that installs a right one."""
    check = doctor.check_version("nnunetv2", "2.7", ">=2.8.1,<2.9")

    assert check.cure == 'pip install "nnunetv2>=2.8.1,<2.9"'


def test_supported_versions_are_ours():
    """The range is read from our own metadata, where it is declared."""
    (check,) = [c for c in _checks_named("nnunetv2") if c.status == "ok"]

    assert "supported: <2.9,>=2.8.1" in check.found


def _checks_named(name: str) -> list[Check]:
    """Return the first few checks, those of the versions, with that name."""
    checks = doctor._checks()
    return [c for c, _ in zip(checks, range(4), strict=False) if c.name == name]


def test_discovery_here(monkeypatch):
    """The discovery is active, wrong if it is not, and it says why."""
    active = doctor.check_discovery_here()
    monkeypatch.setattr(discovery, "is_active", lambda: False)
    monkeypatch.delenv("NNUNET_CEL_DISABLE", raising=False)
    inactive = doctor.check_discovery_here()
    monkeypatch.setenv("NNUNET_CEL_DISABLE", "1")
    disabled = doctor.check_discovery_here()

    assert [c.status for c in (active, inactive, disabled)] == ["ok", "WRONG", "WRONG"]
    assert "pip install" in inactive.cure
    assert disabled.cure.startswith("unset NNUNET_CEL_DISABLE")


@pytest.mark.slow
def test_discovery_elsewhere():
    """A fresh interpreter of this environment finds trainer and planner."""
    check = doctor.check_discovery_elsewhere()

    assert (check.status, check.cure) == ("ok", "")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("output", "status"),
    [
        ('["somewhere.else", null]', 0),
        ("no JSON", 0),
        ("", 0),
        ('["nnunet_cel.training.trainer", "nnunet_cel.planning.planner"]', 1),
    ],
)
def test_discovery_elsewhere_fails(make_python, output, status):
    """Any other answer than our two modules is wrong."""
    check = doctor.check_discovery_elsewhere(make_python(output, status))

    assert check.status == "WRONG"
    assert "pip install" in check.cure


def test_processor():
    """The last line on processors is the CPU with the number of its cores."""
    *_, cpu = doctor.check_processor()

    assert (cpu.name, cpu.status) == ("cpu", "ok")
    assert f"{doctor._count_cores()} cores" in cpu.found


def test_optional():
    """A module that cannot be imported is no more than a note."""
    there = doctor.check_optional("json")
    missing = doctor.check_optional("no_such_module")

    assert (there.status, missing.status) == ("ok", "note")
    assert "TransUNet" in missing.cure


def test_folder(tmp_path):
    """A folder is right if it can be written, and nothing is left in it."""
    check = doctor.check_folder("nnUNet_raw", str(tmp_path))

    assert check.status == "ok"
    assert "GiB free" in check.found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, ""])
def test_folder_not_set(value):
    """The cure for a variable that is not set is to set it."""
    check = doctor.check_folder("nnUNet_raw", value)

    assert (check.status, check.found) == ("WRONG", "not set")
    assert check.cure.startswith("export nnUNet_raw=")


def test_folder_missing(tmp_path):
    """The cure for a folder that does not exist is to make it."""
    missing = tmp_path / "missing"

    check = doctor.check_folder("nnUNet_raw", str(missing))

    assert (check.status, check.cure) == ("WRONG", f"mkdir -p {missing}")


def test_folder_is_a_file(tmp_path):
    """A file in place of the folder is wrong, and mkdir is no cure for it."""
    file = tmp_path / "file"
    file.touch()

    check = doctor.check_folder("nnUNet_raw", str(file))

    assert check.status == "WRONG"
    assert "not a folder" in check.found
    assert "mkdir" not in check.cure


def test_folder_not_writable(tmp_path, monkeypatch):
    """A folder in which no file can be made is wrong."""

    def refuse(*, dir: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    check = doctor.check_folder("nnUNet_raw", str(tmp_path))

    assert check.status == "WRONG"
    assert "Permission denied" in check.found


def test_shared_memory(tmp_path, monkeypatch):
    """Little shared memory is a note; none that is known of is not."""
    usage = {"total": 64 * 2**20, "used": 0, "free": 0}
    monkeypatch.setattr("shutil.disk_usage", lambda _: argparse.Namespace(**usage))

    little = doctor.check_shared_memory(tmp_path)
    none = doctor.check_shared_memory(tmp_path / "missing")

    assert (little.status, none.status) == ("note", "ok")
    assert "--shm-size" in little.cure


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(["ok", "note"], 0), (["ok", "WRONG", "ok"], 1)],
)
def test_run(monkeypatch, capsys, statuses, expected):
    """The exit status is 1 if and only if something is wrong; each check is a line."""
    checks = [Check("thing", status, "found", "cure") for status in statuses]
    monkeypatch.setattr(doctor, "_checks", lambda: iter(checks))

    status = doctor.run(argparse.Namespace())

    lines = capsys.readouterr().out.splitlines()
    assert status == expected
    assert [line.split()[0] for line in lines] == statuses
