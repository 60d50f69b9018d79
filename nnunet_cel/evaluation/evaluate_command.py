r"""Compares predictions with references, voxel by voxel and lesion by lesion.

PREDICTIONS and REFERENCES are folders with one label map for each case, under the same
names (nnU-Net's output folder and labelsTs). OUT gets cases.csv, lesions.csv,
summary.csv and summary.json, and with --probabilities froc.csv and calibration.csv.

    nnunet-cel evaluate PREDICTIONS nnUNet_raw/Dataset502_CEL/labelsTs -o OUT
    nnunet-cel evaluate PREDICTIONS REFERENCES -o OUT --protocol anima -np 4
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_cel import parallel
from nnunet_cel.evaluation.options import add_options

if TYPE_CHECKING:
    from nnunet_cel.evaluation.dataset import Evaluation

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS")
    parser.add_argument("references", type=Path, metavar="REFERENCES")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="folder to write"
    )
    add_options(parser, "protocol", "label", "seed", "overwrite")
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="use the .npz files of nnUNetv2_predict --save_probabilities",
    )
    parser.add_argument(
        "--wanted-lfdr",
        type=float,
        nargs="+",
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


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from nnunet_cel.evaluation.dataset import (
        WANTED_LFDR,
        evaluate_folders,
        write_evaluation,
    )
    from nnunet_cel.evaluation.protocol import load_protocol
    from nnunet_cel.files import new_folder

    protocol = load_protocol(args.protocol)
    wanted = args.wanted_lfdr or WANTED_LFDR
    if not all(0 <= value <= 1 for value in wanted):
        raise ValueError(f"A wanted LFDR must be from 0 to 1. Got {wanted} instead.")
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
            protocol,
            probabilities=args.probabilities,
            label=args.label,
            ignore_label=args.ignore_label,
            subset=args.subset,
            wanted_lfdr=wanted,
            seed=args.seed,
            processes=args.processes,
            description=None if args.no_progress else "Evaluating",
        )
        write_evaluation(evaluation, folder)
    print(_describe(evaluation))
    print(f"Wrote {args.out}")
    return 0


def _describe(evaluation: Evaluation) -> str:
    """Return what was found as text."""
    from nnunet_cel.evaluation.tables import number

    summary, metrics = evaluation.summary, evaluation.tables["summary"]
    table = metrics[["mean", "sd", "median"]].map(number)
    table.columns = ["mean", "SD", "median"]
    table["95 % CI of the mean"] = [
        f"{number(row.ci_low)} to {number(row.ci_high)}" for row in metrics.itertuples()
    ]
    table["cases"] = metrics["n"]
    table.index = [
        f"{row.metric} ({row.unit})" if row.unit else row.metric
        for row in metrics.itertuples()
    ]
    protocol, scans = summary["protocol"], summary["scans"]
    lines = [
        f"{summary['n']} cases, protocol {protocol['name']} {protocol['version']}",
        table.to_string(),
        "Scans with lesions called so: " + _proportion(scans["sensitivity"]),
        "Scans without lesions called so: " + _proportion(scans["specificity"]),
    ]
    free = scans["lesion_free"]
    if free["n"]:
        lines.append(
            f"False lesions on scans without lesions: {free['false_lesions']:.2f} with "
            f"{free['false_ml']:.3f} ml per scan"
        )
    if summary["thresholds"] is not None:
        precision = number(summary["thresholds"]["average_precision"])
        lines.append(f"Average precision of lesions: {precision}")
        lines += [_threshold(entry) for entry in summary["thresholds"]["for_lfdr"]]
    return "\n".join(lines)


def _proportion(values: dict[str, Any]) -> str:
    """Return a proportion as text."""
    if not values["n"]:
        return "no such scans"
    return (
        f"{values['count']} of {values['n']} ({values['value']:.3f}, 95 % CI "
        f"{values['ci_low']:.3f} to {values['ci_high']:.3f})"
    )


def _threshold(entry: dict[str, Any]) -> str:
    """Return the threshold for a wanted LFDR as text."""
    found = entry["found"]
    if found is None:
        return f"LFDR {entry['wanted']:g}: no threshold"
    return (
        f"LFDR {entry['wanted']:g}: threshold {found['threshold']:g}, L-sens "
        f"{found['L-sens']:.3f}, DSC {found['DSC']:.3f}"
    )
