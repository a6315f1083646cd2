"""A DonkeyCar tub as a CSV data set, for tests of regression on real driving."""

from __future__ import annotations

import csv
import json
from pathlib import Path


def write_csv(tub: Path, folder: Path) -> Path:
    """Writes folder/labels.csv with path, angle and throttle, in time order: by the index, not the timestamps."""
    records = [json.loads(line) for file in tub.glob("*.catalog") for line in file.read_text().splitlines()]
    deleted = set(json.loads((tub / "manifest.json").read_text().splitlines()[-1])["deleted_indexes"])
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "angle", "throttle"))
        for record in sorted(records, key=lambda record: record["_index"]):
            if record["_index"] not in deleted:
                image = tub / "images" / record["cam/image_array"]
                table.writerow((image.absolute(), record["user/angle"], record["user/throttle"]))
    return path
