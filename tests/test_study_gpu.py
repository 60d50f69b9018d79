"""Tests of the turns that jobs take on the GPUs of a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nnunet_cel.study.gpu import free_gpu, run_on_gpu, visible_gpu

pytest.importorskip("fcntl")


def test_two_jobs_get_two_gpus(tmp_path: Path) -> None:
    """A GPU is free again when its job is done."""
    with free_gpu(tmp_path / "locks", 2) as first:
        with free_gpu(tmp_path / "locks", 2) as second:
            assert {first, second} == {0, 1}
        with free_gpu(tmp_path / "locks", 2) as third:
            assert third == second


def test_command_sees_its_gpu_only_and_its_status_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two GPUs, while the first one is taken."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    check = "import os, sys; sys.exit(int(os.environ['CUDA_VISIBLE_DEVICES']))"
    with free_gpu(tmp_path, 2):
        assert run_on_gpu([sys.executable, "-c", check], locks=tmp_path, count=2) == 6


def test_gpus_are_counted_without_a_list() -> None:
    """Then their names are their numbers."""
    assert visible_gpu({}, 1) == "1"
    assert visible_gpu({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, 1) == "GPU-b"
