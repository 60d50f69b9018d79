r"""Makes a report of an evaluation: one HTML page, and its figures and tables.

OUT is a folder that 'nnunet-cel evaluate' wrote. The page needs no other file: it can
be sent by mail, printed, and read offline. A folder beside it, report_files for
report.html, holds every figure as PNG and SVG and every table as CSV.

    nnunet-cel report OUT --images nnUNet_raw/Dataset502_CEL/imagesTs -o report.html
    nnunet-cel report OUT --model MODEL --compare OUT_B OUT_C -o report.html
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from nnunet_cel import parallel

__all__ = ["add_arguments", "add_evaluation", "add_output", "run"]

_FOLDERS = {
    "--images": "images of the cases, to see the lesions on them (CASE_0000.nii.gz)",
    "--model": "folder of the nnU-Net model, for training curves",
}
_PLACES = {
    "--predictions": "where predictions are, if they were moved after the evaluation",
    "--references": "where the references are, likewise",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add_evaluation(parser)
    add_output(parser, "HTML", "page to write, such as report.html")
    for name, text in _FOLDERS.items():
        parser.add_argument(name, type=Path, metavar="DIR", help=text)
    parser.add_argument(
        "--channel", type=int, default=0, metavar="N", help="channel of the images"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="OUT_B",
        help="evaluations of other models on the same cases",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="names of the models, that of OUT first (default: those of the folders)",
    )
    parser.add_argument("--title", help="title of the page")
    parser.add_argument(
        "--lesions",
        type=int,
        metavar="N",
        help="lesions to show of each case, 0 for none (default: 6, fewer for more "
        "than 100 cases)",
    )


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that read an evaluation and its label maps."""
    parser.add_argument("evaluation", type=Path, metavar="OUT")
    for name, text in _PLACES.items():
        parser.add_argument(name, type=Path, metavar="DIR", help=text)
    parallel.add_arguments(parser)


def add_output(parser: argparse.ArgumentParser, kind: str, text: str) -> None:
    """Add the arguments of what is written, whose help is a text."""
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar=kind, help=text
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier one"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from nnunet_cel.report.build import write_report

    start = time.monotonic()
    files = write_report(
        args.evaluation,
        args.out,
        images=args.images,
        channel=args.channel,
        model=args.model,
        compare=args.compare,
        names=args.names,
        title=args.title,
        lesions_per_case=args.lesions,
        predictions=args.predictions,
        references=args.references,
        overwrite=args.overwrite,
        each=parallel.mapper(args, "Drawing"),
    )
    size = args.out.stat().st_size / 1e6
    print(f"Wrote {args.out} ({size:.1f} MB) in {time.monotonic() - start:.0f} s")
    print(f"Figures and tables are in {files}")
    return 0
