"""Accuracy against latency of the networks that a search has tried, drawn anew from its record."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

from cnn_perception.errors import DataError
from cnn_perception.image.messages import read_image
from demo.pictures import compressed
from demo.pictures.sources import Sources
from training.auto import table


def make(sources: Sources, path: Path) -> str:
    """Draws the picture of a search as training.auto does now.

    Args:
        sources: Of which the search is used.
        path: The file.

    Returns:
        What it shows: how many networks, those of the front, and the chosen one.

    Raises:
        DataError: If no search was given, or none of its networks has answered.
    """
    record = json.loads(sources.of_auto("auto.json").read_text(encoding="utf-8"))
    with sources.of_auto("auto.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise DataError(f"{sources.auto}: its table is empty: the search ended before any network was tried")
    metric = rows[0]["metric"]
    lines = [table.Line.of_json(row) for row in record["rows"]]
    chosen = record["chosen"].get("name", "")
    with tempfile.TemporaryDirectory() as folder:
        table.draw(Path(folder), lines, metric, chosen, None)
        drawn = Path(folder) / "accuracy_latency.png"
        if not drawn.exists():
            raise DataError(f"{sources.auto}: none of its networks has answered, so there is nothing to draw")
        compressed.write(read_image(drawn), path)
    points = sum(line.score is not None and line.latency_ms is not None for line in lines)
    return f"{points} points, front: {', '.join(sorted(table.front(lines)))}; chosen: {chosen or 'none'}"
