"""What is built and installed is the whole package, and nnU-Net finds it there."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from nnunet_cel import discovery

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it to Python 3.10

ROOT = Path(__file__).parent.parent
MAPPED = {"dataset_conversion", "plans", "workflow"}
"""Folders that are installed as sub-packages of nnunet_cel."""

LOOK_UP = """
import importlib.util, json, multiprocessing, os, sys

WHERE = {
    "FCADensePlanner": "experiment_planning",
    "FCADensePreprocessor": "preprocessing",
    "KDELastPeakNormalization": "preprocessing.normalization",
    "KDEHighestPeakNormalization": "preprocessing.normalization",
}

def look_up(_=None):
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    found = [recursive_find_trainer_class_by_name("FCADenseTrainer")]
    for name, package in WHERE.items():
        folder = os.path.join(nnunetv2.__path__[0], *package.split("."))
        found.append(recursive_find_python_class(folder, name, f"nnunetv2.{package}"))
    return found

if __name__ == "__main__":
    here = look_up()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.map(look_up, [None])
    assert here == there, (here, there)  # pickled, so the very same classes
    mapped = ["nnunet_cel.plans", "nnunet_cel.dataset_conversion"]
    files = [importlib.util.find_spec(name).origin for name in mapped]
    files += [sys.modules[c.__module__].__file__ for c in here]
    classes = {c.__name__: c.__module__ for c in here}
    print(json.dumps({"classes": classes, "files": files}))
"""


class Environment:
    """A virtual environment that borrows every other package from this one."""

    def __init__(self, folder: Path):
        venv.create(folder, symlinks=os.name != "nt")
        scheme = {"base": str(folder), "platbase": str(folder)}
        self.site = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
        self.scripts = Path(sysconfig.get_path("scripts", "venv", vars=scheme))
        self.python = self.scripts / Path(sys.executable).name
        self.folder = folder

    def pip(self, *arguments: str | Path) -> None:
        """Run pip on this environment, without the network."""
        pip = [sys.executable, "-m", "pip", "--python", self.python]
        run([*pip, *arguments], cwd=self.folder)

    def install(self, wheel: Path) -> None:
        """Install a wheel, and only then make the borrowed packages importable."""
        self.pip("install", "--no-deps", "--no-index", wheel)
        borrowed = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
        (self.site / "zz_borrowed.pth").write_text("\n".join(borrowed))

    def uninstall(self) -> None:
        """Do away with what `install` did."""
        (self.site / "zz_borrowed.pth").unlink()
        self.pip("uninstall", "--yes", "nnunet-cel")

    def files(self) -> set[str]:
        """Return what there is, but for what Python itself caches."""
        return {
            str(path.relative_to(self.folder))
            for top in (self.site, self.scripts)
            for path in top.rglob("*")
            if path.name != "__pycache__" and path.suffix != ".pyc"
        }


def run(command: Iterable[str | Path], *, cwd: Path) -> str:
    """Run a command elsewhere than in the checkout and return what it prints."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def build(kind: str, source: Path, output: Path) -> Path:
    """Build `kind` of distribution from `source`, with what is installed here."""
    code = "import build, sys; build.ProjectBuilder(sys.argv[1]).build(*sys.argv[2:])"
    run([sys.executable, "-c", code, source, kind, output], cwd=output)
    pattern = "*.tar.gz" if kind == "sdist" else "*.whl"
    (path,) = output.glob(pattern)
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the checkout, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("tree") / "checkout"
    unwanted = [".*", "build", "dist", "*.egg-info", "__pycache__", "nnunet_cel_demo"]
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*unwanted))
    return copy


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    """The wheel, built from the tree."""
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory):
    """The source distribution."""
    return build("sdist", tree, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def editable(tree, tmp_path_factory):
    """The wheel of an editable install of the tree."""
    return build("editable", tree, tmp_path_factory.mktemp("editable"))


def test_package_list_is_complete():
    """The packages in pyproject.toml are the folders that hold an `__init__.py`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
        "setuptools"
    ]
    folders = [path.parent for path in (ROOT / "nnunet_cel").rglob("__init__.py")]
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    for name in MAPPED:
        inits = [path.parent for path in (ROOT / name).rglob("__init__.py")]
        packages |= {
            ".".join(("nnunet_cel", *folder.relative_to(ROOT).parts))
            for folder in inits
        }

    assert set(settings["packages"]) == packages
    assert settings["package-dir"] == {f"nnunet_cel.{name}": name for name in MAPPED}


def test_version_is_the_one_of_the_citation():
    """CITATION.cff cites the version that is built."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    lines = (ROOT / "CITATION.cff").read_text().splitlines()

    assert f"version: {version}" in lines


def test_installed_metadata_is_current():
    """The package that the tests run on was installed from this pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert importlib.metadata.version("nnunet-cel") == project["version"]


@pytest.mark.slow
def test_wheel_is_complete(wheel, tree):
    """The wheel holds every module, the plans and the .pth file, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    expected = {"nnunet_cel.pth"}
    for top in ("nnunet_cel", *MAPPED):
        prefix = "nnunet_cel/" if top in MAPPED else ""
        files = [file for file in (tree / top).rglob("*") if file.is_file()]
        expected |= {f"{prefix}{file.relative_to(tree).as_posix()}" for file in files}
    assert names == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_record_is_right(request, kind):
    """The RECORD lists every file with its hash and size, the .pth file among them."""
    with zipfile.ZipFile(request.getfixturevalue(kind)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    (record,) = [name for name in contents if name.endswith(".dist-info/RECORD")]

    expected = {f"{record},,"}
    for name in contents.keys() - {record}:
        digest = hashlib.sha256(contents[name]).digest()
        code = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        expected.add(f"{name},sha256={code},{len(contents[name])}")

    assert set(contents[record].decode().splitlines()) == expected
    assert contents["nnunet_cel.pth"] == b"import nnunet_cel.discovery\n"


@pytest.mark.slow
def test_sdist_makes_the_same_wheel(sdist, wheel, tmp_path):
    """The wheel from the source distribution is that from the tree, byte for byte."""
    # Python 3.10 and early 3.11 do not know filters, Python 3.12 wants one
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **safely)
    (source,) = tmp_path.iterdir()
    output = tmp_path / "output"
    output.mkdir()

    again = build("wheel", source, output)

    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.slow
def test_deleted_modules_stay_away(tree, wheel, tmp_path):
    """A module left behind by an earlier build does not get into the wheel."""
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    stale = copy / "build" / "lib" / "nnunet_cel" / "stale.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()

    again = build("wheel", copy, tmp_path)

    assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_nnunet_finds_the_installed_classes(request, kind, tree, tmp_path):
    """After the install, nnU-Net finds all classes, also in a spawned worker."""
    environment = Environment(tmp_path / "environment")
    environment.install(request.getfixturevalue(kind))
    script = tmp_path / "look_up.py"
    script.write_text(LOOK_UP)

    output = run([environment.python, "-W", "ignore", script], cwd=tmp_path)

    found = json.loads(output.splitlines()[-1])
    place = environment.site if kind == "wheel" else tree
    assert found["classes"].items() <= discovery.CLASSES.items()
    assert all(Path(file).is_relative_to(place) for file in found["files"])


@pytest.mark.slow
def test_pth_comes_after_that_of_setuptools(editable):
    """In an editable install the package can be imported when its .pth is read."""
    with zipfile.ZipFile(editable) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".pth"))

    assert names[0].startswith("__editable__")
    assert names[1:] == ["nnunet_cel.pth"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_uninstall_leaves_nothing(request, kind, tmp_path):
    """Everything that the install brought is gone after the uninstall."""
    environment = Environment(tmp_path / "environment")
    before = environment.files()
    environment.install(request.getfixturevalue(kind))
    between = environment.files()

    environment.uninstall()

    assert {"nnunet_cel.pth", "nnunet-cel"} <= {Path(name).name for name in between}
    assert environment.files() == before
