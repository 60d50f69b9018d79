"""nnU-Net finds our classes, and everything else as before."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.preprocessing.normalization import default_normalization_schemes
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_cel import discovery

MODULE = "nnunetv2.utilities.find_class_by_name"
CHECKOUT = Path(discovery.__file__).parent.parent
WHERE = {
    "FCADenseTrainer": "training.nnUNetTrainer",
    "FCADensePlanner": "experiment_planning",
    "FCADensePreprocessor": "preprocessing",
    "KDELastPeakNormalization": "preprocessing.normalization",
    "KDEHighestPeakNormalization": "preprocessing.normalization",
    "WholeSimpleITKIO": "imageio",
    "WholeSimpleITKIOWithReorient": "imageio",
    "WholeNibabelIO": "imageio",
    "WholeNibabelIOWithReorient": "imageio",
}
"""The package of nnU-Net in which it looks for each of our classes."""


def look_up(name: str, package: str) -> Any:
    """Ask as nnU-Net's own modules do."""
    import nnunetv2

    lookup = importlib.import_module(MODULE).recursive_find_python_class
    folder = os.path.join(nnunetv2.__path__[0], *package.split("."))  # noqa: PTH118  # as nnU-Net does
    return lookup(folder, name, f"nnunetv2.{package}")


def run_python(code: str, *options: str, **variables: str) -> str:
    """Run `code` in a fresh interpreter and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "NNUNET_CEL_DISABLE"}
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    printed = subprocess.check_output(command, env=environment | variables, text=True)
    return printed.strip()


@pytest.mark.parametrize(("name", "package"), WHERE.items())
def test_finds_ours(name, package):
    """Our class is found, as the very object that a direct import gives."""
    found = look_up(name, package)

    module, _, attribute = discovery.CLASSES[name].partition(":")
    assert set(WHERE) == set(discovery.CLASSES)
    assert found is getattr(importlib.import_module(module), attribute or name)
    assert pickle.loads(pickle.dumps(found)) is found


def test_finds_others_as_before(tmp_path):
    """Classes of nnU-Net, none that does not exist, and a user's own of our name."""
    package = "preprocessing.normalization"
    (tmp_path / "mine.py").write_text("class FCADenseTrainer:\n    mine = True\n")
    lookup = importlib.import_module(MODULE).recursive_find_python_class

    options = {"base_folder": str(tmp_path), "cleanup_imports_from_base_folder": True}
    mine = lookup(str(tmp_path), "FCADenseTrainer", None, **options)

    assert mine.mine
    found = look_up("ZScoreNormalization", package)
    assert found is default_normalization_schemes.ZScoreNormalization
    assert look_up("NoSuchNormalization", package) is None
    trainer = recursive_find_trainer_class_by_name("FCADenseTrainer")
    assert trainer.__module__ == "nnunet_cel.training.trainer"


def test_finder_wraps_what_it_finds(monkeypatch):
    """Installing twice is once; an nnU-Net without the function is left alone."""
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.delenv("NNUNET_CEL_DISABLE", raising=False)
    discovery.install()
    discovery.install()
    (finder,) = sys.meta_path
    loader = types.SimpleNamespace(exec_module=lambda module: None)
    spec = types.SimpleNamespace(loader=loader)
    sys.meta_path.append(types.SimpleNamespace(find_spec=lambda *arguments: spec))

    assert finder.find_spec("elsewhere") is None
    assert finder.find_spec(MODULE) is spec
    module = types.SimpleNamespace()
    loader.exec_module(module)
    assert vars(module) == {}


def test_start_of_python():
    """The discovery is there, and loads nothing else; a variable switches it off."""
    code = """
        import sys
        print(any("nnunet_cel" in type(f).__module__ for f in sys.meta_path))
    """
    assert run_python(code) == "True"
    assert run_python(code, NNUNET_CEL_DISABLE="1") == "False"
    code = """
        import os, sys
        sys.path.insert(0, os.environ["CHECKOUT"])
        before = set(sys.modules)
        import nnunet_cel.discovery
        print(sorted(set(sys.modules) - before))
    """
    loaded = run_python(code, "-S", CHECKOUT=str(CHECKOUT))
    assert loaded == "['nnunet_cel', 'nnunet_cel.discovery']"
