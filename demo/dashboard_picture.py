"""Makes the picture of the dashboard in the documentation: real nodes, real Chromium.

python -m demo.dashboard_picture --model loop_output/models/second.onnx --images FOLDER --output docs/dashboard.jpg

The nodes' own topics are used: end others of the same ROS domain first.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnn_perception.commands import exit_code
from cnn_perception.errors import ConfigError
from cnn_perception.ros import transport
from demo.processes import child_environment, node_command
from demo.scripted_person import chromium

_WIDTH, _HEIGHT = 1280, 1000
_RATE_HZ = 3.0


def make(model: Path, images: Path, output: Path, seconds: float) -> None:
    """Has nodes work for some seconds and takes the picture.

    Args:
        model: Of the perception node.
        images: Folder of images that the camera shows, again and again.
        output: The .jpg or .png file.
        seconds: How long answers are collected.

    Raises:
        ConfigError: If the page is not served in time, or there is no Chromium.
    """
    with contextlib.ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        running.enter_context(_process("camera_node", {"source": images, "loop": "true", "rate_hz": _RATE_HZ}, None))
        running.enter_context(_process("perception_node", {"model": model}, None))
        running.enter_context(_process("dashboard_node", {}, log))
        address = _address(log)
        with chromium() as browser:
            tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            tab.goto(address)
            tab.locator("#answer .row").first.wait_for()
            tab.wait_for_timeout(1000 * seconds)
            tab.screenshot(path=output)


@contextlib.contextmanager
def _process(name: str, parameters: dict[str, object], log: Path | None) -> Iterator[None]:
    """Runs a node; its log goes to a file or to the terminal."""
    command = node_command(name, parameters)
    if log is not None:
        command[command.index("--log-level") + 1] = "info"
    with contextlib.ExitStack() as open_files:
        said = open_files.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(command, env=child_environment() | transport.environment(), stdout=said, stderr=said)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _address(log: Path) -> str:
    ends_s = time.monotonic() + 60.0
    while time.monotonic() < ends_s:
        found = re.search(r"open (http://\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.2)
    raise ConfigError(f"the page was not served in time: {log.read_text()[-300:]}")


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
