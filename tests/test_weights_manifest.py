"""The manifest of an export is read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_weights_export import make_dataset, make_plans

from nnunet_cel.weights.manifest import (
    FileOfFold,
    Manifest,
    manifest_text,
    read_json,
    read_manifest,
    versions,
)
from nnunet_cel.weights.plans import reduce_dataset, reduce_plans


def make_manifest() -> Manifest:
    """Return a manifest as an export writes it."""
    return Manifest(
        trainer="FCADenseTrainer",
        configuration="2d",
        mirroring_axes=(0, 1),
        plans=reduce_plans(make_plans(), "2d"),
        dataset=reduce_dataset(make_dataset()),
        tensors={"network.a": ((2, 3), "float32"), "network.b": ((), "int64")},
        files={"0": FileOfFold(10, "a" * 64, 7), "all": FileOfFold(9, "0" * 64, None)},
        made_with=versions(),
    )


def write(content: dict[str, Any], folder: Path) -> Path:
    """Write a manifest."""
    path = folder / "model.json"
    path.write_text(json.dumps(content))
    return path


def test_manifest_is_read_as_written(tmp_path: Path) -> None:
    """Writing and reading give what there was."""
    path = tmp_path / "model.json"
    path.write_text(manifest_text(make_manifest()))

    assert read_manifest(path) == make_manifest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), "must be the model.json"),
        (lambda c: c.update(version=2), "install a newer nnunet-cel"),
        (lambda c: c.update(more=1), "'more'"),
        (lambda c: c.pop("trainer"), "'trainer'"),
        (lambda c: c.update(trainer="a/b"), "'trainer'"),
        (lambda c: c.update(configuration="3d"), "configurations of the plans"),
        (lambda c: c.update(mirroring_axes=[0, 0]), "'mirroring_axes'"),
        (lambda c: c.update(mirroring_axes=[True]), "'mirroring_axes'"),
        (lambda c: c.update(mirroring_axes=[3]), "'mirroring_axes'"),
        (lambda c: c.update(mirroring_axes=0), "'mirroring_axes'"),
        (lambda c: c.update(made_with={"os": "1"}), "'made_with'"),
        (lambda c: c["made_with"].update(nnunetv2="\x1b[31m"), "'made_with'"),
        (lambda c: c.update(files={}), "'files'"),
        (lambda c: c["files"].update({"../0": c["files"]["0"]}), "'files'"),
        (lambda c: c["files"].update({"/etc/passwd": c["files"]["0"]}), "'files'"),
        (lambda c: c["files"].update({"00": c["files"]["0"]}), "'files'"),
        (lambda c: c["files"]["0"].update(sha256="A" * 64), "'files'"),
        (lambda c: c["files"]["0"].update(bytes=-1), "'files'"),
        (lambda c: c["files"]["0"].update(epochs="7"), "'files'"),
        (lambda c: c["tensors"].update({"a b": {"shape": [], "dtype": "int8"}}), "ten"),
        (lambda c: c["tensors"]["network.a"].update(shape=[2**40]), "'tensors'"),
        (lambda c: c["tensors"]["network.a"].update(shape=[2**31] * 3), "'tensors'"),
        (lambda c: c["tensors"]["network.a"].update(shape=[-1]), "'tensors'"),
        (lambda c: c["tensors"]["network.a"].update(dtype="Tensor"), "'tensors'"),
        (lambda c: c["tensors"]["network.a"].update(dtype=[]), "'tensors'"),
        (lambda c: c.update(plans=[]), "'plans'"),
        (lambda c: c["plans"].update(dataset_name=".."), "'dataset_name'"),
        (lambda c: c["dataset"].update(file_ending="/x"), "'file_ending'"),
    ],
)
def test_hostile_manifests_are_refused(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    """One bad entry is enough; the message names file and entry."""
    content = json.loads(manifest_text(make_manifest()))
    change(content)

    with pytest.raises(ValueError, match=message) as caught:
        read_manifest(write(content, tmp_path))

    assert "model.json" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", '{"a": NaN}', '{"a": Infinity}', '{"a": 1, "a": 2}', "[" * 100_000),
        *('{"a": ' + "9" * 5000 + "}", "\ud800"),
    ],
)
def test_other_texts_are_no_json(text: str, tmp_path: Path) -> None:
    """Damaged, ambiguous and endless texts end in a message that names the file."""
    path = tmp_path / "plans.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    with pytest.raises(ValueError, match=r"plans\.json must be JSON"):
        read_json(path)


def test_huge_json_is_not_read(tmp_path: Path) -> None:
    """A file of many gigabytes, here without content, is refused by its size."""
    path = tmp_path / "model.json"
    with path.open("wb") as file:
        file.truncate(10**11)

    with pytest.raises(ValueError, match=r"bytes at most\. Got 100000000000"):
        read_manifest(path)


@given(
    key=st.sampled_from(sorted(json.loads(manifest_text(make_manifest())))),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
        ),
        max_leaves=6,
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_entry_is_let_through_or_refused(
    key: str, value: Any, tmp_path: Path
) -> None:
    """Whatever stands in an entry, the answer is yes or a message, no other error."""
    content = json.loads(manifest_text(make_manifest()))
    content[key] = value

    try:
        read_manifest(write(content, tmp_path))
    except ValueError as error:
        assert "must be" in str(error)  # noqa: PT017  both ends are right
