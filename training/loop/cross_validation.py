"""Cross-validation: the same settings trained on each fold, and how much the scores vary."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnn_perception.errors import ConfigError
from training.run_files import write_text
from training.text_table import text_table

Train = Callable[[dict[str, Any]], dict[str, Any]]


def cross_validate(given: Mapping[str, Any], train: Train) -> dict[str, Any]:
    """Trains with each fold held out in turn, into OUTPUT/fold1, OUTPUT/fold2 and so on.

    With `resume`, folds that have a report are taken as they are.

    Args:
        given: Settings of the runs, with `output` and `folds`, without `fold`.
        train: Trains one of them and returns what its report.json holds.

    Returns:
        What OUTPUT/folds.json holds: of each metric of the validation images its values, mean and standard deviation.

    Raises:
        ConfigError: If the folder is missing or holds folds already.
    """
    if not given.get("output"):
        raise ConfigError("--output is missing; name the folder of the folds")
    folder = Path(given["output"])
    count = int(given["folds"])
    if (folder / "fold1").exists() and not given.get("resume"):
        raise ConfigError(f"{folder}: holds folds already; --resume continues them, another --output starts afresh")
    reports = []
    for number in range(1, count + 1):
        run = folder / f"fold{number}"
        print(f"\nfold {number} of {count}")
        resume = bool(given.get("resume")) and (run / "last.pt").exists()
        if resume and (run / "report.json").exists():
            reports.append(json.loads((run / "report.json").read_text()))
            continue
        reports.append(train({**given, "output": str(run), "fold": number, "resume": resume}))
    if not all(reports):
        return {}  # another process keeps the record
    metrics = _summary([report["val"] for report in reports])
    summary = {"folds": count, "val": metrics}
    write_text(folder / "folds.json", json.dumps(summary, indent=2) + "\n")
    rows = [(name, f"{found['mean']:.4f}", f"{found['std']:.4f}") for name, found in metrics.items()]
    print("", *text_table([("", "mean", "std"), *rows]), sep="\n")
    print(f"{count} folds in {folder}, summary in {folder / 'folds.json'}")
    return summary


def _summary(reports: list[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and sample standard deviation of every number that all folds report."""
    result = {}
    for name in reports[0]:
        values = [value for report in reports if isinstance(value := report.get(name), int | float)]
        if len(values) == len(reports):
            result[name] = {"mean": statistics.fmean(values), "std": statistics.stdev(values), "values": values}
    return result
