"""Whether a data set can be trained with: the check that training makes before it begins, and nothing more.

    python -m training.check --data DIR --csv findings.csv

The CSV file lists path, reason and action of everything that was noticed. --preview FILE.html shows it, and augmented
batches exactly as a network would get them by the same options of training.train.

    python -m training.check --data DIR --labels --output FOLDER
    python -m training.check --data DIR --apply FOLDER/suspects.csv --output corrected.csv

look for wrong labels, and write a table with those that a person has decided anew; see training/label_errors.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn_perception.commands import Done, exit_code, program
from cnn_perception.errors import ConfigError, printable
from cnn_perception.files import given_path
from training import config
from training.config import TrainConfig
from training.config.command_line import GROUPS
from training.config.fields import flag_of
from training.data.load import DataOptions, load_images
from training.data.records import PARTS, LabelledImages, RefusedDataError
from training.data.sources import require_apart
from training.label_errors import options as of_labels
from training.label_errors.options import Asked
from training.tasks.by_name import task_of

SETTINGS = (
    "data", "task", "targets", "classes", "group_pattern", "strict", "on_conflict", "val_fraction", "test_fraction",
    "split", "folds", "fold", "seed",
)  # fmt: skip

OF_BATCHES = (
    "recipe", "mode", "augment", *GROUPS["augmentation"], "batch_size", "input_size", "resize_mode", "crop_fraction",
    "interpolation", "mean", "std", "balance",
)  # fmt: skip
"""Settings that decide what a preview shows."""


@program("training.check")
def main(argv: Sequence[str] | None = None) -> int:
    """Checks a data set as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.check", description=__doc__.split("\n")[0], argument_default=argparse.SUPPRESS
    )
    config.add_options(parser, SETTINGS)
    parser.add_argument(
        "--csv", type=given_path, default=None, help="where to list path, reason and action of what was found"
    )
    parser.add_argument("--preview", type=given_path, default=None, help="where to write a page (HTML) that shows it")
    config.add_options(parser.add_argument_group("of the batches in --preview"), OF_BATCHES)
    of_labels.add_options(parser)
    words = sys.argv[1:] if argv is None else argv
    given = vars(parser.parse_args(words))
    return exit_code(lambda: _chosen(given, words), "interrupted")


def _chosen(given: dict[str, Any], words: Sequence[str]) -> int:
    findings_csv = given.pop("csv")
    preview = given.pop("preview")
    asked = of_labels.taken(given, words)
    if not asked.wanted:
        return _check(given, findings_csv, preview)
    if findings_csv is not None or preview is not None:
        flag = "--preview" if findings_csv is None else "--csv"
        raise ConfigError(f"{flag} has no effect with --labels or --apply; check first, then look at the labels")
    return _judge(asked)


def _judge(asked: Asked) -> int:
    if asked.labels:
        print("looking for wrong labels", flush=True)
    from training.label_errors import command  # slow to import

    return command.run(asked)


def _check(given: dict[str, Any], findings_csv: Path | None, preview: Path | None) -> int:
    chosen = config.make(output="-", **config.with_recipe(given))
    if preview is None:
        for name in given.keys() & set(OF_BATCHES):
            print(f"warning: --{flag_of(name)} has no effect without --preview")
    else:
        require_apart(preview, chosen.sources)
        _require_page(preview)
    try:
        data = load_images(chosen.sources, DataOptions.of(chosen.to_dict()), findings_csv)
    except RefusedDataError as refused:
        if preview is not None:
            _show_refused(preview, chosen.sources, refused)
        raise
    print("\n".join(describe(data, findings_csv)))
    if preview is not None:
        _show(preview, data, chosen)
    written = [path for path in (findings_csv, preview) if path is not None and path.exists()]
    return Done(result=_figures(data), written=written)


def _figures(data: LabelledImages) -> dict[str, Any]:
    return {
        "task": data.task,
        "classes": data.class_names,
        "images": {part: len(data.part(part)) for part in PARTS},
        "left_out": [{"path": str(one.path), "reason": one.reason} for one in data.rejected],
        "warnings": data.warnings,
    }


def _require_page(path: Path) -> None:
    from training.report import preview  # slow to import

    preview.require_own(path)


def _show(path: Path, data: LabelledImages, chosen: TrainConfig) -> None:
    from training.report import preview  # slow to import

    preview.write(path, data, chosen)
    print(f"  shown in {path}")


def _show_refused(path: Path, sources: Sequence[Path], refused: RefusedDataError) -> None:
    from training.report import preview  # slow to import

    preview.write_refused(path, sources, refused, refused.findings)
    print(f"what was found is shown in {path}")


def describe(data: LabelledImages, findings_csv: Path | None) -> list[str]:
    """Says what a data set is and what was noticed about it, a line each."""
    counts = ", ".join(f"{len(data.part(part))} {part}" for part in PARTS)
    lines = [f"{data.where}: {data.task}, {len(data.class_names)} {task_of(data.task).outputs}, {counts} images"]
    lines += [f"  {line}" for line in data.of_sources()]
    lines += [f"  ignored: {count} {reason}" for reason, count in sorted(data.ignored.items()) if count]
    if data.rejected:
        lines.append(f"  left out: {len(data.rejected)} images that cannot be used")
        lines += _left_out(data)
    lines += [f"  warning: {warning}" for warning in data.warnings]
    if findings_csv and findings_csv.exists():
        lines.append(f"  listed in {findings_csv}")
    return [printable(line) for line in lines]


def _left_out(data: LabelledImages) -> list[str]:
    """Says of the images that cannot be used how many there are of each reason, with the first of them."""
    kinds = Counter(finding.reason.partition(":")[0] for finding in data.rejected)
    first = {finding.reason.partition(":")[0]: finding for finding in reversed(data.rejected)}
    return [f"    {count}, such as {first[kind].path}: {first[kind].reason}" for kind, count in kinds.most_common()]


if __name__ == "__main__":
    sys.exit(main())
