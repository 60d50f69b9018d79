"""nnU-Net finds our classes, and everything else as before."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import types
from json.decoder import JSONDecoder
from pathlib import Path
from typing import Any

import pytest

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


def run_python(
    code: str, *options: str, python: str | Path = sys.executable, **variables: str
) -> str:
    """Run `code` in a fresh interpreter and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "NNUNET_CEL_DISABLE"}
    process = subprocess.run(
        [python, *options, "-c", textwrap.dedent(code)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.strip()


@pytest.fixture
def fake_nnunet(monkeypatch, tmp_path):
    """An nnU-Net whose lookup returns the arguments that it got."""
    package = types.ModuleType("nnunetv2")
    package.__path__ = [str(tmp_path / "nnunetv2")]
    module = types.ModuleType(MODULE)
    module.recursive_find_python_class = lambda *args, **kwargs: (args, kwargs)
    monkeypatch.setitem(sys.modules, "nnunetv2", package)
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delenv("NNUNET_CEL_DISABLE", raising=False)
    monkeypatch.setitem(discovery.CLASSES, "JSONDecoder", "json.decoder")
    return module


class TestRealLookup:
    """With the nnU-Net that is installed."""

    def test_every_name_has_a_place(self):
        """Each class of the table is one that nnU-Net looks up somewhere."""
        assert set(WHERE) == set(discovery.CLASSES)

    @pytest.mark.parametrize(("name", "package"), WHERE.items())
    def test_finds_ours(self, name, package):
        """Our class is found, as the very object that a direct import gives."""
        found = look_up(name, package)

        module, _, attribute = discovery.CLASSES[name].partition(":")
        assert found is getattr(importlib.import_module(module), attribute or name)
        assert pickle.loads(pickle.dumps(found)) is found

    def test_finds_trainer_by_name(self):
        """The function that nnUNetv2_train calls finds our trainer."""
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        from nnunet_cel.training.trainer import FCADenseTrainer

        assert (
            recursive_find_trainer_class_by_name("FCADenseTrainer") is FCADenseTrainer
        )

    def test_finds_theirs(self):
        """A class of nnU-Net's own is found as before."""
        from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
            ZScoreNormalization,
        )

        found = look_up("ZScoreNormalization", "preprocessing.normalization")

        assert found is ZScoreNormalization

    def test_finds_no_unknown(self):
        """A class that does not exist is still not found."""
        assert look_up("NoSuchNormalization", "preprocessing.normalization") is None

    def test_leaves_a_users_folder_alone(self, tmp_path):
        """In a user's own folder the user's class of our name is found."""
        (tmp_path / "mine.py").write_text("class FCADenseTrainer:\n    mine = True\n")
        lookup = importlib.import_module(MODULE).recursive_find_python_class

        found = lookup(
            str(tmp_path),
            "FCADenseTrainer",
            None,
            base_folder=str(tmp_path),
            cleanup_imports_from_base_folder=True,
        )

        assert found.mine

    def test_leaves_no_trace_in_the_module(self):
        """Once loaded, the module has its real loader, so its source can be read."""
        module = importlib.import_module(MODULE)

        assert module.__spec__.loader is module.__loader__
        assert type(module.__loader__).__module__ != discovery.__name__
        assert "pkgutil.iter_modules" in inspect.getsource(module)


class TestInstall:
    """With an nnU-Net that was loaded before."""

    def test_answers_names_of_the_table(self, fake_nnunet):
        """A name of the table is answered without the original."""
        discovery.install()

        folder = fake_nnunet_folder("training")
        found = fake_nnunet.recursive_find_python_class(folder, "JSONDecoder", None)

        assert found is JSONDecoder

    def test_hands_on_all_arguments(self, fake_nnunet):
        """Any other name goes to the original with all that was given."""
        discovery.install()

        got = fake_nnunet.recursive_find_python_class("f", "Other", "m", "b", verbose=1)

        assert got == (("f", "Other", "m", "b"), {"verbose": 1})

    @pytest.mark.parametrize("name", ["nnunetv2_mine", "elsewhere", "."])
    def test_answers_in_their_package_only(self, fake_nnunet, name):
        """A folder outside of nnU-Net's package goes to the original."""
        discovery.install()

        folder = str(Path(fake_nnunet_folder("."), "..", name))
        got = fake_nnunet.recursive_find_python_class(folder, "JSONDecoder", None)

        assert got == ((folder, "JSONDecoder", None), {})

    def test_twice_is_once(self, fake_nnunet):
        """Installing again adds no second finder and wraps nothing twice."""
        original = fake_nnunet.recursive_find_python_class
        count = len(sys.meta_path)

        discovery.install()
        discovery.install()

        wrapped = inspect.getclosurevars(fake_nnunet.recursive_find_python_class)
        assert wrapped.nonlocals == {"original": original}
        assert len(sys.meta_path) == count

    def test_reaches_modules_that_hold_the_function(self, fake_nnunet, monkeypatch):
        """A module of nnU-Net that imported the function earlier gets the new one."""
        early = types.ModuleType("nnunetv2.early")
        early.recursive_find_python_class = fake_nnunet.recursive_find_python_class
        monkeypatch.setitem(sys.modules, "nnunetv2.early", early)

        discovery.install()

        new = fake_nnunet.recursive_find_python_class
        assert early.recursive_find_python_class is new

    def test_leaves_an_unknown_version_alone(self, fake_nnunet):
        """An nnU-Net without the function is left as it is, and that can be asked."""
        del fake_nnunet.recursive_find_python_class

        discovery.install()

        assert not hasattr(fake_nnunet, "recursive_find_python_class")
        assert not discovery.is_active()

    def test_is_active(self, fake_nnunet):
        """The state can be asked before and after."""
        before = discovery.is_active()
        discovery.install()

        assert (before, discovery.is_active()) == (False, True)

    def test_can_be_switched_off(self, fake_nnunet, monkeypatch):
        """The environment variable keeps the function as it is."""
        original = fake_nnunet.recursive_find_python_class
        monkeypatch.setenv("NNUNET_CEL_DISABLE", "1")

        discovery.install()

        assert fake_nnunet.recursive_find_python_class is original


def fake_nnunet_folder(name: str) -> str:
    """Return the path of a folder in the fake package."""
    return str(Path(sys.modules["nnunetv2"].__path__[0], name))


class TestFreshInterpreter:
    """At the start of Python."""

    def test_is_active(self):
        """An interpreter of this environment starts with the discovery in place."""
        code = "import sys; print('nnunet_cel.discovery' in sys.modules)"

        assert run_python(code) == "True"

    def test_imports_nothing(self):
        """The discovery adds itself to what is loaded, and nothing else."""
        code = """
            import os, sys
            sys.path.insert(0, os.environ["CHECKOUT"])
            before = set(sys.modules)
            import nnunet_cel.discovery
            print(sorted(set(sys.modules) - before))
        """

        loaded = run_python(code, "-S", CHECKOUT=str(CHECKOUT))

        assert loaded == "['nnunet_cel', 'nnunet_cel.discovery']"

    def test_can_be_switched_off(self):
        """The environment variable leaves nnU-Net as it was."""
        code = f"""
            import {MODULE}
            from nnunet_cel import discovery
            print(discovery.is_active())
        """

        assert run_python(code, NNUNET_CEL_DISABLE="1") == "False"
