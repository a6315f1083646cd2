"""Makes the picture of the dashboard in the documentation: real nodes, real Chromium.

python -m demo.dashboard_picture --model loop_output/models/second.onnx --images FOLDER --output docs/dashboard.jpg

The picture is of the whole page, down to the model's certificate. The nodes' own topics are used: end others of the
same ROS domain first.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnn_perception.commands import exit_code
from cnn_perception.ros import transport
from demo.processes import child_environment, end, node_command
from demo.scripted_person import chromium
from demo.served_dashboard import serving_dashboard

_WIDTH, _HEIGHT = 1280, 1000
"""Of the window, which shows a part of the page."""
_RATE_HZ = 3.0


def make(model: Path, images: Path, output: Path, seconds: float) -> None:
    """Has nodes work for some seconds and takes the picture.

    Args:
        model: Of the perception node.
        images: Folder of images that the camera shows, again and again.
        output: The .jpg or .png file.
        seconds: How long answers are collected.

    Raises:
        ConfigError: If the page is not served, or there is no Chromium.
    """
    with (
        _process("camera_node", {"source": images, "loop": "true", "rate_hz": _RATE_HZ}),
        _process("perception_node", {"model": model}),
        serving_dashboard() as address,
        chromium() as browser,
    ):
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.goto(address)
        for part in ("#overlay", "#answer .row", "#stages tr", "#model tr"):
            tab.locator(part).first.wait_for()
        tab.wait_for_timeout(1000 * seconds)
        tab.screenshot(path=output, full_page=True)


@contextlib.contextmanager
def _process(name: str, parameters: dict[str, object]) -> Iterator[None]:
    """Runs a node for the length of a block; its log goes to the terminal."""
    process = subprocess.Popen(node_command(name, parameters), env=child_environment() | transport.environment())
    try:
        yield
    finally:
        end(process)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.dashboard_picture", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model file of the perception node")
    parser.add_argument("--images", type=Path, required=True, help="folder of images that the camera shows")
    parser.add_argument("--output", type=Path, required=True, help="the .jpg or .png file")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long answers are collected (%(default)g)")
    given = parser.parse_args(argv)
    return exit_code(lambda: make(given.model, given.images, given.output, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
