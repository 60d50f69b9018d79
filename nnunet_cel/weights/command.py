"""Moves trained weights in files that hold no code, and looks into checkpoints safely.

A checkpoint `.pth` of nnU-Net is a pickle: whoever loads it runs what its author put
there. `export` writes the weights of a model folder as numbers and text, `import`
builds a model folder from them that nnUNetv2_predict and -pretrained_weights take, and
`inspect` says what a checkpoint holds without running it, or refuses it.

    nnunet-cel weights export MODEL_FOLDER EXPORT
    nnunet-cel weights import EXPORT MODEL_FOLDER
    nnunet-cel weights inspect checkpoint_final.pth --plans plans.json
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be done, and the arguments of each."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    export = actions.add_parser("export", help="write weights as safetensors and JSON")
    export.add_argument(
        "model",
        metavar="MODEL_FOLDER",
        type=Path,
        help="folder TRAINER__PLANS__CONFIGURATION in nnUNet_results",
    )
    export.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    export.add_argument(
        "-f", dest="folds", nargs="+", metavar="FOLD", help="default: all trained folds"
    )
    export.add_argument(
        "-chk",
        dest="checkpoint",
        default="checkpoint_final.pth",
        help="default: %(default)s",
    )
    export.add_argument(
        "--overwrite", action="store_true", help="replace an earlier export"
    )

    build = actions.add_parser("import", help="build a model folder from an export")
    build.add_argument(
        "source", metavar="EXPORT", type=Path, help="folder of an export"
    )
    build.add_argument(
        "out", metavar="OUT_MODEL_FOLDER", type=Path, help="model folder to write"
    )
    build.add_argument(
        "--sha256",
        metavar="HEX",
        help="refuse another model.json than the one with this SHA-256",
    )

    inspect = actions.add_parser(
        "inspect", help="say what a checkpoint holds, without running it"
    )
    inspect.add_argument("file", metavar="FILE.pth", type=Path)
    inspect.add_argument(
        "--plans",
        type=Path,
        metavar="PLANS.json",
        help="plans.json of a model folder that the weights must fit",
    )
    inspect.add_argument(
        "--tensors", action="store_true", help="list every tensor with its shape"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    return {"export": _export, "import": _import, "inspect": _inspect}[args.action](
        args
    )


def _export(args: argparse.Namespace) -> int:
    from nnunet_cel.files import sha256
    from nnunet_cel.weights.export import export_weights
    from nnunet_cel.weights.manifest import MANIFEST

    manifest = export_weights(
        args.model,
        args.out,
        folds=args.folds,
        checkpoint=args.checkpoint,
        overwrite=args.overwrite,
    )
    print(
        f"Wrote the weights of fold {', '.join(manifest.files)} "
        f"({manifest.trainer}, {manifest.configuration}) to {args.out}\n"
        f"SHA-256 of {MANIFEST}, to publish elsewhere: {sha256(args.out / MANIFEST)}"
    )
    return 0


def _import(args: argparse.Namespace) -> int:
    from nnunet_cel.weights.manifest import versions
    from nnunet_cel.weights.rebuild import import_weights

    manifest = import_weights(args.source, args.out, sha256_of_manifest=args.sha256)
    plans, out = manifest.plans, shlex.quote(str(args.out))
    model = f"{manifest.trainer}__{plans['plans_name']}__{manifest.configuration}"
    print(
        f"Wrote fold {', '.join(manifest.files)} to {args.out}\n"
        f"To predict:   nnUNetv2_predict_from_modelfolder -m {out} -f "
        f"{' '.join(manifest.files)} -i INPUT -o OUTPUT\n"
        f"nnUNetv2_predict finds it as $nnUNet_results/{plans['dataset_name']}/{model}"
    )
    for package, version in versions().items():
        if manifest.made_with[package] != version:
            print(
                f"Note: made with {package} {manifest.made_with[package]}, here is "
                f"{version}. Compare a prediction with the author's."
            )
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from nnunet_cel.weights.inspection import (
        describe,
        find_problems,
        read_checkpoint,
        table_of_tensors,
    )

    read = read_checkpoint(args.file)
    rows = describe(read, args.file)
    problems = find_problems(read, args.file, plans=args.plans)
    if args.plans is not None:
        rows.append(("fits the plans", "no" if problems else "yes"))
    for name, text in rows:
        print(f"{name:<15} {_plain(text)}")
    if args.tensors:
        tensors = table_of_tensors(read.weights)
        width = max(len(name) for name, _, _ in tensors)
        for name, dtype, shape in tensors:
            print(f"{_plain(name):<{width}}  {dtype:<8}  {shape}")
    if problems:
        raise ValueError(" ".join(problems))
    return 0


def _plain(text: str) -> str:
    """Return a text of a file without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
