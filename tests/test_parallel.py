"""Work on several cases: order, errors, dead processes and interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_cel.parallel import map_cases, try_cases


def square(number: int) -> int:
    """Return the square; the larger the number, the sooner."""
    time.sleep(max(0.0, 0.3 - 0.1 * number))
    return number * number


def fail_on_two(number: int) -> int:
    """Fail for one number and take long for all others."""
    if number == 2:
        raise ValueError("two is wrong")
    time.sleep(60)
    return number


def die(number: int) -> int:
    """End the process as the system does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_are_in_order(processes: int) -> None:
    """Results stand in the order of the items, whichever is ready first."""
    assert map_cases(square, [1, 2, 3], processes=processes) == [1, 4, 9]


def test_first_error_ends_everything_at_once() -> None:
    """An error does not wait for the others, nor does the death of a process."""
    start = time.monotonic()

    with pytest.raises(ValueError, match="two is wrong"):
        map_cases(fail_on_two, [1, 2, 3], processes=2)
    with pytest.raises(ChildProcessError, match=r"lack of memory.*-np 1"):
        map_cases(die, [1, 2], processes=2)

    assert time.monotonic() - start < 30
    with pytest.raises(ValueError, match=r"integer >= 1\. Got 0 instead"):
        map_cases(square, [1], processes=0)


@pytest.mark.parametrize("processes", [1, 2])
def test_problems_of_all_items_are_raised_together(processes: int) -> None:
    """Every item is tried; one error lists what was wrong with each."""
    assert try_cases(int, ["1", "2"], processes=processes) == [1, 2]
    with pytest.raises(ValueError, match=r"^invalid literal .* 'a'$"):
        try_cases(int, ["1", "a"], processes=processes)
    listed = "2 cases have problems:\n- invalid .* 'a'\n- invalid .* 'b'$"
    with pytest.raises(ValueError, match=listed):
        try_cases(int, ["a", "1", "b"], processes=processes)


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from nnunet_cel.parallel import map_cases

def work(name):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    # It is ignored where the tests run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    map_cases(work, "abc", processes=2)
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(tmp_path: Path, sign: int) -> None:
    """Nothing goes on working when the main process is killed or interrupted."""
    program, notes = tmp_path / "program.py", tmp_path / "notes"
    program.write_text(PROGRAM)
    notes.mkdir()
    with subprocess.Popen(
        [sys.executable, program, notes], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        wait_until(lambda: len(list(notes.iterdir())) == 2)
        # Ctrl-C goes to all processes of the terminal.
        (os.kill if sign == signal.SIGKILL else os.killpg)(process.pid, sign)
        _, errors = process.communicate(timeout=30)

    assert errors.count(b"KeyboardInterrupt") == (sign == signal.SIGINT)
    wait_until(lambda: not any(is_running(note.name) for note in notes.iterdir()))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something for half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(process: str) -> bool:
    """Return whether a process is there and not just waiting to be forgotten."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"
