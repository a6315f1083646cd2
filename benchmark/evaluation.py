"""The rate at which `evaluate_bag` scores the frames of a recording, over that of the model alone.

    python -m benchmark.evaluation

The recording is a generated bag of 640x480 rgb8 images. The evaluator works on one frame a core with one thread each,
and so does the bare ONNX Runtime loop. They take turns; the ratio is taken pair by pair, because the speed of a shared
machine drifts. The rate is that of the report: reading, decoding, preprocessing, inference and scoring of all frames.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, machine, report
from benchmark.support.processes import HEIGHT, WIDTH, BareLoop, draw_images, export_model
from cnn_perception.errors import EXIT_OK
from cnn_perception.evaluation.replay import WORKERS
from cnn_perception.image.messages import RgbImage
from demo.processes import child_environment, module_command

_TARGET = Target(0.97, is_lower_bound=True)
_PERIOD_NS = 33_333_333
_IMAGE = "sensor_msgs/msg/Image"


def write_bag(path: Path, pictures: Iterable[RgbImage]) -> None:
    """Writes a bag of 640x480 images at 30 Hz."""
    types = get_typestore(Stores.LATEST)
    image, header, time = (types.types[name] for name in (_IMAGE, "std_msgs/msg/Header", "builtin_interfaces/msg/Time"))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/image_raw", _IMAGE, typestore=types)
        for number, picture in enumerate(pictures):
            at_ns = number * _PERIOD_NS
            stamp = header(time(*divmod(at_ns, 10**9)), "camera")
            pixels = np.ascontiguousarray(picture).reshape(-1)
            message = image(stamp, HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, pixels)
            writer.write(connection, at_ns, types.serialize_cdr(message, _IMAGE))


def drawn_images(count: int) -> Iterator[RgbImage]:
    """Yields drawn images, each of another class than the one before."""
    return itertools.islice(itertools.cycle(draw_images()), count)


def evaluation_rate_hz(bag: Path, model: Path, output: Path, provider: str) -> float:
    """Returns the frames a second of an evaluation of a bag, in a process of its own."""
    arguments = ["--bag", bag, "--model", model, "--output", output, "--providers", provider, "--no-video"]
    command = module_command("cnn_perception.evaluation", *arguments)
    subprocess.run(command, check=True, env=child_environment(), stdout=subprocess.DEVNULL)
    return float(json.loads((output / "report.json").read_text())["frames_per_second"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("evaluation", __doc__, backbone="resnet18", rounds=5, provider=CPU, output=OUTPUT)
    parser.add_argument("--frames", type=int, default=400, help="of the bag (default: %(default)s)")
    options = parser.parse_args(argv)
    model = export_model(options.output, options.backbone)
    print(f"{machine()}, {options.provider}; {options.frames} frames {WIDTH}x{HEIGHT} rgb8, {WORKERS} at once")
    bare = BareLoop(model, 1, options.provider, WORKERS)
    pairs = []
    with tempfile.TemporaryDirectory(dir=options.output) as name:
        folder = Path(name)
        write_bag(folder / "bag", drawn_images(options.frames))
        for number in range(options.rounds):
            bare_hz = bare.rate_hz(options.frames / 100)
            own_hz = evaluation_rate_hz(folder / "bag", model, folder / "report", options.provider)
            pairs.append((own_hz, bare_hz))
            print(f"  round {number + 1}: evaluation {own_hz:6.2f}/s, bare {bare_hz:6.2f}/s, {own_hz / bare_hz:.3f}")
    bare.close()
    print(f"{options.backbone}: {statistics.median(own for own, _ in pairs):.1f} frames/s")
    ratios = [own / bare for own, bare in pairs]
    report("a bag", "evaluation / bare loop, frames a second", ratios, _TARGET)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
