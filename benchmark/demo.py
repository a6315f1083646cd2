"""The time of `make demo` after set-up, its page of the look into the network included, and of that page alone.

    python -m benchmark.demo

The demo draws its images, trains, exports, runs the nodes live for half a minute, scores the recording and looks into
the network: it is run whole, once, as a user runs it, and timed by the headings that it prints.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.support.options import OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from cnn_perception.errors import EXIT_OK
from demo.processes import child_environment, module_command

_MINUTES = Target(6.0)
_LOOK_S = Target(60.0)
_HEADING = "== "


def steps_s(command: Sequence[str]) -> dict[str, float]:
    """Returns the seconds of each step of a program by the heading that it prints before; what comes first has none.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    found: dict[str, float] = {}
    heading, began_s = "", time.perf_counter()
    with subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_HEADING):
                now_s = time.perf_counter()
                found[heading] = now_s - began_s
                heading, began_s = line.removeprefix(_HEADING).strip(), now_s
                print(f"  {heading}", flush=True)
    found[heading] = time.perf_counter() - began_s
    if process.returncode != EXIT_OK:
        raise subprocess.CalledProcessError(process.returncode, command)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    options = option_parser("demo", __doc__, output=OUTPUT).parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    print(machine())
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        seconds = steps_s(module_command("demo.run", "--output", Path(folder) / "demo"))
    for heading, taken_s in seconds.items():
        print(f"  {taken_s:6.1f} s  {heading or 'before the first step'}")
    report("make demo", "minutes", [sum(seconds.values()) / 60], _MINUTES)
    report("make demo", "seconds of its look into the network", [list(seconds.values())[-1]], _LOOK_S)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
