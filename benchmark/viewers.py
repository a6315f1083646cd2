"""What somebody who looks at every viewer topic costs the answers: their rate, and their age.

    python -m benchmark.viewers

A camera process publishes images at half the model's rate. The node runs throughout; another process subscribes to its
overlays, score map, activation and neighbours in every second measurement, as rqt or RViz would. The ratios are taken
pair by pair, because the speed of a shared machine drifts, for each size of image and scale of the score map. An
answer's age is that at which it arrives in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rclpy

from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import Target, report
from benchmark.support.processes import half_as_fast, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport
from demo.processes import child_environment, module_command

NODE = "/perception_node"
_TOPIC = f"{NODE}/classification"
_SIZES = ((480, 640), (720, 1280))
_SCALES = (1.0, 3.0)
_RATE = Target(0.95, is_lower_bound=True)
_MEDIAN_AGE = Target(1.15)
_P99_AGE = Target(1.5)
_SETTLING_S = 2.0
"""After a switch, before measuring: discovery, and what is under way."""
_MOST_PIXELS = 2**24
"""Of a score map: 1280x720 at scale 3 has 2**23."""


class Onlooker:
    """The process that looks on, see `benchmark.support.onlooker`."""

    def __init__(self) -> None:
        command = module_command("benchmark.support.onlooker", NODE)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment()
        )

    def order(self, what: str) -> dict[str, int]:
        """Has it look (`on`) or not (`off`); returns how many messages it saw by topic since the last order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        seen: dict[str, int] = json.loads(self._process.stdout.readline())
        return seen

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


@dataclass(frozen=True)
class Answers:
    """What was answered in one measurement.

    Attributes:
        rate_hz: Answers a second.
        median_age_ms: From the image's stamp to its answer's arrival.
        p99_age_ms: The same, which one of a hundred exceeds.
    """

    rate_hz: float
    median_age_ms: float
    p99_age_ms: float


def measure(client: NodeClient, seconds: float) -> Answers:
    """Returns the answers of some seconds, once what came before has settled."""
    client.spin(_SETTLING_S)
    client.ages_s[_TOPIC].clear()
    rate_hz = client.rates_hz(seconds)[_TOPIC]
    median_ms, p99_ms = np.percentile(np.array(client.ages_s[_TOPIC]) * 1e3, (50, 99))
    return Answers(rate_hz, float(median_ms), float(p99_ms))


def compare(client: NodeClient, onlooker: Onlooker, options: argparse.Namespace) -> list[tuple[Answers, Answers]]:
    """Returns the answers while somebody looks on and without, in turn."""
    pairs = []
    for number in range(options.rounds):
        onlooker.order("off")
        without = measure(client, options.seconds)
        onlooker.order("on")
        watched = measure(client, options.seconds)
        seen = onlooker.order("off")
        pairs.append((watched, without))
        texts = [
            f"{one.rate_hz:6.2f}/s {one.median_age_ms:6.1f} ms (p99 {one.p99_age_ms:.0f})" for one in (watched, without)
        ]
        shown = ", ".join(f"{seen.get(topic, 0)} {topic}" for topic in ("activation/overlay", "score_map"))
        print(f"  round {number + 1}: watched {texts[0]}, alone {texts[1]}; seen: {shown}", flush=True)
    return pairs


def ratios(pairs: Sequence[tuple[Answers, Answers]]) -> dict[str, tuple[list[float], Target]]:
    """Returns what was measured while somebody looks on over that while nobody does, and what is required of it."""
    return {
        "answers a second": ([watched.rate_hz / alone.rate_hz for watched, alone in pairs], _RATE),
        "median age": ([watched.median_age_ms / alone.median_age_ms for watched, alone in pairs], _MEDIAN_AGE),
        "p99 age": ([watched.p99_age_ms / alone.p99_age_ms for watched, alone in pairs], _P99_AGE),
    }


def _report(circumstances: str, pairs: Sequence[tuple[Answers, Answers]]) -> None:
    for name, (values, target) in ratios(pairs).items():
        report(circumstances, f"watched / alone, {name}", values, target)
    ages_ms = [statistics.median(one.median_age_ms for one in side) for side in zip(*pairs, strict=True)]
    print(f"  median age {ages_ms[0]:.1f} ms watched, {ages_ms[1]:.1f} ms alone", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "viewers", __doc__, backbone="resnet18", rounds=5, seconds=10.0, threads=0, provider=CPU, output=OUTPUT
    )
    options = parser.parse_args(argv)
    os.environ.update(transport.environment())
    node, camera_hz = half_as_fast(options)
    with running("perception_node", score_map_max_pixels=_MOST_PIXELS, **node):
        client = NodeClient([_TOPIC])
        onlooker = Onlooker()
        for height, width in _SIZES:
            frames = write_frames(options.output, height, width)
            with running("camera_node", source=frames, loop="true", preload="true", rate_hz=camera_hz):
                for scale in _SCALES:
                    client.set_parameter(NODE, "score_map_scale", scale)
                    circumstances = f"{width}x{height} rgb8, score_map_scale {scale:g}"
                    print(circumstances)
                    _report(circumstances, compare(client, onlooker, options))
        onlooker.close()
        rclpy.shutdown()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
