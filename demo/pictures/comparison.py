"""The page with which the loop's comparison of two models begins."""

from __future__ import annotations

from pathlib import Path

from demo.pictures import compressed
from demo.pictures.sources import Sources
from demo.scripted_person import chromium

_WIDTH, _HEIGHT = 1180, 900


def make(sources: Sources, path: Path) -> str:
    """Takes the picture of the upper part of the page.

    Args:
        sources: Of which the loop is used.
        path: The file.

    Returns:
        What it shows: its headline.

    Raises:
        PerceptionError: If the loop has left no comparison, or there is no Chromium.
    """
    page = sources.of_loop("compared", "comparison.html")
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        tab.goto(page.resolve().as_uri())
        compressed.write(compressed.of_file(tab.screenshot()), path)
        return tab.locator("h1").first.inner_text()
