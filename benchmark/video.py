"""The time and the memory of a whole `evaluate_bag` with its overlay video of every frame.

    python -m benchmark.video

The recording is a generated bag of 640x480 rgb8 images, in which the camera moves and the scene changes every two
seconds: what a video costs depends on what it shows. The time of the whole command, from its start to its end, is set
over that of its own model loop, which its report tells: reading, decoding, preprocessing, inference and scoring of all
frames. The peak memory is set over that of the command on a recording that has six times fewer frames.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.evaluation import write_bag
from benchmark.support.options import CPU, OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import HEIGHT, WIDTH, draw_images, export_model
from cnn_perception.errors import EXIT_OK
from cnn_perception.evaluation.replay import WORKERS
from cnn_perception.image.messages import RgbImage
from demo.processes import child_environment, module_command

_TIME = Target(1.5)
_MEMORY = Target(1.05)
_PART = 6
"""The shorter recording has so many times fewer frames."""
_SCENE = 60
"""Frames, two seconds, after which another class is seen; in the shorter recording so many times fewer, too, so that
both show the same: what is kept of the worst frames depends on what there is to be seen."""
_PIXELS_A_FRAME = 2
_POLL_S = 0.05


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        whole_s: From its start to its end, seconds.
        model_s: Of them its model loop.
        peak_bytes: The most memory that it held.
    """

    whole_s: float
    model_s: float
    peak_bytes: int


def driven_past(count: int, scene_frames: int = _SCENE) -> Iterator[RgbImage]:
    """Yields what a camera that turns sees of the drawn images, one after the other."""
    pictures = draw_images()
    for number in range(count):
        scene = pictures[number // scene_frames % len(pictures)]
        yield RgbImage(np.roll(scene, _PIXELS_A_FRAME * number, axis=1))


def run(bag: Path, model: Path, output: Path, provider: str) -> Run:
    """Evaluates a bag in a process of its own.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    arguments = ["--bag", bag, "--model", model, "--output", output, "--providers", provider]
    command = module_command("cnn_perception.evaluation", *arguments)
    started_s = time.perf_counter()
    process = subprocess.Popen(command, env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
        time.sleep(_POLL_S)
    whole_s = time.perf_counter() - started_s
    if process.returncode != EXIT_OK:
        raise subprocess.CalledProcessError(process.returncode, command)
    found = json.loads((output / "report.json").read_text())
    return Run(whole_s, found["frames"]["total"] / found["frames_per_second"], peak_bytes)


def _peak_bytes(process_id: int) -> int:
    """Returns the most memory that a process has held so far; 0 if it has ended."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("video", __doc__, backbone="resnet18", rounds=3, provider=CPU, output=OUTPUT)
    parser.add_argument("--frames", type=at_least_one, default=1800, help="of the bag (default: %(default)s)")
    options = parser.parse_args(argv)
    model = export_model(options.output, options.backbone)
    print(f"{machine()}, {options.provider}; {options.frames} frames {WIDTH}x{HEIGHT} rgb8, {WORKERS} at once")
    pairs = []
    with tempfile.TemporaryDirectory(dir=options.output) as name:
        folder = Path(name)
        write_bag(folder / "bag", driven_past(options.frames))
        write_bag(folder / "part", driven_past(max(1, options.frames // _PART), _SCENE // _PART))
        for number in range(options.rounds):
            whole = run(folder / "bag", model, folder / "whole", options.provider)
            part = run(folder / "part", model, folder / "short", options.provider)
            pairs.append((whole, part))
            times = f"{whole.whole_s:.1f} s, of them {whole.model_s:.1f} s the model loop"
            print(f"  round {number + 1}: {times}; {whole.peak_bytes / 1e6:.0f} and {part.peak_bytes / 1e6:.0f} MB")
        (video,) = (folder / "whole").glob("overlay.*")
        print(f"{video.name}: {video.stat().st_size / 1e6:.0f} MB")
    print(f"{options.backbone}: {statistics.median(whole.whole_s for whole, _ in pairs):.1f} s")
    times_over = [whole.whole_s / whole.model_s for whole, _ in pairs]
    memory_over = [whole.peak_bytes / part.peak_bytes for whole, part in pairs]
    report(f"{options.frames} frames", "evaluate_bag with its video / its model loop, time", times_over, _TIME)
    report(f"{options.frames} frames", f"peak memory / that of {_PART} times fewer", memory_over, _MEMORY)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
