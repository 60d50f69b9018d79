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
from pathlib import Path

import pytest

from nnunet_cel import discovery

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it to Python 3.10

ROOT = Path(__file__).parent.parent
MAPPED = ("dataset_conversion", "plans", "workflow")
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


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command elsewhere than in the checkout and return what it prints."""
    process = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def build(kind: str, source: Path, output: Path) -> Path:
    """Build a kind of distribution from a tree, with what is installed here."""
    code = "import build, sys; build.ProjectBuilder(sys.argv[1]).build(*sys.argv[2:])"
    run(sys.executable, "-c", code, source, kind, output, cwd=output)
    (path,) = output.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return path


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("tree") / "checkout"
    unwanted = [".*", "build", "dist", "*.egg-info", "__pycache__", "nnunet_cel_demo"]
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*unwanted))
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of an editable install of the tree."""
    return build("editable", tree, tmp_path_factory.mktemp("editable"))


def test_declarations_agree() -> None:
    """Packages, version, citation and what is installed are those of pyproject.toml."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version, tool = content["project"]["version"], content["tool"]["setuptools"]
    packages = {
        ".".join((*prefix, *path.parent.relative_to(ROOT).parts))
        for top in ("nnunet_cel", *MAPPED)
        for prefix in [("nnunet_cel",) if top in MAPPED else ()]
        for path in (ROOT / top).rglob("__init__.py")
    }

    assert set(tool["packages"]) == packages
    assert tool["package-dir"] == {f"nnunet_cel.{name}": name for name in MAPPED}
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text().splitlines()
    assert importlib.metadata.version("nnunet-cel") == version


@pytest.mark.slow
def test_wheel_is_complete(wheel: Path, tree: Path) -> None:
    """It holds every module, the plans and the .pth file, and nothing else.

    The RECORD lists every file with its hash and size.
    """
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    expected = {"nnunet_cel.pth"}
    for top in ("nnunet_cel", *MAPPED):
        prefix = "nnunet_cel/" if top in MAPPED else ""
        files = [file for file in (tree / top).rglob("*") if file.is_file()]
        expected |= {f"{prefix}{file.relative_to(tree).as_posix()}" for file in files}
    assert {name for name in contents if ".dist-info/" not in name} == expected
    assert contents["nnunet_cel.pth"] == b"import nnunet_cel.discovery\n"

    (record,) = [name for name in contents if name.endswith(".dist-info/RECORD")]
    lines = {f"{record},,"}
    for name in contents.keys() - {record}:
        digest = hashlib.sha256(contents[name]).digest()
        code = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        lines.add(f"{name},sha256={code},{len(contents[name])}")
    assert set(contents[record].decode().splitlines()) == lines


@pytest.mark.campaign
def test_the_same_wheel_from_elsewhere(wheel: Path, tree: Path, tmp_path: Path) -> None:
    """From the sdist, and from where an earlier build left a module, it is the same."""
    # Python 3.10 and early 3.11 do not know filters, Python 3.12 wants one
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(build("sdist", tree, tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked", **safely)
    (source,) = (tmp_path / "unpacked").iterdir()
    left = shutil.copytree(tree, tmp_path / "copy") / "build/lib/nnunet_cel/stale.py"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()

    for where in (source, tmp_path / "copy"):
        output = where.with_name(f"{where.name} output")
        output.mkdir()
        again = build("wheel", where, output)
        assert again.name == wheel.name
        assert again.read_bytes() == wheel.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["wheel", pytest.param("editable", marks=pytest.mark.campaign)]
)
def test_nnunet_finds_the_installed_classes(
    request: pytest.FixtureRequest, kind: str, tree: Path, tmp_path: Path
) -> None:
    """After the install, nnU-Net finds all classes, also in a spawned worker.

    The environment borrows every other package from this one. Everything that the
    install brought is gone after the uninstall.
    """
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=scheme))
    python = scripts / Path(sys.executable).name
    pip = (sys.executable, "-m", "pip", "--python", python)

    def files() -> set[str]:
        found = [path for top in (site, scripts) for path in top.rglob("*")]
        return {str(p) for p in found if "__pycache__" not in p.parts}

    before = files()
    package = request.getfixturevalue(kind)
    run(*pip, "install", "--no-deps", "--no-index", package, cwd=tmp_path)
    between = {Path(name).name for name in files()}
    borrowed = site / "zz_borrowed.pth"  # after ours, which must not need it
    borrowed.write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    script = tmp_path / "look_up.py"
    script.write_text(LOOK_UP)

    output = run(python, "-W", "ignore", script, cwd=tmp_path)
    borrowed.unlink()
    run(*pip, "uninstall", "--yes", "nnunet-cel", cwd=tmp_path)

    found = json.loads(output.splitlines()[-1])
    place = site if kind == "wheel" else tree
    assert found["classes"].items() <= discovery.CLASSES.items()
    assert all(Path(file).is_relative_to(place) for file in found["files"])
    assert {"nnunet_cel.pth", "nnunet-cel"} <= between
    assert files() == before
