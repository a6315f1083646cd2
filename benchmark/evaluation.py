"""How many frames of a recording `evaluate_bag` scores a second, over what the bare model does on the same machine.

    python -m benchmark.evaluation

The recording is a generated bag of 640x480 rgb8 images. The evaluator works on one frame a core with one thread each,
and so does the bare ONNX Runtime loop. They take turns; the ratio is taken pair by pair, because the speed of a shared
machine drifts. The rate is that of the report: reading, decoding, preprocessing, inference and scoring of all frames.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from benchmark.pairs import Target, machine, summary
from benchmark.processes import HEIGHT, WIDTH, BareLoop, clean, drawn, exported
from cnn_perception.errors import EXIT_OK
from cnn_perception.evaluation.replay import WORKERS

_TARGET = Target(0.9, least=True)
_PERIOD_NS = 33_333_333
_IMAGE = "sensor_msgs/msg/Image"


def write_bag(path: Path, count: int) -> None:
    """Writes a bag of drawn images at 30 Hz."""
    types = get_typestore(Stores.LATEST)
    image, header, time = (types.types[name] for name in (_IMAGE, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"))
    pictures = [np.ascontiguousarray(picture).reshape(-1) for picture in drawn()]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/image_raw", _IMAGE, typestore=types)
        for number in range(count):
            at_ns = number * _PERIOD_NS
            stamp = header(time(*divmod(at_ns, 10**9)), "camera")
            picture = pictures[number % len(pictures)]
            message = image(stamp, HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, picture)
            writer.write(connection, at_ns, types.serialize_cdr(message, _IMAGE))


def rate_hz(bag: Path, model: Path, output: Path, provider: str) -> float:
    """Evaluates a bag in a process of its own; returns frames a second."""
    words = ["--bag", str(bag), "--model", str(model), "--output", str(output), "--providers", provider, "--no-video"]
    subprocess.run(
        [sys.executable, "-m", "cnn_perception.evaluation", *words],
        check=True,
        env=clean(),
        stdout=subprocess.DEVNULL,
    )
    return float(json.loads((output / "report.json").read_text())["frames_per_second"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.evaluation", description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18", help="torchvision name (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=400, help="of the bag (default: %(default)s)")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of both (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    model = exported(options.output, options.backbone)
    print(f"{machine()}, {options.provider}; {options.frames} frames {WIDTH}x{HEIGHT} rgb8, {WORKERS} at once")
    bare = BareLoop(model, 1, options.provider, WORKERS)
    pairs = []
    with tempfile.TemporaryDirectory(dir=options.output) as place:
        write_bag(Path(place) / "bag", options.frames)
        for number in range(options.rounds):
            bare_hz = bare.rate_hz(options.frames / 100)
            pairs.append((rate_hz(Path(place) / "bag", model, Path(place) / "report", options.provider), bare_hz))
            own_hz, bare_hz = pairs[-1]
            print(f"  round {number + 1}: evaluation {own_hz:6.2f}/s, bare {bare_hz:6.2f}/s, {own_hz / bare_hz:.3f}")
    bare.close()
    print(f"{options.backbone}: {statistics.median(own for own, _ in pairs):.1f} frames/s")
    print(f"  evaluation / bare loop, frames a second: {summary([own / bare for own, bare in pairs], _TARGET)}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
