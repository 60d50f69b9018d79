r"""Compares predictions with references, voxel by voxel and lesion by lesion.

PREDICTIONS and REFERENCES are folders with one label map for each case, under the same
names (nnU-Net's output folder and labelsTs).

    nnunet-cel evaluate PREDICTIONS nnUNet_raw/Dataset502_CEL/labelsTs -o OUT
    nnunet-cel evaluate PREDICTIONS REFERENCES -o OUT --protocol anima -np 4

Files in OUT:

- cases.csv: one row for each case, lesions.csv: one for each lesion.
- summary.csv: one row for each metric; summary.json: the same, with the
  protocol, the versions and all that concerns scans and sizes.
- froc.csv, calibration.csv: detection at other thresholds and calibration,
  with probabilities only.
- folders.json: where predictions and references are on this computer, for commands
  that come after. Names of folders may tell more than others should know, so they stand
  nowhere else, and only you may read this file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel import parallel
from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.labels import Labels, read_labels, read_probabilities
from nnunet_cel.evaluation.protocol import Protocol, load_protocol
from nnunet_cel.evaluation.summary import (
    RESAMPLES,
    calibrate,
    froc,
    summarize_metrics,
    summarize_scans,
    summarize_sizes,
    summarize_thresholds,
)
from nnunet_cel.evaluation.tables import plain, write_table
from nnunet_cel.files import new_folder, sha256, to_json, write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.scans import pair_cases
from nnunet_cel.volumes import check_same_grid, read_label_map

__all__ = [
    "FOLDERS",
    "Evaluation",
    "add_arguments",
    "add_options",
    "evaluate_folders",
    "join_cases",
    "run",
    "write_evaluation",
]

_WANTED_LFDR = (0.1, 0.2, 0.3, 0.4, 0.5)

FOLDERS = "folders.json"
"""Name of the file that says where predictions and references are."""

_PACKAGES = (
    *("nnunet-cel", "connected-components-3d", "nibabel", "numpy", "pandas", "scipy"),
)

_OPTIONS: dict[str, dict[str, Any]] = {
    "out": {"type": Path, "required": True, "metavar": "OUT", "help": "what to write"},
    "protocol": {
        "default": "paper",
        "metavar": "NAME",
        "help": "paper, anima, or a YAML file (default: %(default)s)",
    },
    "label": {
        "type": int,
        "metavar": "N",
        "help": "value of lesion voxels; all others are background (default: 1, and "
        "values that dataset.json does not explain are refused)",
    },
    "seed": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "seed of the bootstrap (default: %(default)s)",
    },
    "overwrite": {"action": "store_true", "help": "replace what was written before"},
}

Evaluation = Mapping[str, Any]
"""Content of each file by its name: a table (``.csv``) or a record (``.json``)."""


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add ``--out``, ``--overwrite`` and some other common options to a parser."""
    for name in ("out", *names, "overwrite"):
        flags = ["-o"] if name == "out" else []
        parser.add_argument(*flags, f"--{name}", **_OPTIONS[name])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS")
    parser.add_argument("references", type=Path, metavar="REFERENCES")
    add_options(parser, "protocol", "label", "seed")
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="use the .npz files of nnUNetv2_predict --save_probabilities",
    )
    parser.add_argument(
        "--wanted-lfdr",
        type=_share,
        nargs="+",
        default=_WANTED_LFDR,
        metavar="X",
        help="look for thresholds with these LFDR (default: 0.1 0.2 0.3 0.4 0.5)",
    )
    parser.add_argument(
        "--ignore-label",
        type=int,
        metavar="N",
        help="value of reference voxels to leave out (default: as in dataset.json)",
    )
    parser.add_argument(
        "--subset", action="store_true", help="allow references without a prediction"
    )
    parallel.add_arguments(parser)


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1. Got {text} instead.")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    with new_folder(
        args.out,
        what="evaluation",
        mark="cases.csv",
        inputs=(args.predictions, args.references),
        overwrite=args.overwrite,
    ) as folder:
        evaluation = evaluate_folders(
            args.predictions,
            args.references,
            load_protocol(args.protocol),
            probabilities=args.probabilities,
            label=args.label,
            ignore_label=args.ignore_label,
            subset=args.subset,
            wanted_lfdr=args.wanted_lfdr,
            seed=args.seed,
            each=parallel.mapper(args, "Evaluating"),
        )
        write_evaluation(evaluation, folder)
    print(f"{_describe(evaluation)}\nWrote {args.out}")
    return 0


def _describe(evaluation: Evaluation) -> str:
    """Return what was found as text."""
    summary, metrics = evaluation["summary.json"], evaluation["summary.csv"]
    titles = {"mean": "mean", "sd": "SD", "median": "median"}
    titles |= {"ci_low": "95 % CI from", "ci_high": "to", "n": "cases"}
    table = metrics[list(titles)].rename(columns=titles)
    units = metrics["unit"].map(lambda unit: f" ({unit})" if unit else "")
    table.index = metrics["metric"] + units
    protocol = summary["protocol"]
    lines = [
        f"{summary['n']} cases, protocol {protocol['name']} {protocol['version']}",
        table.to_string(float_format="{:.3f}".format, na_rep="-"),
    ]
    for kind, name in (("sensitivity", "with"), ("specificity", "without")):
        share = summary["scans"][kind]
        text = f"Scans {name} lesions called so: {share['count']} of {share['n']}"
        if share["n"]:
            text += f" (95 % CI {share['ci_low']:.3f} to {share['ci_high']:.3f})"
        lines.append(text)
    if summary["thresholds"] is not None:
        precision = summary["thresholds"]["average_precision"]
        lines.append(f"Average precision of lesions: {precision:.3f}")
        for entry in summary["thresholds"]["for_lfdr"]:
            text = "no threshold"
            if found := entry["found"]:
                text = "threshold {threshold:g}, L-sens {L-sens:.3f}, DSC {DSC:.3f}"
                text = text.format(**found)
            lines.append(f"LFDR {entry['wanted']:g}: {text}")
    return "\n".join(lines)


def evaluate_folders(
    predictions: Path,
    references: Path,
    protocol: Protocol,
    *,
    probabilities: bool = False,
    label: int | None = None,
    ignore_label: int | None = None,
    subset: bool = False,
    wanted_lfdr: Sequence[float] = _WANTED_LFDR,
    seed: int = 0,
    each: Any = try_cases,
) -> Evaluation:
    """Compare all predictions of a folder with their references.

    Args:
        predictions: Folder with one label map for each case.
        references: Folder with a label map of the same name for each of them.
        protocol: The rules.
        probabilities: Whether to use the ``.npz`` file beside each prediction.
        label: Value of lesion voxels; None is 1, see
            :func:`~nnunet_cel.evaluation.labels.read_labels`.
        ignore_label: Value of reference voxels to leave out; None asks
            ``dataset.json``.
        subset: Whether references without a prediction are left out.
        wanted_lfdr: Lesion false discovery rates to look for a threshold for.
        seed: Seed of the bootstrap.
        each: What applies a function to all cases.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If files are missing, damaged or do not match; the message lists
            all of them.
    """
    pairs = pair_cases(predictions, references, subset=subset)
    labels = read_labels(
        [references, references.parent, predictions], lesion=label, ignore=ignore_label
    )
    function = partial(_evaluate_files, protocol, labels, probabilities)
    results = each(function, [(name, *files) for name, files in pairs.items()])
    found = join_cases(pairs, results)
    cases, lesions = found["cases"], found["lesions"]
    metrics = summarize_metrics(cases, seed=seed)
    tables = {"cases.csv": cases, "lesions.csv": lesions, "summary.csv": metrics}
    thresholds = None
    if probabilities:
        curve = froc(found["sweep"])
        calibration = calibrate(found["reliability"], lesions)
        thresholds = summarize_thresholds(curve, calibration, wanted_lfdr)
        tables |= {"froc.csv": curve, "calibration.csv": calibration}
    summary = {
        "protocol": protocol.to_dict(),
        "label": labels.lesion,
        "ignore_label": labels.ignore,
        "n": len(cases),
        "metrics": metrics.set_index("metric").to_dict("index"),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES},
        "scans": summarize_scans(cases),
        "sizes_mm3": summarize_sizes(lesions),
        "thresholds": thresholds,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "sha256": {
            name: {"prediction": sha256(predicted), "reference": sha256(true)}
            for name, (predicted, true) in pairs.items()
        },
    }
    folders = {"predictions": predictions, "references": references}
    paths = {name: str(folder.resolve()) for name, folder in folders.items()}
    return tables | {FOLDERS: paths, "summary.json": summary}


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write the files of an evaluation to a folder that exists."""
    for name, content in evaluation.items():
        if isinstance(content, pd.DataFrame):
            write_table(folder / name, content)
        else:
            mode = 0o600 if name == FOLDERS else 0o666
            write_whole(folder / name, to_json(plain(content)), mode=mode)


def join_cases(
    cases: Iterable[str], results: Sequence[Mapping[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """Return the tables of all cases, joined, with the case in the first column."""
    return {
        name: pd.concat([r[name] for r in results], keys=cases, names=["case", "row"])
        .reset_index("case")
        .reset_index(drop=True)
        for name in results[0]
    }


def _evaluate_files(
    protocol: Protocol, labels: Labels, probable: bool, files: tuple[str, Path, Path]
) -> dict[str, pd.DataFrame]:
    """Return the tables of a case."""
    name, predicted, true = files
    prediction, reference = read_label_map(predicted), read_label_map(true)
    check_same_grid(f"The prediction {predicted}", prediction, reference)
    labels.check(predicted, prediction.voxels)
    labels.check(true, reference.voxels)
    probabilities = None
    if probable:
        saved = predicted.parent / f"{name}.npz"
        probabilities = read_probabilities(saved, prediction.voxels, labels)
    return evaluate_case(
        prediction, reference, protocol, labels=labels, probabilities=probabilities
    )
