"""Tests of whole reports: what is written, what it says, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reports import evaluate, run, write_maps

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.tables import read_table
from nnunet_cel.volumes import Volume, write_volume

HOSTILE = "<script>alert('case')<+script>\"&amp;$x$"
SHAPE = (24, 22, 20)
VOID = {"link", "meta", "input", "br", "img"}


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


A, B = (2, 2, 2), (12, 12, 12)
NOTHING = lesion()
IMAGE = np.arange(NOTHING.size, dtype=np.int16).reshape(SHAPE)


def make(root: Path, *pairs: tuple[np.ndarray, np.ndarray], **options: bool) -> Path:
    """Evaluate pairs of reference and prediction, named a, b and so on."""
    references, predictions = (
        {"abcd"[i]: pair[side] for i, pair in enumerate(pairs)} for side in (0, 1)
    )
    return evaluate(root, references, predictions, **options)


def report(out: Path, page: Path, *options: object) -> Page:
    """Make a report and return its page."""
    assert run("report", out, "-o", page, "-np", 1, "--no-progress", *options) == 0
    return Page(page.read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_whole_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers are those of the evaluation, nothing comes from outside, all is safe."""
    references = {"plain": lesion(A, B), HOSTILE: lesion(A)}
    predictions = {"plain": lesion(A), HOSTILE: lesion(A, B)}
    out = evaluate(tmp_path, references, predictions, probabilities=True)
    other = evaluate(tmp_path, references, references, folder="<b>perfect<+b>")
    model = tmp_path / "model" / "fold_<i>0<+i>"
    model.mkdir(parents=True)
    (model / "training_log_2026_1_1_0_0_0.txt").write_text(
        "Epoch 0\ntrain_loss 0.5\nval_loss 0.4\nPseudo dice [0.25]\n"
    )
    images = write_maps(tmp_path / "i", dict.fromkeys(references, IMAGE), "_0000")
    path = tmp_path / "my report" / "the report.html"
    options = ("--images", images, "--model", model.parent, "--compare", other)

    page = report(out, path, *options, "--title", "<script>title</script> & more")

    _check_is_self_contained(page, tmp_path)
    _check_is_safe(page)
    _check_is_accessible(page)
    _check_numbers(page, json.loads((out / "summary.json").read_text()))
    for text in ("Models side by side", "FROC", "Calibration", "Table 6"):
        assert text in page.text
    files, printed = path.with_name("the report_files"), capsys.readouterr().out
    assert f"Wrote {path} (" in printed
    assert f"Figures and tables are in {files}" in printed
    written = contents(files)
    figures = ("metrics", "volumes", "bland_altman", "sizes", "froc", "calibration")
    for name in (*figures, "training"):
        assert written[f"figures/{name}.png"].startswith(b"\x89PNG")
        assert b"<svg" in written[f"figures/{name}.svg"]
    lesions = ("plain_reference_1", "plain_reference_2")
    lesions += (f"{HOSTILE}_reference_1", f"{HOSTILE}_prediction_2")
    assert {name for name in written if name.startswith("figures/lesions/")} == {
        f"figures/lesions/{name}.png" for name in lesions
    }
    tables = files / "tables"
    pd.testing.assert_frame_equal(
        read_table(tables / "lesions.csv"), read_table(out / "lesions.csv")
    )
    paper = read_table(tables / "paper.csv", text=())
    assert paper.loc[0, "mean"] == pytest.approx(2 / 3)
    assert paper.loc[0, ["metric", "table_6_mean"]].tolist() == ["DSC", 0.661]
    sizes = read_table(tables / "sizes.csv", text=("size_bin",))
    assert sizes[["count", "n", "predicted_false"]].sum().tolist() == [2, 3, 1]
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


@pytest.mark.parametrize(
    ("pairs", "texts"),
    [
        (
            [(NOTHING, NOTHING)] * 3,
            ["of 3 scans hold no lesion", "there are no volumes to draw", "3 of 3"],
        ),
        (
            [(lesion(A), NOTHING)],
            ["predictions hold no lesion", "0 of 1 lesion in 1 scan", "no interval"],
        ),
        (
            [(NOTHING, lesion(A))] * 2,
            ["references of 2 scans hold no lesion", "no sensitivity by size"],
        ),
    ],
    ids=["nothing at all", "no predictions", "no references"],
)
def test_empty_situations(
    tmp_path: Path, pairs: list[tuple[np.ndarray, np.ndarray]], texts: list[str]
) -> None:
    """Where there is nothing to measure the page says so, and shows no NaN."""
    page = report(make(tmp_path, *pairs), tmp_path / "report.html")

    for text in texts:
        assert text in page.text
    alts = " ".join(page.attributes("alt"))
    assert not re.search(r"\b(nan|NaN|None|inf)\b", page.text + alts)
    _check_is_accessible(page)


def test_cases_and_pictures_are_chosen(tmp_path: Path) -> None:
    """The lowest DSC is first, a case without one last; what is left out is counted."""
    good, free = (lesion(A), lesion(A)), (NOTHING, NOTHING)
    half, missed = (lesion(A, B), lesion(A)), (lesion(A), NOTHING)
    out = make(tmp_path, good, free, half, missed)
    other = tmp_path / "other"
    assert run("evaluate", tmp_path / "p", tmp_path / "r", "-o", other, "-np", 1) == 0
    names = ("--compare", other, "--names", "ours", "theirs")
    moved = (tmp_path / "p").rename(tmp_path / "moved")

    without = report(out, tmp_path / "a.html", *names)
    having = report(out, tmp_path / "b.html", "--predictions", moved, "--lesions", 1)

    rows = re.findall(r'<tr><th scope="row" title="\w+">(\w+)</th>', without.html)
    assert rows == ["d", "c", "a", "b"]
    table = read_table(tmp_path / "a_files" / "tables" / "cases.csv")
    assert table["case"].tolist() == rows
    assert "theirs \u2212 ours" in without.text
    assert "no longer where they were evaluated" in without.text
    assert 'class="lesion"' not in without.html
    assert "Not shown: 1 hit." in having.text
    pictures = tmp_path / "b_files" / "figures" / "lesions"
    assert len(list(pictures.glob("*.png"))) == having.html.count('class="lesion"') == 3


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is named, wrong files together, and nothing is written."""
    out = make(tmp_path, *[(lesion(A), lesion(A))] * 2)
    images = write_maps(tmp_path / "images", {"a": IMAGE}, "_0001")
    write_maps(images, {"b": IMAGE}, "_0000")
    write_volume(images / "a_0000.nii.gz", Volume(np.zeros((3, 3, 3)), np.eye(4)))
    write_maps(tmp_path / "p", {"b": lesion(B)})
    page, before = tmp_path / "report.html", set(tmp_path.iterdir())
    for arguments, text in (
        ((tmp_path,), "no evaluation"),
        ((out, "--images", images), r"2 cases[\s\S]*a_0000[\s\S]*b\.nii.*changed"),
        ((out, "--images", images, "--channel", 1), "channel 0001 .* lacks that of b"),
        ((out, "--images", tmp_path / "x"), "no folder"),
        ((out, "--model", tmp_path / "p"), "training log"),
        ((out, "-o", tmp_path / "report.docx"), r"ends in \.html"),
        ((out, "--names", "ours"), "--names"),
    ):
        assert run("report", "-o", page, *arguments, "-np", 1) == 1
        error = capsys.readouterr().err
        assert re.search(text, error)
        assert "Traceback" not in error
        assert set(tmp_path.iterdir()) == before


def test_earlier_reports_are_replaced_on_demand_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither page nor folder is lost by a slip; the same report has the same bytes."""
    out, page = make(tmp_path, (lesion(A, B), lesion(A))), tmp_path / "new" / "a.html"
    command = ("report", out, "-np", 1, "-o")
    report(out, page)
    before = contents(page.parent)
    assert run(*command, page) == 1
    page.unlink()
    assert run(*command, page) == 1
    assert "a_files" in capsys.readouterr().err

    report(out, page, "--overwrite")

    assert contents(page.parent) == before
    (tmp_path / "data_files").mkdir()
    (tmp_path / "data_files" / "precious").touch()
    assert run(*command, tmp_path / "data.html", "--overwrite") == 1
    assert "Only an earlier report" in capsys.readouterr().err
    assert (tmp_path / "data_files" / "precious").exists()
