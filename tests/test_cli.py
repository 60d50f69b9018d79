"""The command line hands over, and turns errors into messages."""

from __future__ import annotations

import subprocess
import sys
import types
from unittest.mock import Mock

import pytest

from nnunet_cel import cli


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A sub-command `fake`, whose `run` a test replaces."""
    module = types.ModuleType("fake_command", "Does nothing.\n\nAt length.")
    module.add_arguments = lambda parser: parser.add_argument("number", type=int)
    module.run = lambda args: args.number
    monkeypatch.setitem(sys.modules, "nnunet_cel.fake_command", module)
    monkeypatch.setitem(cli._COMMANDS, "fake", ("do nothing", "fake_command"))
    return module


def test_status(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """That of the sub-command; errors for users are a line; bugs get through."""
    assert cli.main(["fake", "3"]) == 3
    for error in (ValueError("so"), FileNotFoundError("so")):
        command.run = Mock(side_effect=error)
        assert cli.main(["fake", "3"]) == 1
        assert capsys.readouterr().err == "nnunet-cel fake: error: so\n"
    command.run = Mock(side_effect=KeyboardInterrupt)  # what shells expect of Control-C
    assert cli.main(["fake", "3"]) == 130
    command.run = Mock(side_effect=AttributeError("bug"))
    with pytest.raises(AttributeError, match="bug"):
        cli.main(["fake", "3"])


@pytest.mark.parametrize("arguments", [[], ["fkae"], ["fake"], ["fake", "x"], ["--no"]])
def test_refuses_wrong_usage(command: types.ModuleType, arguments: list[str]) -> None:
    """Wrong usage ends with status 2."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)

    assert stopped.value.code == 2


@pytest.mark.parametrize("name", list(cli._COMMANDS))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Each sub-command can be loaded, explains itself and is listed with its line."""
    for arguments in ([name, "-h"], ["-h"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert f"usage: nnunet-cel {name}" in shown
    assert f" {name} {cli._COMMANDS[name][0]} " in f"{shown} "


def test_help_loads_no_command() -> None:
    """The help is instant: it loads neither the sub-commands nor what they need."""
    code = """if True:
        import sys
        from nnunet_cel import cli
        try:
            cli.main(["-h"])
        except SystemExit:
            pass
        modules = {f"nnunet_cel.{module}" for _, module in cli._COMMANDS.values()}
        raise SystemExit(bool({"torch", "numpy", *modules} & set(sys.modules)))
    """

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
