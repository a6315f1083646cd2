"""What somebody who looks at every viewer topic costs the answers: their rate, and their age.

    python -m benchmark.viewers

A camera process publishes images at half the model's rate. The node runs throughout. Each round measures it three
times: alone; beside a process that runs an empty loop at the lowest priority, which shows what any computing beside the
answers costs on this machine; and while another process subscribes to its overlays, score map, activation and
neighbours, as rqt or RViz would, which has the node compute score maps at that priority. The ratios are to the first of
the same round, for each size of image and scale of the score map.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import rclpy

from benchmark.support.answers_in_turn import NODE, TOPIC, States, compare, measure, ratios
from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import report
from benchmark.support.processes import half_as_fast, running, write_frames
from cnn_perception.errors import EXIT_OK
from cnn_perception.ros import transport
from demo import processes
from demo.processes import child_environment, module_command

_SIZES = ((480, 640), (720, 1280))
_SCALES = (1.0, 3.0)
_IDLE_LOOP = "idle loop"
_MOST_PIXELS = 2**24
"""Of a score map: 1280x720 at scale 3 has 2**23."""


class Onlooker:
    """The process that looks on, see `benchmark.support.onlooker`."""

    def __init__(self) -> None:
        command = module_command("benchmark.support.onlooker", NODE)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment()
        )

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Has it look, and says how many pictures it has seen."""
        self._order("on")
        yield
        seen = self._order("off")
        pictures = ", ".join(f"{seen.get(topic, 0)} {topic}" for topic in ("activation/overlay", "score_map"))
        print(f"  seen: {pictures}", flush=True)

    def close(self) -> None:
        """Ends the process, which has nothing to keep: on its own end it may wait for DDS for ever."""
        self._process.kill()
        self._process.wait()

    def _order(self, what: str) -> dict[str, int]:
        """Has it look (`on`) or not (`off`); returns how many messages it saw by topic since the last order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        seen: dict[str, int] = json.loads(self._process.stdout.readline())
        return seen


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "viewers", __doc__, backbone="resnet18", rounds=5, seconds=10.0, threads=0, provider=CPU, output=OUTPUT
    )
    options = parser.parse_args(argv)
    os.environ.update(transport.environment())
    node, camera_hz = half_as_fast(options)
    with running("perception_node", score_map_max_pixels=_MOST_PIXELS, **node):
        client = NodeClient([TOPIC])
        onlooker = Onlooker()
        idle_loop = module_command("benchmark.support.idle_loop")
        states: States = {
            "alone": nullcontext,
            _IDLE_LOOP: lambda: processes.running(idle_loop, child_environment()),
            "watched": onlooker.looking,
        }
        for height, width in _SIZES:
            frames = write_frames(options.output, height, width)
            with running("camera_node", source=frames, loop="true", preload="true", rate_hz=camera_hz):
                for scale in _SCALES:
                    client.set_parameter(NODE, "score_map_scale", scale)
                    circumstances = f"{width}x{height} rgb8, score_map_scale {scale:g}"
                    print(circumstances)
                    rounds = compare(states, lambda: measure(client, options.seconds), options.rounds)
                    for name, (values, target) in ratios(rounds, yardsticks={_IDLE_LOOP}).items():
                        report(circumstances, name, values, target)
        onlooker.close()
        rclpy.shutdown()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
