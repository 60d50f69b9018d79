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
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nnunet_cel import parallel
from nnunet_cel.dataset_conversion import cel, isbi2015, msseg2016, wmh2017
from nnunet_cel.dataset_conversion.conversion import (
    Kept,
    finish_dataset,
    store_cases,
)
from nnunet_cel.dataset_conversion.raw_dataset import MARK, dataset_folder
from nnunet_cel.dataset_conversion.source import Source, SourceCase
from nnunet_cel.files import new_folder, write_whole
from nnunet_cel.preparation.brain_extraction import (
    BrainExtraction,
    add_brain_arguments,
    brain_extraction,
)

__all__ = ["SOURCES", "add_arguments", "run"]

SOURCES: Mapping[str, Source] = {
    "isbi2015": isbi2015.SOURCE,
    "msseg2016": msseg2016.SOURCE,
    "wmh2017": wmh2017.SOURCE,
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
            f"--{name}", type=Path, metavar="DIR", help=f"folder of {source.terms.name}"
        )
    _add_common_arguments(merged, dataset_id=501, name="WMH")
    _add_source_arguments(merged, SOURCES.values())
    for name, source in SOURCES.items():
        alone = parsers.add_parser(
            name,
            help=f"{source.terms.name} alone",
            description=source.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        alone.add_argument("folder", type=Path, metavar="DIR", help="folder to read")
        _add_common_arguments(alone, dataset_id=None, name=name.upper())
        _add_source_arguments(alone, [source])
    own = parsers.add_parser(
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
        for name, source in SOURCES.items():
            print(f"{name}: {source.terms.as_text()}\n")
        counts = " + ".join(str(s.terms.paper_cases) for s in SOURCES.values())
        print(f"wmh: the above in one data set, as in the paper ({counts})\n")
        print("cel: your own contrast-enhanced T1w scans with outlined lesions")
        return 0
    if args.source is None:
        raise ValueError(
            f"The source must be one of wmh, {', '.join(SOURCES)}, cel. Got none: see "
            "nnunet-cel convert -h."
        )
    if args.source == "cel":
        return _convert_own(args)
    return _convert_public(args)


def _convert_public(args: argparse.Namespace) -> int:
    """Convert one or several public data sets."""
    if args.source == "wmh":
        roots = {name: getattr(args, name) for name in SOURCES if getattr(args, name)}
    else:
        roots = {args.source: args.folder}
    if not roots:
        raise ValueError(
            "At least one folder must be named: "
            f"{', '.join(f'--{name} DIR' for name in SOURCES)}. Got none."
        )
    channels = {SOURCES[name].channel for name in roots}
    if len(channels) > 1:
        raise ValueError(
            "Data sets that are merged must have images of one kind. Got "
            f"{', '.join(sorted(channels))}: convert them one by one."
        )
    folder = dataset_folder(args.out, args.dataset_id, args.name)
    extraction: BrainExtraction | None = None
    if any(SOURCES[name].has_skull for name in roots):
        extraction = brain_extraction(args)
        extraction.check()
    cases: dict[str, list[SourceCase]] = {}
    choices: dict[str, dict[str, Any]] = {}
    for name, root in roots.items():
        print(f"{SOURCES[name].terms.as_text()}\n")
        choices[name] = _options(SOURCES[name], args, extraction)
        cases[name] = SOURCES[name].find_cases(root, **choices[name])
        if extraction is not None and SOURCES[name].has_skull:
            choices[name]["brain_extraction"] = extraction.method
    masks = [extraction.mask_folder] if extraction and extraction.mask_folder else []
    with _new_dataset(args, folder, [*roots.values(), *masks]) as unfinished:
        kept, excluded = store_cases(
            unfinished,
            [case for found in cases.values() for case in found],
            extraction=extraction,
            processes=args.processes,
            progress=not args.no_progress,
        )
        lesion_free = {
            case.identifier for case, found in kept if not found.lesion_voxels
        }
        for name, found in cases.items():
            names = {case.identifier for case in found}
            SOURCES[name].check(names, names & (lesion_free | set(excluded)))
        terms = [SOURCES[name].terms for name in roots]
        finish_dataset(
            unfinished,
            kept,
            name=folder.name,
            channel=channels.pop(),
            description=(
                "FLAIR images with white matter lesions from "
                f"{', '.join(term.name for term in terms)}"
            ),
            choices={**choices, "seed": args.seed},
            excluded=excluded,
            terms=terms,
            extraction=extraction,
        )
    counts = Counter(case.source for case, _ in kept)
    for term in terms:
        print(
            f"{term.name}: {counts[term.name]} cases (the paper used "
            f"{term.paper_cases})"
        )
    _print_result(args, folder, kept, excluded)
    return 0


def _options(
    source: Source, args: argparse.Namespace, extraction: BrainExtraction | None
) -> dict[str, Any]:
    """Return the options of a source as its ``find_cases`` takes them."""
    options = {name: getattr(args, name) for name in source.options}
    if source.has_skull and extraction is not None:
        options["strip"] = extraction.method != "none"
    # Neither order nor repetition of what was chosen changes anything.
    return {
        name: sorted(set(value)) if isinstance(value, list) else value
        for name, value in options.items()
    }


def _convert_own(args: argparse.Namespace) -> int:
    """Convert a clinic's own scans."""
    folder = dataset_folder(args.out, args.dataset_id, args.name)
    table = args.linking_table or Path(f"{folder.name}_linking_table.csv")
    cases = cel.find_cases(
        args.folder,
        images=args.images,
        labels=args.labels,
        lesion_values=args.lesion_values,
        table=args.table,
        group_by=args.group_by,
    )
    inputs = [args.folder, *([args.table] if args.table else [])]
    inputs += [path for case in cases for path in (case.image, *case.labels)]
    _check_linking_table(table, folder, inputs, overwrite=args.overwrite)
    with _new_dataset(args, folder, inputs) as unfinished:
        kept, excluded = store_cases(
            unfinished,
            cases,
            processes=args.processes,
            progress=not args.no_progress,
        )
        numbered = cel.number_cases(
            kept, test_fraction=args.test_fraction, seed=args.seed
        )
        finish_dataset(
            unfinished,
            numbered,
            name=folder.name,
            channel="CE-T1w",
            description="Contrast-enhanced T1w images with enhancing lesions",
            choices={
                "lesion_values": sorted(set(args.lesion_values)),
                "test_fraction": args.test_fraction,
                "group_by": args.group_by,
                "min_lesion_voxels": cel.MIN_LESION_VOXELS,
                "seed": args.seed,
            },
            # Names of patients without lesion stay in the linking table.
            excluded=list(excluded.values()),
            name_sources=False,
        )
        write_whole(table, cel.linking_table(cases, numbered, excluded), mode=0o600)
    # Output ends up in logs, where names of patients do not belong.
    _print_result(args, folder, numbered, {})
    for reason, count in Counter(excluded.values()).items():
        print(f"Left out: {count} of {len(cases)} scans, {reason}")
    print(
        f"{table} says which case is which patient: keep it to yourself, and apart "
        "from the data set."
    )
    return 0


def _new_dataset(
    args: argparse.Namespace, folder: Path, inputs: Sequence[Path]
) -> AbstractContextManager[Path]:
    """Return a block that makes the folder of a data set, whole or not at all."""
    return new_folder(
        folder, what="data set", mark=MARK, inputs=inputs, overwrite=args.overwrite
    )


def _print_result(
    args: argparse.Namespace,
    folder: Path,
    kept: Sequence[Kept],
    excluded: Mapping[str, str],
) -> None:
    """Say what was written, and what comes next."""
    for name, reason in excluded.items():
        print(f"Left out: {name}, {reason}")
    n_test = sum(case.split == "test" for case, _ in kept)
    test = f" and {n_test} test cases" if n_test else ""
    print(f"Wrote {len(kept) - n_test} training cases{test} to {folder}")
    print(
        f"Next: nnUNetv2_plan_and_preprocess -d {args.dataset_id} -pl FCADensePlanner "
        "-c 2d --verify_dataset_integrity"
    )


def _check_linking_table(
    table: Path, folder: Path, inputs: Sequence[Path], *, overwrite: bool
) -> None:
    """Refuse a place that is taken, or would be shared with the data set."""
    place = Path(os.path.realpath(table))
    if place in {Path(os.path.realpath(path)) for path in inputs}:
        problem = "is read"
    elif Path(os.path.realpath(folder)) in place.parents:
        problem = "lies in the data set, which others may get"
    elif table.is_dir() or not table.parent.is_dir():
        problem = "is no file in a folder that exists"
    elif table.exists() and not overwrite:
        problem = "exists and is not replaced without --overwrite"
    else:
        return
    raise ValueError(
        "The linking table must have a place of its own, outside the data set. Got "
        f"{table}, which {problem}: name another place with --linking-table."
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


def _add_source_arguments(
    parser: argparse.ArgumentParser, sources: Collection[Source]
) -> None:
    """Add the options of some public data sets."""
    for source in sources:
        source.add_arguments(parser.add_argument_group(source.terms.name))
    if any("allow_raw" in source.options for source in sources):
        parser.add_argument(
            "--allow-raw",
            action="store_true",
            help="take the unprocessed images where the preprocessed ones are missing",
        )
    if any(source.has_skull for source in sources):
        add_brain_arguments(parser)
