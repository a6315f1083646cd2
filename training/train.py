"""Labelled images, a folder or a CSV file -> a checkpoint, with the record of how good it is.

    python -m training.train --data DIR --backbone resnet50 --weights imagenet --mode probe --output RUN
    python -m training.train --teacher RUN/best.pt --data DIR --unlabelled BAG --backbone resnet18 --output SMALL
    python -m training.train --teacher RUN/best.pt --unlabelled BAG --backbone resnet18 --output SMALL

RUN then holds config.json, split.csv, history.csv, best.pt, last.pt, report.json, report.html, learning_curves.png
and confusion_matrix.png (numbers.png where numbers are learned); findings.csv if the check of the images found
anything.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_perception.commands import Done, bad_input, exit_code, for_shell, program, there
from cnn_perception.errors import ConfigError, DataError, PerceptionError, printable
from training import check, checkpoint, config, distributed
from training.batches import cache
from training.batches.augment import mirroring_note
from training.calibration import embeddings, fit, mirroring
from training.calibration.outside import outside_in_words
from training.config import TrainConfig
from training.distillation.unlabelled import Frame
from training.loop import batch_statistics, cross_validation, lr_finder, out_of_memory, probe, tensorboard, trainer
from training.loop.lr_finder import Sweep
from training.loop.run import EpochRecord, Run, open_run, settings
from training.networks.backbones import file_name, public_name
from training.networks.libraries import own_errors
from training.report import agreement, figures, gain, provenance
from training.report import page as html
from training.run_files import write_csv, write_text
from training.scoring.scores import ScoredLogits, cell, headline, headline_in_words
from training.tasks.by_name import task_of
from training.tasks.multiclass import confusion
from training.text_table import text_table

if TYPE_CHECKING:
    from training.baselines.of_run import Beside

_LEFT = (
    "best.pt", "last.pt", "report.json", "report.html", "history.csv", "split.csv", "config.json", "findings.csv",
    "learning_curves.png", "confusion_matrix.png", "numbers.png", batch_statistics.FILE,
)  # fmt: skip
"""Files of a run."""


@program("training.train")
def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the command line says; returns the exit code."""
    try:
        given = config.with_recipe(config.parse(argv))
    except PerceptionError as error:
        return bad_input(error)
    return exit_code(lambda: _run(given), f"interrupted; {_then(given)}")


def _then(given: Mapping[str, Any]) -> str:
    """Says what to do after an interruption."""
    if given.get("find_lr"):
        return "no rate is suggested"
    again = ("python", "-m", "training.train", "--output", Path(given.get("output", "")), "--resume")
    return f"continue with {for_shell(*again)}"


def _run(given: dict[str, Any]) -> int:
    """Does what the settings ask for: suggests a learning rate, cross-validates, or trains once."""
    with distributed.processes(use_gpu=given.get("device") != "cpu"):
        if given.get("find_lr"):
            return suggest_lr(given)
        if given.get("folds") and not given.get("fold"):
            summary = cross_validation.cross_validate(given, train)
            return Done(result=summary, written=there(Path(given["output"]), "folds.json"))
        report = train(given)
    return Done(result=report, written=there(Path(given["output"]), *_LEFT))


def _told_apart(given: dict[str, Any]) -> dict[str, Any]:
    """The settings with their labelled data apart from those without labels, which only a teacher's run may have."""
    if not given.get("teacher"):
        return given
    from training.collect import unlabelled  # slow to import

    return unlabelled.told_apart(given)


def _frames(chosen: TrainConfig) -> tuple[Frame, ...]:
    """The frames without labels of a run."""
    if not chosen.unlabelled:
        return ()
    from training.collect import unlabelled  # slow to import

    return unlabelled.frames_of(chosen)


def suggest_lr(given: dict[str, Any]) -> int:
    """Prints the learning rate to take for a run, and trains nothing; see `lr_finder.find`."""
    chosen = settings(_told_apart(given))
    with out_of_memory.enough(chosen):
        run = open_run(chosen, _frames(chosen))
        describe(run)
        found = lr_finder.find(mirroring.settled(run))
    write_sweep(run.folder, found)
    rate = found.suggestion()
    print(f"suggested: --lr {rate:.1e}; the curve is {printable(str(run.folder / 'lr_finder.png'))}")
    return Done(result={"lr": rate}, written=there(run.folder, "lr_finder.csv", "lr_finder.png"))


def write_sweep(folder: Path, found: Sweep) -> None:
    """Leaves a sweep over the learning rates in a run's folder, as lr_finder.csv and lr_finder.png."""
    write_csv(folder / "lr_finder.csv", ("lr", "loss"), zip(found.rates, found.losses, strict=True))
    try:
        suggested = found.suggestion()
    except DataError:  # the curve is what shows why
        suggested = None
    figures.learning_rates(found.rates, found.losses, suggested, folder / "lr_finder.png")


@own_errors.blamed("training")
def train(given: dict[str, Any]) -> dict[str, Any]:
    """Trains and evaluates one network.

    Args:
        given: Settings of the run, as arguments of `config.make`.

    Returns:
        What report.json holds; nothing in all but the first of several processes.

    Raises:
        PerceptionError: If a setting, the data or the weights cannot be used, the loss is not finite, or the memory or
            the disk does not suffice.
        KeyboardInterrupt: On Ctrl-C; what was reached so far is kept.
    """
    chosen = settings(_told_apart(given))
    if chosen.mode == "probe" and distributed.count() > 1:
        raise ConfigError("--mode probe is the work of one process; leave out torchrun")
    tensorboard.check(chosen)
    with out_of_memory.enough(chosen):
        return _train(chosen)


def _train(chosen: TrainConfig) -> dict[str, Any]:
    started = time.perf_counter()
    if chosen.outside:
        embeddings.outside_images(Path(chosen.outside))  # for its error, which should not come only after the training
    run = open_run(chosen, _frames(chosen))
    describe(run)
    opened = time.perf_counter()
    is_labelled = not run.data.labelled_by
    run = mirroring.settled(run) if is_labelled else run
    saved = run.last()
    if run.config.mode == "finetune" and saved is None and is_labelled:
        gain.note_beginning(run)
    history = probe.fit(run) if run.config.mode == "probe" else trainer.fit(run, saved)
    if distributed.rank() > 0:
        return {}
    cache.close_cache(run.config)
    trained = time.perf_counter()

    best = checkpoint.load(run.folder / "best.pt")
    run.model.load_state_dict(best.model)
    predictions = embeddings.of_run(run)
    fitted = fit.of_run(run, predictions)
    checkpoint.save(run.folder / "best.pt", dataclasses.replace(best, calibration=fitted.calibration))
    val = fit.evaluation(predictions["val"], run.data, fitted.calibration)
    if not is_labelled:
        return agreement.write(run, best, history, val, time.perf_counter() - started)

    scores = task_of(run.data.task).probabilities(predictions["val"].logits, 1.0)
    gained = gain.gains(run, predictions["val"].samples, scores)
    evaluated = time.perf_counter()
    seconds = {"data": opened - started, "training": trained - opened, "evaluation": evaluated - trained}
    beside = _beside(run, predictions["val"], trained - opened)
    if beside:
        seconds["baselines"] = time.perf_counter() - evaluated
    adapted = batch_statistics.noted(run.folder) if run.config.adapt_norm else None
    report: dict[str, Any] = {
        "val": scored(val, fitted),
        **_test_part(run),
        **({"gain": gain.as_json(gained)} if gained else {}),
        **({"adapted_norm": adapted} if adapted else {}),
        **({"baselines": beside.as_json()} if beside else {}),
        "calibration": fitted.report(),
        "training": best.training,
        "sources": [source.as_json() for source in run.data.sources],
        "epochs": len(history),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "config": run.config.to_dict(),
        "command": provenance.command(run.config),
        "versions": provenance.versions(),
    }
    write_text(run.folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    draw(run, history, val)
    warnings = [gain.unsteady_warning(history, len(run.data.class_names)), gain.warning(gained)]
    told = [*notes(report), *(one.in_words() for one in gained), *filter(None, warnings)]
    if beside and beside.compared:
        told.append(beside.compared.in_words())
    html.write(run, report, predictions, fitted, [*told, *([adapted["in_words"]] if adapted else [])])
    summarise(run, report, told)
    return report


def _beside(run: Run, seen: embeddings.Predictions, fit_s: float) -> Beside | None:
    """The baselines beside the network; nothing where the settings want none."""
    if run.config.baselines == "none":
        return None
    from training.baselines import of_run  # slow to import

    return of_run.beside(run, seen, fit_s)


def scored(val: ScoredLogits, fitted: fit.Fitted) -> dict[str, Any]:
    """Returns the scores of the validation images, the headline of one class an image among them."""
    figures = val.report(fitted.calibration.thresholds)
    if not val.task.one_class:
        return figures
    return figures | {"headline": headline(val.logits, val.truth, fitted.is_unknown)}


def _test_part(run: Run) -> dict[str, Any]:
    """What report.json says of images that are kept for the end."""
    images = len(run.data.part("test"))
    return {"test": {"images": images, "scored": False, "command": _test_command(run)}} if images else {}


def _test_command(run: Run) -> str:
    words = ("--checkpoint", run.folder / "best.pt", "--data", *run.config.sources, "--part", "test")
    return for_shell("python", "-m", "training.evaluate", *words)


def draw(run: Run, history: Sequence[EpochRecord], last: ScoredLogits) -> None:
    """Leaves the figures of a run in its folder; what is drawn of its last part depends on the task."""
    figures.learning_curves(history, run.folder / "learning_curves.png")
    if run.data.task == "multiclass":
        counts = confusion(last.logits, last.truth)
        figures.confusion_matrix(counts, run.data.class_names, run.folder / "confusion_matrix.png")
    elif run.data.task == "regression":
        figures.numbers(last, run.folder / "numbers.png")


def describe(run: Run) -> None:
    """Prints what is about to be trained on what."""
    print("\n".join(check.describe(run.data, run.folder / "findings.csv")))
    print(f"{run.config.mode} of {public_name(run.config.backbone)}, weights {run.weights}, on {run.computed}")
    if note := mirroring_note(run.config, run.data.task, run.data.class_names):
        print(note)


def summarise(run: Run, report: dict[str, Any], notes: Sequence[str]) -> None:
    """Prints the scores, where the files are, and what to do next."""
    val = report["val"]
    shown = [name for name, value in val.items() if isinstance(value, float)]
    heading, line = text_table(
        [["", "images", *shown], ["val", str(val["images"]), *(cell(val, name) for name in shown)]]
    )
    print(f"\n{heading}\n{line}")
    for name, row in val.get("per_number", {}).items():
        told = f"{row['mae']:.4g} {row['unit']}".strip()
        known = f"{row['mae_of_training_mean']:.4g}"
        shown_error = f"mean absolute error {told}, R2 {row['r2']:.3f}"
        print(f"      {printable(name)}: {shown_error} (always the training mean: {known})")
    for note in notes:
        print(note)
    print(f"{sum(report['seconds'].values()):.0f} s; report and figures in {printable(str(run.folder))}\nnext:")
    name = f"{run.data.name}_{file_name(run.config.backbone)}.onnx"
    words = ("--checkpoint", run.folder / "best.pt", "--output", Path("models", name))
    print(f"  {for_shell('python', '-m', 'training.export', *words)}")
    if "test" in report:
        print(f"  {report['test']['command']}")
    if "baselines" not in report:
        print(f"  {for_shell('python', '-m', 'training.baselines', '--checkpoint', run.folder / 'best.pt')}")


def notes(report: Mapping[str, Any]) -> list[str]:
    """Returns what has to be said of the scores, a line each: what the robot will do, and what was not looked at."""
    lines = ["in brackets: 95 % intervals, of shares of the images Wilson's, else by bootstrap"]
    if found := report["val"].get("headline"):
        lines.append(f"the robot: {headline_in_words(found)}")
    if warning := gain.chance_warning(report["val"]):
        lines.append(warning)
    if rule := report["calibration"].get("unknown"):
        rate = f"{rule['false_alarm_rate']:.1%} of the known images, promised {rule['promised_rate']:.1%}"
        lines.append(f"unknown rule: {rule['method']}, calls {rate} unknown; --unknown none leaves it out")
    if rule and (outside := rule.get("outside")):
        lines.append(f"unknown rule: {outside_in_words(outside)}")
    if how := report["calibration"].get("measured_by"):
        lines.append(f"calibration and false alarms: {how}")
    if test := report.get("test"):
        lines.append(f"the test part, {test['images']} images, was not looked at: score it once, when all is decided")
    return lines


if __name__ == "__main__":
    sys.exit(main())
