"""Tests of tables as Markdown and TeX."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nnunet_cel.study.tables import as_markdown, as_tex

METRICS = ("DSC", "PPV", "TPR", "VD", "LFDR", "L-sens")


def values(**columns: object) -> pd.DataFrame:
    """Return two methods, the first of which is the best."""
    rows = [
        {
            **{"block": "", "method": method, "metric": metric, "over": "cases"},
            **{"n": 3, "mean": mean, "sd": 0.1, "best": method == "A_1"},
            "paper": "0.661* (0.187)*" if method == "A_1" else "",
            **columns,
        }
        for method, mean in (("A_1", 0.5), ("B", math.nan))
        for metric in METRICS
    ]
    return pd.DataFrame(rows)


def squeezed(text: str) -> str:
    """Return a text without what fills its columns."""
    return " ".join(text.split())


def test_markdown_shows_means_stars_and_what_they_are_over() -> None:
    """A cell without a value is a dash; the paper's numbers are below."""
    text = squeezed(as_markdown("table6", values()))

    assert r"| this study | DSC | 0.500\* (0.100) | - |" in text
    assert r"| Huang et al. 2024 | L-sensitivity | 0.661\* (0.187)\* | - |" in text
    assert "over 3 cases; *, best mean." in text
    assert "Huang" not in as_markdown("table6", values(paper=""))


def test_markdown_shows_differences() -> None:
    """With interval and corrected p, and what they mean."""
    tests = values().assign(
        **{"split": "", "reference": "A", "other": "B", "mean_difference": -0.25},
        **{"ci_low": -0.5, "ci_high": 0.0, "p_holm": 0.0004},
    )
    text = squeezed(as_markdown("table6", values(), tests))

    assert "A minus the others: mean difference" in text
    assert "| DSC | -0.250 (-0.500 to +0.000), p < 0.001 |" in text


def test_tables_are_laid_out_as_in_the_paper() -> None:
    """Table 3 has no lesions; Table 5 names the window of its rows."""
    text = as_markdown("table3", values(over="folds"))
    assert "LFDR" not in text
    assert "over 3 folds" in text

    two = pd.concat([values(block="64 x 64"), values(block="full window", paper="")])
    text = squeezed(as_markdown("table5", two))
    assert "| full window | this study | DSC | 0.500" in text
    assert "| 64 x 64 | Huang et al. 2024 | DSC | 0.661" in text
    assert "| full window | Huang" not in text


@pytest.mark.parametrize(
    "expected",
    [
        r"A\_1",
        r"this study & DSC & 0.500* (0.100) & - \\",
        r"\caption{Fine-tuned models on the CEL test half. Mean",
        r"\toprule",
    ],
)
def test_tex_has_nothing_that_tex_takes_for_a_command(expected: str) -> None:
    """Underscores are escaped."""
    assert expected in as_tex("table6", values())


def test_networks_have_no_deviation() -> None:
    """Table 2 shows parameters and times."""
    table = pd.DataFrame(
        {
            **{"block": "", "method": ["A", "B"], "metric": "Training time (h)"},
            **{"mean": [1.5, math.nan], "paper": ["~10", ""]},
        }
    )
    text = squeezed(as_markdown("table2", table))

    assert "| this study | Training time (h) | 1.500 | - |" in text
    assert "| Huang et al. 2024 | Training time (h) | ~10 | - |" in text
