"""The dashboard beside real nodes, which look at the demo's drive."""

from __future__ import annotations

from pathlib import Path

from cnn_perception.live_replay.domain import free_domain
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.ros import transport
from demo.pictures import compressed
from demo.pictures.sources import Sources
from demo.processes import child_environment, node_command, running
from demo.scripted_person import PATIENCE_MS, chromium
from demo.served_dashboard import serving_dashboard
from demo.shots import CLEAR

_WIDTH, _HEIGHT = 1000, 800
"""Of the window, which shows a part of the page: the narrowest with three columns is the smallest file."""
_RATE_HZ = 3.0
_SECONDS = 45.0
_SHOWS_A_SIGN = "others => !others.includes(document.querySelector('#answer .name')?.textContent ?? '')"


def make(sources: Sources, path: Path) -> str:
    """Has nodes work for some seconds, in a ROS domain of their own, and takes the picture of the whole page.

    Args:
        sources: Of which the demo is used.
        path: The file.

    Returns:
        What it shows.

    Raises:
        PerceptionError: If the demo has left no model or drive, the page is not served, or there is no Chromium.
    """
    model, frames = sources.of_demo("model.onnx"), sources.of_demo("drive", "frames")
    with free_domain() as domain, chromium() as browser:
        variables = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        environment = child_environment() | transport.environment() | variables
        camera = node_command("camera_node", {"source": frames, "loop": "true", "rate_hz": _RATE_HZ})
        with (
            running(node_command("perception_node", {"model": model}), environment),
            running(camera, environment),
            serving_dashboard(variables=variables) as address,
        ):
            tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            tab.set_default_timeout(PATIENCE_MS)
            tab.goto(address)
            for part in ("#overlay", "#answer .row", "#stages tr", "#model tr"):
                tab.locator(part).first.wait_for()
            tab.wait_for_timeout(1000 * _SECONDS)
            tab.wait_for_function(_SHOWS_A_SIGN, arg=[CLEAR, UNKNOWN, ""])
            answer = tab.locator("#answer .name").first.inner_text()
            compressed.write(compressed.of_file(tab.screenshot(full_page=True)), path)
            return f"{answer}, after {_SECONDS:g} s of {_RATE_HZ:g} frames/s"
