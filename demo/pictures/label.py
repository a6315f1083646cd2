"""The page on which a person labels images, as it is in the midst of the work."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

from demo.pictures import compressed
from demo.pictures.sources import Sources
from demo.run import step
from demo.scripted_person import ScriptedPerson, chromium, serving
from demo.shots import CLEAR
from training.data_set.columns import PATH, STAMP
from training.data_set.table import read

_WIDTH, _HEIGHT = 1120, 680
_BUDGET = 40
_LABELLED = 12


def make(sources: Sources, path: Path) -> str:
    """Collects frames of the demo's recording, has a part of them labelled, and takes the picture.

    Args:
        sources: Of which the demo is used.
        path: The file.

    Returns:
        What it shows.

    Raises:
        PerceptionError: If the demo has left no recording with its evaluation, a step fails, or there is no Chromium.
    """
    model = sources.of_demo("model.onnx")
    truth = _truth(sources.of_demo("evaluation", "predictions.csv"))
    with tempfile.TemporaryDirectory() as name:
        drive, table = Path(name) / "drive", Path(name) / "signs"
        drive.mkdir()  # of the name that the page shows
        for file in sources.of_demo("bag").iterdir():
            (drive / file.name).symlink_to(file.resolve())
        data = ["--bag", drive, "--topic", "/image_raw", "--val-fraction", 0]
        step("training.collect", *data, "--model", model, "--budget", _BUDGET, "--output", table)
        stamps = {row[PATH]: int(row[STAMP]) for row in read(table).rows}
        return screen(table, lambda image: truth[stamps[image]], path, _LABELLED)


def screen(table: Path, truth: Callable[[str], str], path: Path, labelled: int) -> str:
    """Has a scripted person label images, and takes the picture of the next one that shows a sign.

    Args:
        table: Of the images.
        truth: Returns the class of an image by its path, or a command, see `ScriptedPerson`.
        path: The file.
        labelled: How many images are decided on, at least; one is left for the picture.

    Returns:
        What it shows.

    Raises:
        ConfigError: If the page is not served, or there is no Chromium.
    """
    with serving(table) as address, chromium() as browser:
        person = ScriptedPerson(browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}), address)
        decided = person.label(truth, min(labelled, person.left - 1))
        while truth(person.seen()) == CLEAR and person.left > 1:
            decided += person.label(truth, 1)
        image = person.seen()
        compressed.write(compressed.of_file(person.page.screenshot()), path)
        return f"{truth(image)}, after {decided} of {decided + person.left}"


def _truth(predictions: Path) -> dict[int, str]:
    with predictions.open(newline="", encoding="utf-8") as file:
        return {int(row["stamp_ns"]): row["truth"] for row in csv.DictReader(file)}
