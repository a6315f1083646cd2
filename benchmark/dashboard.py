"""What a dashboard costs the answers: their rate, and their age, while nobody looks at its page and while it is open.

    python -m benchmark.dashboard

A camera process publishes images at half the model's rate, and the perception node runs throughout. Each round measures
it three times: without a dashboard, with one whose page nobody has open, and with the page in headless Chromium, which
draws it on the same cores; a browser on another machine would not. The ratios are to the first of the same round, for
each size of image.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import rclpy

from benchmark.support.answers_in_turn import TOPIC, States, compare, measure, ratios
from benchmark.support.node_client import NodeClient
from benchmark.support.options import CPU, OUTPUT, option_parser
from benchmark.support.pairs import report
from benchmark.support.processes import half_as_fast, running, write_frames
from cnn_perception.commands import exit_code
from cnn_perception.ros import transport
from demo.scripted_person import PATIENCE_MS, chromium
from demo.served_dashboard import serving_dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_SIZES = ((480, 640), (720, 1280))
_PICTURES = """performance.getEntriesByType("resource").filter(
    (one) => one.responseStatus === 200 && new URL(one.name).pathname === "/picture").length"""
_START_S = 60.0
_MOST_REQUESTS = 100_000
"""That the browser remembers; 250 where nothing is said."""


@contextmanager
def page_open(browser: Browser) -> Iterator[None]:
    """Has the page of a dashboard open, and says how many pictures it has shown."""
    with serving_dashboard() as address:
        tab = browser.new_page()
        tab.set_default_timeout(PATIENCE_MS)
        tab.goto(address)
        tab.evaluate(f"performance.setResourceTimingBufferSize({_MOST_REQUESTS})")
        tab.locator("#overlay").wait_for()
        yield
        print(f"  the page has shown {tab.evaluate(_PICTURES)} pictures", flush=True)
        tab.close()


def _wait_for_answer(client: NodeClient) -> None:
    """Waits until node and camera work: what is measured before would be a start.

    Raises:
        SystemExit: If they do not.
    """
    before = client.counts[TOPIC]
    deadline_s = time.monotonic() + _START_S
    while client.counts[TOPIC] == before:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"error: nothing is answered on {TOPIC}; see the log above")
        rclpy.spin_once(client.node, timeout_sec=1.0)


def run(options: argparse.Namespace) -> None:
    """Measures and prints.

    Raises:
        ConfigError: If the dashboard does not start, or there is no Chromium.
    """
    os.environ.update(transport.environment())
    with chromium() as browser:
        states: States = {
            "no dashboard": nullcontext,
            "nobody looks": serving_dashboard,
            "page open": lambda: page_open(browser),
        }
        node, camera_hz = half_as_fast(options)
        with running("perception_node", **node):
            client = NodeClient([TOPIC])
            for height, width in _SIZES:
                frames = write_frames(options.output, height, width)
                size = f"{width}x{height} rgb8"
                print(size)
                with running("camera_node", source=frames, loop="true", preload="true", rate_hz=camera_hz):
                    _wait_for_answer(client)
                    rounds = compare(states, lambda: measure(client, options.seconds), options.rounds)
                for name, (values, target) in ratios(rounds).items():
                    report(size, name, values, target)
            rclpy.shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser(
        "dashboard", __doc__, backbone="resnet18", rounds=5, seconds=10.0, threads=0, provider=CPU, output=OUTPUT
    )
    options = parser.parse_args(argv)
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
