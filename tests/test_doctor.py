"""The check of the installation tells what is wrong and how to repair it."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import pytest

from nnunet_cel import discovery, doctor
from nnunet_cel.doctor import Check


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
        ("somewhere.else nothing", 0),
        ("", 0),
        ("nnunet_cel.training.trainer nnunet_cel.planning.planner", 1),
    ],
)
def test_discovery_elsewhere_fails(tmp_path, output, status):
    """Any other answer than our two modules is wrong."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
    python.chmod(0o755)

    check = doctor.check_discovery_elsewhere(str(python))

    assert check.status == "WRONG"
    assert "pip install" in check.cure


def test_machine(tmp_path, monkeypatch):
    """The CPU is always there; little shared memory and missing modules are notes."""
    *_, cpu = doctor.check_processor()
    assert (cpu.name, cpu.status) == ("cpu", "ok")
    assert doctor.check_optional("json").status == "ok"
    assert doctor.check_optional("no_such_module").status == "note"
    assert list(doctor.check_shared_memory(tmp_path / "missing")) == []
    usage = argparse.Namespace(total=64 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)

    (little,) = doctor.check_shared_memory(tmp_path)

    assert little.status == "note"
    assert "--shm-size" in little.cure


def test_folder(tmp_path, monkeypatch):
    """A folder is right if it can be written; each other case has its own cure."""
    (tmp_path / "file").touch()
    cases = {
        "": "export nnUNet_raw=",
        str(tmp_path / "missing"): f"mkdir -p {tmp_path}",
        str(tmp_path / "file"): "choose a folder",
    }
    assert "GiB free" in doctor.check_folder("nnUNet_raw", str(tmp_path)).found
    for value, cure in cases.items():
        check = doctor.check_folder("nnUNet_raw", value)
        assert check.status == "WRONG"
        assert check.cure.startswith(cure)

    def refuse(*, dir: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    check = doctor.check_folder("nnUNet_raw", str(tmp_path))

    assert (check.status, "Permission denied" in check.found) == ("WRONG", True)


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
