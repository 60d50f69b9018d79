"""Work on several cases: order, errors, dead processes and interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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


def test_one_process_asks_for_items_one_by_one() -> None:
    """The next item is made when the one before it is done."""
    done: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            assert done == list(range(number))
            yield number

    map_cases(done.append, items())

    assert done == [0, 1, 2]


def test_first_error_ends_everything_at_once() -> None:
    """An error in one process does not wait for the others."""
    start = time.monotonic()

    with pytest.raises(ValueError, match="two is wrong"):
        map_cases(fail_on_two, [1, 2, 3], processes=2)

    assert time.monotonic() - start < 30


@pytest.mark.parametrize("processes", [1, 2])
def test_problems_of_all_items_are_raised_together(processes: int) -> None:
    """Every item is tried; one error lists what was wrong with each."""
    assert try_cases(int, ["1", "2"], processes=processes) == [1, 2]
    with pytest.raises(ValueError, match=r"^invalid literal .* 'a'$"):
        try_cases(int, ["1", "a"], processes=processes)
    listed = "2 cases have problems:\n- invalid .* 'a'\n- invalid .* 'b'$"
    with pytest.raises(ValueError, match=listed):
        try_cases(int, ["a", "1", "b"], processes=processes)


def test_dead_process_is_an_error_with_a_cure() -> None:
    """A killed process ends in a message and not in waiting for ever."""
    with pytest.raises(ChildProcessError, match=r"lack of memory.*-np 1"):
        map_cases(die, [1, 2], processes=2)


def test_number_of_processes_is_checked() -> None:
    """Less than one process makes no sense."""
    with pytest.raises(ValueError, match=r"integer >= 1\. Got 0 instead"):
        map_cases(square, [1], processes=0)


def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Nothing goes on working when the main process is gone."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from nnunet_cel.parallel import map_cases\n"
        "def work(name):\n"
        "    (Path(sys.argv[1]) / str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    map_cases(work, 'ab', processes=2)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(code)
    notes = tmp_path / "notes"
    notes.mkdir()
    with subprocess.Popen([sys.executable, program, notes]) as process:
        deadline = time.monotonic() + 60
        while len(list(notes.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()

    workers = [int(note.name) for note in notes.iterdir()]
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(process: int) -> bool:
    """Return whether a process is there and not just waiting to be forgotten."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_interruption_ends_the_processes() -> None:
    """Ctrl-C leaves no process behind, and raises."""
    code = (
        "import time, multiprocessing\n"
        "from nnunet_cel.parallel import map_cases\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        print('begin', flush=True)\n"
        "        map_cases(time.sleep, [60, 60, 60], processes=2)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', len(multiprocessing.active_children()))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(3)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)

    assert output == "interrupted 0\n"
