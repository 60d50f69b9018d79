"""Turns public data sets and a clinic's own scans into raw data sets of nnU-Net.

Files are found by their names, in the layouts in which the data sets were distributed,
in whatever folders they are wrapped. The data set appears whole, or not at all if
anything is wrong with any file. Converting twice gives the same bytes.

    nnunet-cel convert --list
    nnunet-cel convert wmh --isbi2015 DIR --msseg2016 DIR --wmh2017 DIR
    nnunet-cel convert cel DIR --test-fraction 0.5
"""

from __future__ import annotations

import argparse
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nnunet_cel import parallel
from nnunet_cel.dataset_conversion import cel, isbi2015, msseg2016, wmh2017
from nnunet_cel.dataset_conversion.conversion import finish_dataset, store_cases
from nnunet_cel.dataset_conversion.raw_dataset import MARK, dataset_folder
from nnunet_cel.dataset_conversion.source import SourceCase, Terms
from nnunet_cel.dataset_conversion.splits import N_FOLDS
from nnunet_cel.files import new_folder, write_whole
from nnunet_cel.preparation.brain_extraction import (
    BrainExtraction,
    add_brain_arguments,
    brain_extraction,
)

__all__ = ["SOURCES", "add_arguments", "run"]

SOURCES: Mapping[str, ModuleType] = {
    "isbi2015": isbi2015,
    "msseg2016": msseg2016,
    "wmh2017": wmh2017,
}
"""The public data sets. A converter is registered here and nowhere else."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "--list",
        action="store_true",
        help="say what can be converted, where to get it and on which terms",
    )
    parsers = parser.add_subparsers(dest="source", metavar="SOURCE")
    merged = parsers.add_parser(
        "wmh",
        help="the public data sets in one, as in the paper",
        description="Merges any of the public FLAIR data sets into one.",
    )
    for name, source in SOURCES.items():
        merged.add_argument(
            f"--{name}", type=Path, metavar="DIR", help=f"folder of {source.TERMS.name}"
        )
    _add_options(merged, [*SOURCES.values()], dataset_id=501, name="WMH")
    for name, source in {**SOURCES, "cel": cel}.items():
        public = name in SOURCES
        alone = parsers.add_parser(
            name,
            help=f"{source.TERMS.name} alone" if public else "a clinic's own scans",
            description=inspect.getdoc(source),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        what = "folder to read" if public else "folder, BIDS data set or CSV table"
        alone.add_argument("folder", type=Path, metavar="DIR", help=what)
        dataset_id = None if public else 502
        _add_options(alone, [source], dataset_id=dataset_id, name=name.upper())


def _add_options(
    parser: argparse.ArgumentParser,
    sources: Sequence[ModuleType],
    *,
    dataset_id: int | None,
    name: str,
) -> None:
    """Add the options that every source has, and those of some."""
    parser.add_argument(
        "-d",
        "--dataset-id",
        type=int,
        metavar="ID",
        default=dataset_id,
        required=dataset_id is None,
        help="number of the data set (501 for wmh, 502 for cel if none is given)",
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
    for source in sources:
        title = source.TERMS.name if source is not cel else "own scans"
        source.add_arguments(parser.add_argument_group(title))
    options = {option for source in sources for option in _options(source)}
    if "allow_raw" in options:
        parser.add_argument(
            "--allow-raw",
            action="store_true",
            help="take the unprocessed images where the preprocessed ones are missing",
        )
    if "strip" in options:
        add_brain_arguments(parser)


def _options(source: ModuleType) -> list[str]:
    """Return the names of the options of a source, those of its ``find_cases``."""
    parameters = inspect.signature(source.find_cases).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if args.list:
        for name, source in SOURCES.items():
            print(f"{name}: {source.TERMS.as_text()}\n")
        counts = " + ".join(str(s.TERMS.paper_cases) for s in SOURCES.values())
        print(f"wmh: the above in one data set, as in the paper ({counts})\n")
        print("cel: your own contrast-enhanced T1w scans with outlined lesions")
        return 0
    if args.source is None:
        raise ValueError(
            f"The source must be one of wmh, {', '.join(SOURCES)}, cel. Got none: see "
            "nnunet-cel convert -h."
        )
    return _convert(args)


def _convert(args: argparse.Namespace) -> int:
    """Convert one or several public data sets, or a clinic's own scans."""
    own = args.source == "cel"
    if args.source == "wmh":
        roots = {name: getattr(args, name) for name in SOURCES if getattr(args, name)}
    else:
        roots = {args.source: args.folder}
    if not roots:
        raise ValueError(
            "At least one folder must be named: "
            f"{', '.join(f'--{name} DIR' for name in SOURCES)}. Got none."
        )
    folder = dataset_folder(args.out, args.dataset_id, args.name)
    extraction = BrainExtraction("none")
    if any("strip" in _options(SOURCES.get(name, cel)) for name in roots):
        extraction = brain_extraction(args)
    cases, choices, terms = _find(args, roots, extraction)
    inputs = [*roots.values(), *filter(None, [extraction.mask_folder])]
    if own:
        inputs += [path for case in cases for path in (case.image, *case.labels)]
        linking = args.linking_table or Path(f"{folder.name}_linking_table.csv")
        _check_linking_table(linking, folder, inputs, overwrite=args.overwrite)
    with new_folder(
        folder, what="data set", mark=MARK, inputs=inputs, overwrite=args.overwrite
    ) as unfinished:
        kept, excluded = store_cases(
            unfinished, cases, extraction, parallel.mapper(args, "Converting")
        )
        if own:
            kept = cel.number_cases(kept, args.test_fraction, args.seed)
        finish_dataset(
            unfinished,
            kept,
            name=folder.name,
            choices={**choices, "seed": args.seed},
            # Names of patients without lesion stay in the linking table.
            excluded=[*excluded.values()] if own else excluded,
            terms=terms,
            extraction=extraction,
        )
        if own:
            write_whole(linking, cel.linking_table(cases, kept, excluded), mode=0o600)
    counts = Counter(case.source for case, _ in kept)
    for term in terms:
        used = f"cases (the paper used {term.paper_cases})"
        print(f"{term.name}: {counts[term.name]} {used}")
    # Output ends up in logs, where names of patients do not belong.
    for reason in sorted({*excluded.values()}):
        names = [name for name, other in excluded.items() if other == reason]
        who = f"{len(names)} of {len(cases)} scans" if own else ", ".join(names)
        print(f"Left out: {who}, {reason}")
    if own:
        print(f"{linking} says which case is which patient: keep it to yourself.")
    n_test = sum(case.split == "test" for case, _ in kept)
    test = f" and {n_test} test cases" if n_test else ""
    print(f"Wrote {len(kept) - n_test} training cases{test} to {folder}")
    print(
        f"Next: nnUNetv2_plan_and_preprocess -d {args.dataset_id} -pl FCADensePlanner "
        "-c 2d --verify_dataset_integrity"
    )
    patients = len({case.group for case, _ in kept if case.split == "train"})
    if patients < N_FOLDS:
        print(f"{patients} patients are too few for {N_FOLDS} folds: train fold all.")
    return 0


def _find(
    args: argparse.Namespace, roots: Mapping[str, Path], extraction: BrainExtraction
) -> tuple[list[SourceCase], dict[str, Any], list[Terms]]:
    """Return the cases below the roots, what was chosen, and the terms of use."""
    cases: list[SourceCase] = []
    choices: dict[str, Any] = {}
    terms = []
    for name, root in roots.items():
        source = SOURCES.get(name, cel)
        options = {}
        for option in _options(source):
            value = getattr(args, option, None)
            # Neither order nor repetition of what was chosen changes anything.
            options[option] = sorted({*value}) if isinstance(value, list) else value
        if source is cel:
            choices = cel.choices(args)
        else:
            terms.append(source.TERMS)
            print(f"{source.TERMS.as_text()}\n")
            choices[name] = options
        if "strip" in options:
            options["strip"] = extraction.method != "none"
            choices[name] = {**options, "brain_extraction": extraction.method}
        cases += source.find_cases(root, **options)
    return cases, choices, terms


def _check_linking_table(
    table: Path, folder: Path, inputs: Sequence[Path], *, overwrite: bool
) -> None:
    """Refuse a place that is taken, or would be shared with the data set."""
    place = table.resolve()
    if (
        place in {path.resolve() for path in inputs}
        or folder.resolve() in place.parents
        or not place.parent.is_dir()
        or (place.exists() and not (place.is_file() and overwrite))
    ):
        raise ValueError(
            "The linking table must be a new file (or --overwrite) in a folder that "
            f"exists, outside of the data set. Got {table}: name another place with "
            "--linking-table."
        )
