"""The command `nnunet-cel`, which hands over to one module for each sub-command.

A sub-command is a module with a docstring, `add_arguments(parser)` and
`run(args) -> int`. Only the module of the chosen one is imported, so that
`nnunet-cel -h` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import inspect
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]

_COMMANDS = {
    "doctor": ("check the installation and say how to repair it", "nnunet_cel.doctor"),
    "prepare": ("find brains, crop and resample", "nnunet_cel.preparation.command"),
    "convert": (
        "make raw data sets of public data and your own scans",
        "nnunet_cel.dataset_conversion.command",
    ),
    "best-fold": ("print the checkpoint of the best fold", "nnunet_cel.best_fold"),
    "restore": (
        "bring predictions to original images",
        "nnunet_cel.preparation.restore",
    ),
    "evaluate": (
        "compare predictions with references, lesion by lesion",
        "nnunet_cel.evaluation.evaluate_command",
    ),
    "compare": (
        "put evaluations of several models side by side, with tests",
        "nnunet_cel.evaluation.compare_command",
    ),
    "lesions": (
        "count and measure the lesions of predictions",
        "nnunet_cel.evaluation.lesions_command",
    ),
    "report": (
        "make a page of an evaluation, with pictures of its lesions",
        "nnunet_cel.report.build",
    ),
    "export": (
        "write label maps for ITK-SNAP, 3D Slicer and DICOM archives",
        "nnunet_cel.report.exports",
    ),
    "protocol": (
        "run the whole study of the paper, with its tables and figures",
        "nnunet_cel.study.command",
    ),
    "weights": (
        "hand on models as files that cannot run code",
        "nnunet_cel.model_export",
    ),
    "phantom": ("write synthetic data", "nnunet_cel.phantom.command"),
    "demo": ("run the whole protocol on phantoms", "nnunet_cel.phantom.demo"),
}
"""Name of each sub-command: its line in the help, and its module."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    The status is 1 after an error that has a message, 2 after wrong usage, and 130
    after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments and arguments[0] in _COMMANDS else None
    before = _treat_termination_as_interruption()
    try:
        args = _get_parser(command).parse_args(arguments)
        status: int = args.run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"nnunet-cel {command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"nnunet-cel {command}: interrupted", file=sys.stderr)
        return 130
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return status


def _treat_termination_as_interruption() -> Any:
    """Clean up after `kill` and job schedulers as after Ctrl-C.

    Returns:
        What was done before; None if nothing was changed.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, signal.default_int_handler)


def _get_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of `command` only."""
    parser = argparse.ArgumentParser(
        prog="nnunet-cel",
        description="What nnU-Net's own commands do not do for nnunet_cel.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"nnunet-cel {importlib.metadata.version('nnunet-cel')}",
    )
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, module_name) in _COMMANDS.items():
        chosen = choices.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == command:
            module = importlib.import_module(module_name)
            chosen.description = inspect.getdoc(module)
            module.add_arguments(chosen)
            chosen.set_defaults(run=module.run)
    return parser
