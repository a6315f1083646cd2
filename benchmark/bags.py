"""How much faster several bags are evaluated on all cores than on one: the rate over so many times that of a core.

    python -m benchmark.bags

The same generated bags are evaluated by `--jobs N` on N cores, and by `--jobs 1` on a single one, to which its
processes are bound. They take turns, because the speed of a shared machine drifts. All is counted: processes started,
models loaded, frames read, decoded and recognised, reports written. It is to be at least 0.9.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence, Set
from pathlib import Path

from benchmark.evaluation import drawn_images, write_bag
from benchmark.support.options import CPU, OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import export_model
from cnn_perception.errors import EXIT_OK
from demo.processes import child_environment, module_command

_TARGET = Target(0.9, is_lower_bound=True)


def evaluation_s(bags: Path, model: Path, output: Path, provider: str, jobs: int, cores: Set[int]) -> float:
    """Returns how long an evaluation of the bags of a folder takes with so many jobs on some cores, seconds."""
    arguments = ["--bag", bags, "--model", model, "--output", output, "--providers", provider, "--no-video"]
    command = module_command("cnn_perception.evaluation", *arguments, "--jobs", str(jobs))
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # which a process that is started takes over
    try:
        started_s = time.perf_counter()
        subprocess.run(
            command, check=True, env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return time.perf_counter() - started_s
    finally:
        os.sched_setaffinity(0, mine)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("bags", __doc__, backbone="resnet18", rounds=3, provider=CPU, output=OUTPUT)
    parser.add_argument("--frames", type=at_least_one, default=300, help="of each bag (default: %(default)s)")
    parser.add_argument("--bags-per-core", type=at_least_one, default=2, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    model = export_model(options.output, options.backbone)
    cores = os.sched_getaffinity(0)
    count = options.bags_per_core * len(cores)
    print(f"{machine()}, {options.provider}; {count} bags of {options.frames} frames on {len(cores)} cores")
    ratios = []
    with tempfile.TemporaryDirectory(dir=options.output) as name:
        folder = Path(name)
        for number in range(count):
            write_bag(folder / "bags" / f"bag_{number}", drawn_images(options.frames))
        for number in range(options.rounds):
            places = (folder / "bags", model, folder / "report", options.provider)
            all_s = evaluation_s(*places, len(cores), cores)
            one_s = evaluation_s(*places, 1, {min(cores)})
            ratios.append(one_s / all_s / len(cores))
            print(f"  round {number + 1}: {all_s:.1f} s on all cores, {one_s:.1f} s on one, {ratios[-1]:.3f} of linear")
    report("several bags", f"rate on {len(cores)} cores / ({len(cores)} x rate on one)", ratios, _TARGET)
    print(f"  speed-up {statistics.median(ratios) * len(cores):.2f}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
