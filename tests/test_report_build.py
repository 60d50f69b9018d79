"""Tests of whole reports: what is written, what it says, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.evaluation.dataset import evaluate_folders, write_evaluation
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.tables import read_table
from nnunet_cel.report.build import write_report
from nnunet_cel.volumes import Volume, write_volume

HOSTILE = "<script>alert('case')<+script>\"&amp;$x$"
SHAPE = (24, 22, 20)
VOID = {"link", "meta", "input", "br", "img"}

Make = Callable[..., Path]


class Page(HTMLParser):
    """Elements and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"{self._open} are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that elements are closed in order."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text with the elements around it."""
        if data.strip():
            self.texts.append((tuple(self._open), data.strip()))

    @property
    def text(self) -> str:
        """All text that readers see."""
        return " ".join(
            text for path, text in self.texts if not {"script", "style"} & set(path)
        )

    def attributes(self, name: str) -> list[str]:
        """Return the values of an attribute of all elements that have it."""
        return [value or "" for _, found in self.elements if (value := found.get(name))]


def lesion(*boxes: tuple[int, int, int]) -> np.ndarray:
    """Return a mask with a cube of 27 voxels at each corner."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for x, y, z in boxes:
        mask[x : x + 3, y : y + 3, z : z + 3] = 1
    return mask


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an evaluation of label maps and return its folder."""

    def write(
        references: list[np.ndarray],
        predictions: list[np.ndarray],
        *,
        names: list[str] | None = None,
        folder: str = "p",
        probabilities: bool = False,
    ) -> Path:
        names = names or [f"case{i}" for i in range(len(references))]
        for place, masks in (("r", references), (folder, predictions)):
            (tmp_path / place).mkdir(exist_ok=True)
            for name, mask in zip(names, masks, strict=True):
                volume = Volume(mask, np.diag([2.0, 2, 2, 1]))
                write_volume(tmp_path / place / f"{name}.nii.gz", volume)
                soft = np.stack([1 - 0.9 * mask, 0.9 * mask]).transpose(0, 3, 2, 1)
                if probabilities and place == folder:
                    np.savez(tmp_path / place / f"{name}.npz", probabilities=soft)
        evaluation = evaluate_folders(
            tmp_path / folder,
            tmp_path / "r",
            load_protocol(),
            probabilities=probabilities,
        )
        out = tmp_path / f"evaluation of {folder}"
        out.mkdir()
        write_evaluation(evaluation, out)
        return out

    return write


def write_images(folder: Path, names: list[str], rng: np.random.Generator) -> Path:
    """Write an image of each case."""
    folder.mkdir()
    for name in names:
        voxels = rng.integers(50, 200, SHAPE).astype(np.int16)
        write_volume(
            folder / f"{name}_0000.nii.gz", Volume(voxels, np.diag([2.0, 2, 2, 1]))
        )
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


A, B = (2, 2, 2), (12, 12, 12)


def test_the_whole_report(tmp_path: Path, make: Make, rng: np.random.Generator) -> None:
    """Numbers are those of the evaluation, nothing comes from outside, all is safe."""
    references, predictions = [lesion(A, B), lesion(A)], [lesion(A), lesion(A, B)]
    names = ["plain", HOSTILE]
    out = make(references, predictions, names=names, probabilities=True)
    other = make(references, references, names=names, folder="<b>perfect<+b>")
    model = tmp_path / "model" / "fold_<i>0<+i>"
    model.mkdir(parents=True)
    (model / "training_log_2026_1_1_0_0_0.txt").write_text(
        "Epoch 0\ntrain_loss 0.5\nval_loss 0.4\nPseudo dice [0.25]\n"
    )
    images = write_images(tmp_path / "images", names, rng)
    path = tmp_path / "my report" / "the report.html"

    files = write_report(
        out,
        path,
        images=images,
        model=model.parent,
        compare=[other],
        title="<script>title</script> & more",
    )

    page = Page(path.read_text(encoding="utf-8"))
    _check_is_self_contained(page, tmp_path)
    _check_is_safe(page)
    _check_is_accessible(page)
    _check_numbers(page, json.loads((out / "summary.json").read_text()))
    for text in ("Models side by side", "FROC", "Calibration", "Table 6"):
        assert text in page.text
    assert files == tmp_path / "my report" / "the report_files"
    written = contents(files)
    figures = ("metrics", "volumes", "bland_altman", "sizes", "froc", "calibration")
    for name in (*figures, "training"):
        assert written[f"figures/{name}.png"].startswith(b"\x89PNG")
        assert b"<svg" in written[f"figures/{name}.svg"]
    assert {name for name in written if name.startswith("figures/lesions/")} == {
        f"figures/lesions/{name}.png"
        for name in (
            "plain_reference_1",
            "plain_reference_2",
            f"{HOSTILE}_reference_1",
            f"{HOSTILE}_prediction_2",
        )
    }
    tables = files / "tables"
    assert set(read_table(tables / "cases.csv")["case"]) == set(names)
    pd.testing.assert_frame_equal(
        read_table(tables / "lesions.csv"), read_table(out / "lesions.csv")
    )
    assert len(read_table(tables / "training.csv")) == 1
    assert len(read_table(tables / "tests.csv")) == len(METRICS)


def _check_is_self_contained(page: Page, folder: Path) -> None:
    """Nothing is asked for from anywhere, and no path tells where it was made."""
    for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
        for value in page.attributes(name):
            assert re.match(r"#|data:", value), f"{name}={value[:80]}"
    assert not re.search(r"url\((?!#|\"#|'#)|@import", page.html)
    assert str(folder) not in page.html
    assert str(Path.home()) + "/" not in page.html
    assert not re.search(r"https?://(?!www\.w3\.org/)", page.html)


def _check_is_safe(page: Page) -> None:
    """Names are text, and no script but ours would run."""
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1
    assert not {"b", "iframe", "object", "embed"} & set(tags)
    assert not [
        name for _, found in page.elements for name in found if name[:2] == "on"
    ]
    assert HOSTILE in page.text
    assert "<b>perfect<+b>" in page.text
    assert any("fold <i>0<+i>" in alt for alt in page.attributes("alt"))
    assert "<script>title</script> & more" in page.text
    (script,) = (text for path, text in page.texts if path[-1] == "script")
    whole = page.html[page.html.index("<script>") + 8 : page.html.index("</script>")]
    assert script == whole.strip()
    digest = base64.b64encode(hashlib.sha256(whole.encode()).digest()).decode()
    (policy,) = (v for v in page.attributes("content") if "default-src" in v)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def _check_is_accessible(page: Page) -> None:
    """Headings are in order, headers have a scope, images a name, ids are unique."""
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for tag, found in page.elements:
        if tag == "th":
            assert found.get("scope") in ("col", "row")
        if found.get("role") == "img":
            assert found.get("aria-label")
        elif tag == "svg":
            assert found.get("aria-hidden") == "true"
        elif tag == "img":
            assert "alt" in found
    tables = [tag for tag, _ in page.elements if tag in ("table", "caption")]
    assert tables == ["table", "caption"] * (len(tables) // 2)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    targets = [v[1:] for v in page.attributes("href") if v.startswith("#")]
    assert set(targets) <= set(ids)
    assert ("html", {"lang": "en"}) in page.elements


def _check_numbers(page: Page, summary: dict[str, dict[str, dict[str, float]]]) -> None:
    """Means, intervals and shares are those of ``summary.json``."""
    cards = re.findall(r'data-metric="([^"]+)">([^<]+)<', page.html)
    assert len(cards) == 6
    for name, text in cards:
        values = summary["metrics"][name]
        assert text == f"{values['mean']:.3f}"
        assert f"{values['ci_low']:.3f} to {values['ci_high']:.3f}" in page.text
    scans = summary["scans"]["sensitivity"]
    assert f"{scans['count']:.0f} of {scans['n']:.0f} scans" in page.text
    assert "Found: 2 of 3 lesions in 2 scans." in page.text
    assert "False: 1 of 3 predicted lesions, 0.50 per scan." in page.text


def test_the_same_report_has_the_same_bytes(tmp_path: Path, make: Make) -> None:
    """Nothing in page, figures and tables depends on time or on the folder's name."""
    out = make([lesion(A, B)] * 2, [lesion(A), lesion(B)], probabilities=True)

    for name in ("first", "second"):
        write_report(out, tmp_path / name / "report.html")

    assert contents(tmp_path / "first") == contents(tmp_path / "second")


NOTHING = lesion()


@pytest.mark.parametrize(
    ("references", "predictions", "texts"),
    [
        ([lesion(A)], [lesion(A)], ["1 of 1 lesion in 1 scan", "no interval"]),
        (
            [NOTHING] * 3,
            [NOTHING] * 3,
            ["of 3 scans hold no lesion", "there are no volumes to draw", "3 of 3"],
        ),
        ([lesion(A)] * 3, [NOTHING] * 3, ["predictions hold no lesion", "0 of 3"]),
        (
            [NOTHING] * 2,
            [lesion(A)] * 2,
            ["references of 2 scans hold no lesion", "no sensitivity by size"],
        ),
    ],
    ids=["one case", "nothing at all", "no predictions", "no references"],
)
def test_empty_situations(
    tmp_path: Path,
    make: Make,
    references: list[np.ndarray],
    predictions: list[np.ndarray],
    texts: list[str],
) -> None:
    """Where there is nothing to measure the page says so, and shows no NaN."""
    out = make(references, predictions)

    write_report(out, tmp_path / "report.html")

    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    for text in texts:
        assert text in page.text
    alts = " ".join(page.attributes("alt"))
    assert not re.search(r"\b(nan|NaN|None|inf)\b", page.text + alts)
    _check_is_accessible(page)


def test_cases_are_sorted_by_dsc(tmp_path: Path, make: Make) -> None:
    """The lowest DSC comes first, a case without one last; the CSV agrees."""
    out = make(
        [lesion(A), NOTHING, lesion(A, B), lesion(A)],
        [lesion(A), NOTHING, lesion(A), NOTHING],
        names=["good", "free", "half", "missed"],
    )

    files = write_report(out, tmp_path / "report.html", lesions_per_case=0)

    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row" title="\w+">(\w+)</th>', html)
    assert rows == ["missed", "half", "good", "free"]
    assert read_table(files / "tables" / "cases.csv")["case"].tolist() == rows
    assert "No pictures of lesions were wanted" in html


def test_more_lesions_than_are_shown(tmp_path: Path, make: Make) -> None:
    """What is left out of the pictures is counted by kind."""
    corners = [(x, y, 2) for x in (1, 8, 15) for y in (1, 8, 15)]
    out = make([lesion(*corners[:6])], [lesion(*corners[3:])])

    files = write_report(out, tmp_path / "report.html", lesions_per_case=4)

    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Not shown: 1 missed, 2 false, 2 hit." in html
    assert len(list((files / "figures" / "lesions").glob("*.png"))) == 4


def test_label_maps_that_are_gone(tmp_path: Path, make: Make) -> None:
    """The page is made without pictures and says why; with their new place it has."""
    out = make([lesion(A)], [lesion(A)])
    (tmp_path / "p").rename(tmp_path / "moved")

    write_report(out, tmp_path / "a.html")
    write_report(out, tmp_path / "b.html", predictions=tmp_path / "moved")

    without, having = ((tmp_path / f"{n}.html").read_text() for n in "ab")
    assert "no longer where they were evaluated" in without
    assert 'class="lesion"' not in without
    assert 'class="lesion"' in having


def test_wrong_files_are_named_and_nothing_is_written(
    tmp_path: Path, make: Make, rng: np.random.Generator
) -> None:
    """An image on another grid, and a label map that was changed."""
    out = make([lesion(A)] * 2, [lesion(A)] * 2, names=["a", "b"])
    images = write_images(tmp_path / "images", ["a", "b"], rng)
    changed = Volume(lesion(B), np.diag([2.0, 2, 2, 1]))
    write_volume(tmp_path / "p" / "b.nii.gz", changed)
    before = set(tmp_path.iterdir())

    with pytest.raises(ValueError, match=r"b\.nii\.gz .* was changed"):
        write_report(out, tmp_path / "report.html")
    write_volume(images / "a_0000.nii.gz", Volume(np.zeros((3, 3, 3)), np.eye(4)))
    with pytest.raises(ValueError, match=r"a_0000\.nii\.gz must have the shape"):
        write_report(out, tmp_path / "report.html", images=images)

    assert set(tmp_path.iterdir()) == before


def test_channels_are_chosen(
    tmp_path: Path, make: Make, rng: np.random.Generator
) -> None:
    """A channel that a case lacks is refused with the names of the cases."""
    out = make([lesion(A)] * 2, [lesion(A)] * 2, names=["a", "b"])
    images = write_images(tmp_path / "images", ["a", "b"], rng)
    (images / "a_0000.nii.gz").rename(images / "a_0001.nii.gz")

    with pytest.raises(ValueError, match=r"channel 0001 .* lacks that of b"):
        write_report(out, tmp_path / "r.html", images=images, channel=1)


def test_earlier_reports_are_replaced_on_demand_only(
    tmp_path: Path, make: Make
) -> None:
    """Neither page nor folder is lost by a slip, and nobody's data ever."""
    out = make([lesion(A)], [lesion(A)])
    page = tmp_path / "report.html"
    write_report(out, page, lesions_per_case=0)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_report(out, page)
    page.unlink()
    with pytest.raises(FileExistsError, match="report_files"):
        write_report(out, page)

    write_report(out, page, overwrite=True)
    assert 'class="lesion"' in page.read_text()

    (tmp_path / "data_files").mkdir()
    (tmp_path / "data_files" / "precious").touch()
    with pytest.raises(ValueError, match="Only an earlier report"):
        write_report(out, tmp_path / "data.html", overwrite=True)
    assert (tmp_path / "data_files" / "precious").exists()
    with pytest.raises(ValueError, match=r"ends in \.html"):
        write_report(out, tmp_path / "report.pdf")
    with pytest.raises(ValueError, match="--compare"):
        write_report(out, tmp_path / "x.html", names=["ours"])
