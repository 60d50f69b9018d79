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

from nnunet_cel import parallel
from nnunet_cel.evaluation.dataset import (
    WANTED_LFDR,
    Evaluation,
    evaluate_folders,
    write_evaluation,
)
from nnunet_cel.evaluation.options import add_options
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.files import new_folder

__all__ = ["add_arguments", "run"]


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
        type=float,
        nargs="+",
        default=WANTED_LFDR,
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
    wanted = args.wanted_lfdr
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
            load_protocol(args.protocol),
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
    print(f"{_describe(evaluation)}\nWrote {args.out}")
    return 0


def _describe(evaluation: Evaluation) -> str:
    """Return what was found as text."""
    summary, metrics = evaluation.summary, evaluation.tables["summary"]
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
