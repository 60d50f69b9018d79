"""Turns public data sets and a clinic's own scans into raw data sets of nnU-Net.

Files are found by their names, in the layouts in which the data sets were distributed,
in whatever folders they are wrapped. Everything is checked before anything is written,
and the data set appears whole or not at all. Converting twice gives the same bytes.

    nnunet-cel convert --list
    nnunet-cel convert wmh --isbi2015 DIR --msseg2016 DIR --wmh2017 DIR
    nnunet-cel convert cel DIR --test-fraction 0.5
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nnunet_cel import parallel
from nnunet_cel.dataset_conversion import cel, msseg2016
from nnunet_cel.dataset_conversion.conversion import (
    Inspection,
    inspect_cases,
    select_cases,
    write_cases,
)
from nnunet_cel.dataset_conversion.raw_dataset import dataset_folder
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.files import (
    check_replaceable,
    file_beforehand,
    settle_file,
    settle_folder,
)
from nnunet_cel.preparation.brain_extraction import (
    BrainExtraction,
    add_brain_arguments,
    brain_extraction,
)

__all__ = ["add_arguments", "run"]

_PUBLIC = ("isbi2015", "msseg2016", "wmh2017")
_WITH_RAW = ("msseg2016", "wmh2017")  # come preprocessed and not
_WITH_SKULL = "wmh2017"
_FOLDER = "nnunet_cel.dataset_conversion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "--list",
        action="store_true",
        help="say what can be converted, where to get it and on which terms",
    )
    sources = parser.add_subparsers(dest="source", metavar="SOURCE")
    merged = sources.add_parser(
        "wmh",
        help="the public data sets in one, as in the paper",
        description="Merges any of the three public FLAIR data sets into one.",
    )
    for name in _PUBLIC:
        merged.add_argument(
            f"--{name}",
            type=Path,
            metavar="DIR",
            help=f"folder of {_module(name).TERMS.name}",
        )
    _add_common_arguments(merged, dataset_id=501, name="WMH")
    for name in _PUBLIC:
        module = _module(name)
        alone = sources.add_parser(
            name,
            help=f"{module.TERMS.name} alone",
            description=inspect.getdoc(module),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        alone.add_argument("folder", type=Path, metavar="DIR", help="folder to read")
        _add_common_arguments(alone, dataset_id=None, name=name.upper())
        module.add_arguments(alone)
        module.add_arguments(merged)
        if name in _WITH_RAW:
            _add_raw_argument(alone)
        if name == _WITH_SKULL:
            add_brain_arguments(alone)
    _add_raw_argument(merged)
    add_brain_arguments(merged)
    own = sources.add_parser(
        "cel",
        help="a clinic's own scans",
        description=inspect.getdoc(cel),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument(
        "folder", type=Path, metavar="DIR", help="folder, BIDS data set or CSV table"
    )
    _add_common_arguments(own, dataset_id=502, name="CEL")
    cel.add_arguments(own)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if args.list:
        for name in _PUBLIC:
            print(f"{name}: {_module(name).TERMS.as_text()}\n")
        print("wmh: the three above in one data set, as in the paper (5 + 52 + 20)\n")
        print("cel: your own contrast-enhanced T1w scans with outlined lesions")
        return 0
    if args.source is None:
        raise ValueError(
            f"The source must be one of wmh, {', '.join(_PUBLIC)}, cel. Got none: see "
            "nnunet-cel convert -h."
        )
    if args.source == "cel":
        return _convert_own(args)
    return _convert_public(args)


def _convert_public(args: argparse.Namespace) -> int:
    """Convert one or several public data sets."""
    if args.source == "wmh":
        roots = {name: getattr(args, name) for name in _PUBLIC if getattr(args, name)}
    else:
        roots = {args.source: args.folder}
    if not roots:
        raise ValueError(
            "At least one folder must be named: "
            f"{', '.join(f'--{name} DIR' for name in _PUBLIC)}. Got none."
        )
    folder = dataset_folder(args.out, args.dataset_id, args.name)
    inputs = [*roots.values(), *([args.brain_mask] if _strips(args) else [])]
    _check_folder(folder, inputs, overwrite=args.overwrite)
    extraction: BrainExtraction | None = None
    cases: list[SourceCase] = []
    choices: dict[str, Any] = {}
    for name, root in roots.items():
        module = _module(name)
        print(f"{module.TERMS.as_text()}\n")
        options = module.choices(args)
        if name == _WITH_SKULL:
            extraction = brain_extraction(args)
            extraction.check()
            options["strip"] = extraction.method != "none"
        found = module.find_cases(root, **options)
        choices[name] = options
        cases += found
    if extraction is not None:
        choices[_WITH_SKULL]["brain_extraction"] = extraction.method
    selected, excluded = _inspect_and_select(args, cases, extraction)
    empty = {case.identifier for case, found in selected if not found.lesion_voxels}
    msseg2016.check_empty(cases, empty | set(excluded))
    terms = [_module(name).TERMS for name in roots]
    _write(
        args,
        folder,
        selected,
        channel="FLAIR",
        terms=terms,
        description=(
            "FLAIR images with white matter lesions from "
            f"{', '.join(term.name for term in terms)}"
        ),
        choices=choices,
        excluded=excluded,
        extraction=extraction,
        inputs=inputs,
    )
    kept = Counter(case.source for case, _ in selected)
    for term in terms:
        print(
            f"{term.name}: {kept[term.name]} cases (the paper used {term.paper_cases})"
        )
    _print_result(args, folder, selected, excluded)
    return 0


def _convert_own(args: argparse.Namespace) -> int:
    """Convert a clinic's own scans."""
    folder = dataset_folder(args.out, args.dataset_id, args.name)
    table = args.linking_table or Path(f"{folder.name}_linking_table.csv")
    settle_folder(folder)
    settle_file(table, of=folder)
    inputs = [args.folder, *([args.table] if args.table else [])]
    _check_folder(folder, inputs, overwrite=args.overwrite)
    _check_linking_table(table, folder, inputs, overwrite=args.overwrite)
    cases = cel.find_cases(
        args.folder,
        images=args.images,
        labels=args.labels,
        lesion_values=args.lesion_values,
        table=args.table,
        group_by=args.group_by,
    )
    inputs += [path for case in cases for path in (case.image, *case.labels)]
    _check_folder(folder, inputs, overwrite=args.overwrite)
    selected, excluded = _inspect_and_select(args, cases)
    numbered = cel.number_cases(
        selected, test_fraction=args.test_fraction, seed=args.seed
    )
    linking_table = cel.linking_table(cases, numbered, excluded)
    with file_beforehand(table, linking_table, mode=0o600):
        _write(
            args,
            folder,
            numbered,
            channel="CE-T1w",
            description="Contrast-enhanced T1w images with enhancing lesions",
            choices={
                "lesion_values": sorted(set(args.lesion_values)),
                "test_fraction": args.test_fraction,
                "group_by": args.group_by,
                "min_lesion_voxels": cel.MIN_LESION_VOXELS,
            },
            # Names of patients without lesion stay in the linking table.
            excluded=list(excluded.values()),
            inputs=inputs,
            name_sources=False,
        )
    # Output ends up in logs, where names of patients do not belong.
    _print_result(args, folder, numbered, {})
    for reason, count in Counter(excluded.values()).items():
        print(f"Left out: {count} of {len(cases)} scans, {reason}")
    print(
        f"{table} says which case is which patient: keep it to yourself, and apart "
        "from the data set."
    )
    return 0


def _inspect_and_select(
    args: argparse.Namespace,
    cases: Sequence[SourceCase],
    extraction: BrainExtraction | None = None,
) -> tuple[list[tuple[SourceCase, Inspection]], dict[str, str]]:
    """Read all cases, and leave out those without lesion where that is allowed."""
    inspections = inspect_cases(
        cases,
        extraction=extraction,
        processes=args.processes,
        progress=not args.no_progress,
    )
    selected, excluded = select_cases(cases, inspections)
    return selected, excluded


def _write(
    args: argparse.Namespace,
    folder: Path,
    selected: Sequence[tuple[SourceCase, Inspection]],
    **settings: Any,
) -> None:
    """Write the data set with the options that all sources have."""
    write_cases(
        folder,
        selected,
        seed=args.seed,
        overwrite=args.overwrite,
        processes=args.processes,
        progress=not args.no_progress,
        **settings,
    )


def _print_result(
    args: argparse.Namespace,
    folder: Path,
    selected: Sequence[tuple[SourceCase, Inspection]],
    excluded: Mapping[str, str],
) -> None:
    """Say what was written, and what comes next."""
    for name, reason in excluded.items():
        print(f"Left out: {name}, {reason}")
    n_test = sum(case.split == "test" for case, _ in selected)
    test = f" and {n_test} test cases" if n_test else ""
    print(f"Wrote {len(selected) - n_test} training cases{test} to {folder}")
    print(
        f"Next: nnUNetv2_plan_and_preprocess -d {args.dataset_id} -pl FCADensePlanner "
        "-c 2d --verify_dataset_integrity"
    )


def _strips(args: argparse.Namespace) -> bool:
    """Return whether brain masks of the user's own are read."""
    return getattr(args, "brain_mask", None) is not None


def _check_folder(folder: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse a folder for the data set before any work."""
    check_replaceable(
        folder,
        what="data set",
        mark="dataset.json",
        inputs=inputs,
        overwrite=overwrite,
    )


def _check_linking_table(
    table: Path, folder: Path, inputs: Sequence[Path], *, overwrite: bool
) -> None:
    """Refuse a place that is taken, or would be shared with the data set."""
    if os.path.realpath(table) in {os.path.realpath(path) for path in inputs}:
        raise ValueError(
            f"The linking table must not take the place of {table}, which is read: "
            "name another place with --linking-table."
        )
    if Path(os.path.realpath(folder)) in Path(os.path.realpath(table)).parents:
        raise ValueError(
            f"The linking table must lie outside the data set {folder}, which others "
            f"may get. Got {table}: name another place with --linking-table."
        )
    if table.is_dir() or not table.parent.is_dir():
        raise ValueError(
            f"The linking table must be a file in a folder that exists. Got {table}: "
            "name another place with --linking-table."
        )
    if table.exists() and not overwrite:
        raise FileExistsError(
            f"The linking table {table} exists and is not replaced without being told "
            "so. Name another file with --linking-table, or add --overwrite."
        )


def _add_common_arguments(
    parser: argparse.ArgumentParser, *, dataset_id: int | None, name: str
) -> None:
    """Add the options that every source has."""
    parser.add_argument(
        "-d",
        "--dataset-id",
        type=int,
        metavar="ID",
        default=dataset_id,
        required=dataset_id is None,
        help="number of the data set"
        + ("" if dataset_id is None else " (default: %(default)s)"),
    )
    parser.add_argument(
        "--name",
        default=name,
        help="name of the data set, behind its number (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder for the data set (default: $nnUNet_raw)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="another one gives other folds and another test part (default: 0)",
    )
    parallel.add_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the data set if it exists"
    )


def _add_raw_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of sources that come preprocessed and not."""
    parser.add_argument(
        "--allow-raw",
        action="store_true",
        help="take the unprocessed FLAIR where the preprocessed one is missing",
    )


def _module(name: str) -> ModuleType:
    """Return the module of a public source."""
    return importlib.import_module(f"{_FOLDER}.{name}")
