"""Fuzzes parsers of the package with atheris.

python -m fuzz --list
python -m fuzz protocol --minutes 10
python -m fuzz all --minutes 10
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

_FOUND = Path("build") / "fuzz"


def main() -> int:
    """Run the command and return its exit status."""
    import atheris

    # What stands here is compiled anew, so that the fuzzer sees which lines ran.
    with atheris.instrument_imports(include=["nnunet_cel", "fuzz", "yaml"]):
        from fuzz.targets import TARGETS
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=[*TARGETS, "all"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--input", type=Path, help="read this file once, and no other")
    parser.add_argument("--list", action="store_true", help="list the targets")
    args = parser.parse_args()
    if args.list or args.target is None:
        print("\n".join(TARGETS))
        return 0
    if args.target == "all":
        command = [sys.executable, "-m", "fuzz", "--minutes", str(args.minutes)]
        return max(
            subprocess.run([*command, name], check=False).returncode for name in TARGETS
        )
    target = TARGETS[args.target]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    path, seeds = folder / "work" / target.file, folder / "seeds"
    path.parent.mkdir()
    seeds.mkdir()
    found = _FOUND / args.target
    found.mkdir(parents=True, exist_ok=True)

    def one_input(data: bytes) -> None:
        path.write_bytes(target.wrap(data))
        with contextlib.suppress(ValueError, OSError):
            target.read(path)

    # Targets import what they fuzz when they are called, some in their seeds.
    with atheris.instrument_imports(include=["nnunet_cel", "yaml"]):
        seed = target.seed()
        one_input(seed)
    (seeds / "seed").write_bytes(seed)
    if args.input is not None:
        one_input(args.input.read_bytes())
        return 0
    options = [
        f"-max_total_time={round(args.minutes * 60)}",
        f"-artifact_prefix={found}/",
        "-timeout=20",
        "-rss_limit_mb=3000",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(seeds)], one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
