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
from collections.abc import Sequence

__all__ = ["main"]

_COMMANDS = {
    "doctor": ("check the installation and say how to repair it", "doctor"),
    "prepare": ("find brains, crop and resample", "preparation.command"),
    "convert": ("make data sets of public data or scans", "dataset_conversion.command"),
    "best-fold": ("print the checkpoint of the best fold", "best_fold"),
    "restore": ("bring predictions to original images", "preparation.restore"),
    "evaluate": ("compare with references", "evaluation.dataset"),
    "compare": ("compare models, with tests", "evaluation.comparison"),
    "lesions": ("count and measure lesions", "evaluation.count"),
    "report": ("make a page of an evaluation, with pictures", "report.build"),
    "export": ("write label maps for viewers and archives", "report.exports"),
    "protocol": ("run the whole study of the paper", "study.command"),
    "weights": ("hand on models as files that cannot run code", "model_export"),
    "phantom": ("write synthetic data", "phantom.command"),
    "demo": ("run the whole protocol on phantoms", "phantom.demo"),
}
"""Name of each sub-command: its line in the help, and its module in this package."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    The status is 1 after an error that has a message, 2 after wrong usage, and 130
    after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments and arguments[0] in _COMMANDS else None
    # `kill` and job schedulers end a command as Ctrl-C does, which cleans up.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        signal.signal(signal.SIGTERM, before)
    return status


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
            module = importlib.import_module(f"nnunet_cel.{module_name}")
            chosen.description = inspect.getdoc(module)
            module.add_arguments(chosen)
            chosen.set_defaults(run=module.run)
    return parser
