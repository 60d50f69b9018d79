"""The check of the installation tells what is wrong and how to repair it."""

from __future__ import annotations

import argparse
import os
from importlib import metadata
from pathlib import Path

import pytest

from nnunet_cel import doctor
from nnunet_cel.doctor import Check


@pytest.mark.parametrize(
    ("found", "supported", "status"),
    [
        ("2.8.1", ">=2.8.1,<2.9", "ok"),
        ("2.8.0", ">=2.8.1,<2.9", "WRONG"),
        ("2.9.0", ">=2.8.1,<2.9", "WRONG"),
        ("2.10.0+cu130", ">=2.4", "ok"),  # 10 is more than 4; the build is no matter
        ("2.12.0.dev1", ">=2.4", "ok"),
        ("1", "", "ok"),
    ],
)
def test_version(found: str, supported: str, status: str, monkeypatch) -> None:
    """A version is right if it lies in the supported range."""
    monkeypatch.setattr(metadata, "version", lambda package: found)

    check = doctor.check_version("nnunetv2", supported)

    assert (check.status, bool(check.cure)) == (status, status == "WRONG")


def test_supported_versions_are_ours() -> None:
    """The range is read from our own metadata, where it is declared."""
    checks = [check for _, check in zip(range(4), doctor._checks(), strict=False)]

    assert {c.name for c in checks} == {"Python", "nnunet-cel", "nnunetv2", "torch"}
    (check,) = [c for c in checks if c.name == "nnunetv2"]
    assert (check.status, "supported: <2.9,>=2.8.1" in check.found) == ("ok", True)
    assert doctor.check_version("no-such-package").found == "not installed"
    *_, cpu = doctor.check_processor()
    assert (cpu.name, cpu.status) == ("cpu", "ok")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("output", "status", "disabled", "cure"),
    [
        ("somewhere.else nothing", 0, "", "pip install"),
        ("", 0, "1", "unset NNUNET_CEL_DISABLE"),
        ("nnunet_cel.training.trainer nnunet_cel.planning.planner", 1, "", "pip"),
    ],
)
def test_discovery_fails(
    tmp_path: Path, monkeypatch, output: str, status: int, disabled: str, cure: str
) -> None:
    """Any other answer than our two modules is wrong, and it says why."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
    python.chmod(0o755)
    monkeypatch.setenv("NNUNET_CEL_DISABLE", disabled)

    check = doctor.check_discovery(str(python))

    assert (check.status, check.cure.startswith(cure)) == ("WRONG", True)


def test_folder(tmp_path: Path) -> None:
    """A folder is right if it can be written."""
    (tmp_path / "file").touch()
    assert "GiB free" in doctor.check_folder("nnUNet_raw", str(tmp_path)).found
    unset = doctor.check_folder("nnUNet_raw", None)
    assert (unset.status, unset.cure) == ("note", "export nnUNet_raw=FOLDER")
    for value, cure in {
        "~/nnUNet raw": 'export nnUNet_raw="$HOME/nnUNet raw"',
        str(tmp_path / "missing"): f"mkdir -p {tmp_path}",
        str(tmp_path / "file"): f"mkdir -p {tmp_path}",
    }.items():
        check = doctor.check_folder("nnUNet_raw", value)
        assert (check.status, check.cure.startswith(cure)) == ("WRONG", True)


@pytest.mark.parametrize("status", ["ok", "WRONG"])
def test_run(monkeypatch: pytest.MonkeyPatch, capsys, status: str) -> None:
    """The exit status is 1 if and only if something is wrong; each check is a line."""
    statuses = ["note", status, "ok"]
    checks = [Check("thing", status, "found", "cure") for status in statuses]
    monkeypatch.setattr(doctor, "_checks", lambda: iter(checks))

    assert doctor.run(argparse.Namespace()) == (status == "WRONG")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == statuses


@pytest.mark.campaign
def test_discovery_of_this_installation() -> None:
    """The classes are found in the environment of the tests."""
    assert doctor.check_discovery().status == "ok"
