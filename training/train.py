"""A folder of labelled images -> a checkpoint, with the record of how good it is.

    python -m training.train --data DIR --backbone resnet50 --weights imagenet --mode probe --output RUN

RUN then holds config.json, split.csv, history.csv, best.pt, last.pt, report.json, learning_curves.png and
confusion_matrix.png; rejected.csv if images could not be decoded.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, PerceptionError
from training import checkpoint, config, figures, finetune, probe
from training.answers import answer
from training.dataset import Part
from training.run import Run, open_run, settings


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the command line says; returns the exit code."""
    given = config.parse(argv)
    try:
        train(given)
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print(f"interrupted; continue with --output {given['output']} --resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


def train(given: dict[str, Any]) -> dict[str, Any]:
    """Trains and evaluates one network.

    Args:
        given: Settings of the run, as arguments of `config.make`.

    Returns:
        What report.json holds.

    Raises:
        PerceptionError: If a setting, the data or the weights cannot be used, or the loss is not finite.
        KeyboardInterrupt: On Ctrl-C; what was reached so far is kept.
    """
    started = time.perf_counter()
    run = open_run(settings(given))
    describe(run)
    opened = time.perf_counter()
    history = probe.fit(run) if run.config.mode == "probe" else finetune.fit(run, run.last())
    trained = time.perf_counter()

    best = checkpoint.load(run.folder / "best.pt")
    run.model.load_state_dict(best.model)
    parts: tuple[Part, ...] = ("val", "test") if run.data.part("test") else ("val",)
    answers = {part: answer(run.model, run.evaluation_batches(part), run.device, part) for part in parts}

    seconds = {"data": opened - started, "training": trained - opened, "evaluation": time.perf_counter() - trained}
    report: dict[str, Any] = {
        **{part: found.report(run.data.class_names) for part, found in answers.items()},
        "training": best.training,
        "epochs": len(history),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "config": run.config.to_dict(),
    }
    checkpoint.write_text(run.folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    figures.learning_curves(history, run.folder / "learning_curves.png")
    figures.confusion_matrix(answers[parts[-1]].confusion, run.data.class_names, run.folder / "confusion_matrix.png")
    summarise(run, report, parts)
    return report


def describe(run: Run) -> None:
    """Prints what is about to be trained on what."""
    counts = ", ".join(f"{len(run.data.part(part))} {part}" for part in ("train", "val", "test"))
    print(f"{run.data.root}: {len(run.data.class_names)} classes, {counts} images")
    for reason, count in sorted(run.data.ignored.items()):
        if count:
            print(f"  ignored: {count} {reason}")
    if run.data.rejected:
        print(f"  left out: {len(run.data.rejected)} images that cannot be decoded, see {run.folder / 'rejected.csv'}")
    print(f"{run.config.mode} of {run.config.backbone}, weights {run.weights}, on {run.device}")


def summarise(run: Run, report: dict[str, Any], parts: Sequence[str]) -> None:
    """Prints the scores, where the files are, and what to do next."""
    print(f"\n{'':<6}{'images':>8}{'top-1':>8}{'top-5':>8}{'balanced':>10}{'macro F1':>10}{'loss':>8}")
    for part in parts:
        s = report[part]
        shares = f"{s['top1']:>8.3f}{s['top5']:>8.3f}{s['balanced_accuracy']:>10.3f}{s['macro_f1']:>10.3f}"
        print(f"{part:<6}{s['images']:>8}{shares}{s['loss']:>8.3f}")
    print(f"{sum(report['seconds'].values()):.0f} s; report and figures in {run.folder}\nnext:")
    name = f"{Path(run.config.data).name}_{run.config.backbone}.onnx"
    print(f"  python -m training.export --checkpoint {run.folder / 'best.pt'} --output models/{name}")


if __name__ == "__main__":
    sys.exit(main())
