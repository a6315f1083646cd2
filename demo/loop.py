"""`make loop`: from a recording to labels to a better model, the proof that it is better, and its deployment.

A first model knows few pictures. It is driven past signs; the frames that are worth a label are chosen from the
recording, a scripted person labels them in a real browser, a second model learns from them too, is compared with the
first on another drive, and takes its place in the running node. Every step is one of the commands of the documentation.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_perception.commands import exit_code
from cnn_perception.files import require_unused
from demo.draw import draw_dataset, draw_drive
from demo.record import NODE
from demo.run import LabelledDrive, print_heading, run_live, step
from demo.scripted_person import ScriptedPerson, chromium, serving
from demo.training_settings import LOOP_SETTINGS
from training.data_set.columns import PATH, STAMP
from training.data_set.table import read

_MARK = "loop.json"
_PARTS = ("first", "second", "models", "drives", "set", "scored", "compared", "live")
_RATE_HZ = 10.0
_LENGTHS_S = (30.0, 60.0)
"""Of the drive that is chosen from, and of the one on which the two models are compared."""
_SIGN_S = 1.0
"""From one sign to the next: the frames of a sign are one event, and the more events the more a comparison can show."""
_FEW = 30
"""Images a class that the first model learns from."""


@dataclass(frozen=True)
class Recorded:
    """A drive that was recorded while a model answered.

    Attributes:
        drive: What the camera saw.
        bag: Images and answers.
        live: The recorder's summary.
    """

    drive: LabelledDrive
    bag: Path
    live: dict[str, Any]


def run(output: Path, budget: int) -> None:
    """Goes round the loop once, and prints what came of it.

    Args:
        output: Folder for everything that is made.
        budget: How many frames are labelled.

    Raises:
        PerceptionError: If a step fails; it has said why.
    """
    started = time.perf_counter()
    _begin(output)
    models = output / "models"
    print_heading("1/8  drawing a few images of road signs, and two drives past them")
    dataset = draw_dataset(output / "dataset", train=_FEW, val=30, seed=0)
    drives = [_drive(output / "drives" / str(seed), seconds, seed) for seed, seconds in enumerate(_LENGTHS_S, start=1)]
    print_heading(f"2/8  a first model, of {_FEW} images a class")
    first = _train([dataset], output / "first", models / "first.onnx")
    print_heading("3/8  a drive with it is recorded")
    seen = _record(drives[0], first, output / "live" / "first_drive")
    print_heading(f"4/8  the {budget} frames of it that are most worth a label")
    chosen = output / "set"
    drive = ["--bag", seen.bag, "--topic", "/image_raw", "--val-fraction", 0]  # the drawn images validate
    step("training.collect", *drive, "--model", first, "--budget", budget, "--output", chosen)
    print_heading("5/8  a scripted person labels them in Chromium, by the keyboard")
    labelled = _label(chosen, _truth(seen, first, output / "scored"))
    print_heading("6/8  a second model, of these too")
    second = _train([dataset, chosen], output / "second", models / "second.onnx")
    print_heading("7/8  is it better? Both on another drive, frame by frame")
    other = _record(drives[1], first, output / "live" / "second_drive")
    compared = _evaluate(other, second, output / "compared", "--baseline", first)
    print_heading("8/8  it takes the place of the first in the running node, on the same drive")
    deployed = _record(drives[1], first, output / "live" / "deployed", swap_to=second)
    answers = {
        name: _answered(recorded, output / "compared" / name) for name, recorded in _named(other, deployed).items()
    }
    _print_table(output, labelled, compared, answers, time.perf_counter() - started)


def _named(before: Recorded, after: Recorded) -> dict[str, Recorded]:
    return {"the first": before, "the second, swapped in": after}


def _begin(output: Path) -> None:
    """Removes what an earlier loop left, and refuses a folder of something else."""
    output.mkdir(parents=True, exist_ok=True)
    require_unused((output / name for name in _PARTS), output / _MARK, ("loop",))
    (output / _MARK).write_text('{"loop": "what lies here is replaced by the next loop"}\n')
    for name in set(_PARTS) - {"drives"}:  # drawn ones are kept, as they are the same again
        shutil.rmtree(output / name, ignore_errors=True)
    (output / "models").mkdir()
    (output / "live").mkdir()


def _drive(folder: Path, seconds: float, seed: int) -> LabelledDrive:
    folder.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_drive(folder, seconds=seconds, rate_hz=_RATE_HZ, seed=seed, sign_s=_SIGN_S)
    return LabelledDrive(drawn / "frames", len(list((drawn / "frames").iterdir())), drawn / "labels.csv")


def _train(data: Sequence[Path], run_folder: Path, model: Path) -> Path:
    step("training.train", "--data", *data, *LOOP_SETTINGS, "--output", run_folder)
    step("training.export", "--checkpoint", run_folder / "best.pt", "--output", model)
    return model


def _record(drive: LabelledDrive, model: Path, bag: Path, swap_to: Path | None = None) -> Recorded:
    return Recorded(drive, bag, run_live(drive, model, bag, swap_to))


def _labels_of(recorded: Recorded) -> list[object]:
    return ["--labels", recorded.drive.labels, "--labels-start", "image"]


def _evaluate(recorded: Recorded, model: Path, output: Path, *more: object) -> Path:
    of_bag = ["--bag", recorded.bag, "--topic", "/image_raw", *_labels_of(recorded)]
    step("cnn_perception.evaluation", *of_bag, "--model", model, "--no-video", *more, "--output", output)
    return output


def _answered(recorded: Recorded, output: Path) -> dict[str, Any]:
    """Scores the answers that a node gave on a drive."""
    of_bag = ["--bag", recorded.bag, "--topic", "/image_raw", *_labels_of(recorded)]
    step("cnn_perception.evaluation", *of_bag, "--answers", f"{NODE}/classification", "--output", output)
    found: dict[str, Any] = json.loads((output / "answers.json").read_text())
    return found


def _truth(recorded: Recorded, model: Path, output: Path) -> dict[int, str]:
    """Returns what each frame of a drive shows, by its stamp: the script that the person labels by."""
    with (_evaluate(recorded, model, output) / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["stamp_ns"]): row["truth"] for row in csv.DictReader(file)}


def _label(folder: Path, truth: dict[int, str]) -> int:
    """Labels a data set by the keyboard; returns how many images were decided on."""
    stamps = {row[PATH]: int(row[STAMP]) for row in read(folder).rows}
    with serving(folder) as address, chromium() as browser:
        person = ScriptedPerson(browser.new_page(), address)
        count = person.label(lambda path: truth[stamps[path]])
    print(f"{count} images labelled")
    return count


def _print_table(
    output: Path, labelled: int, compared: Path, answers: dict[str, dict[str, Any]], seconds: float
) -> None:
    report = json.loads((compared / "comparison.json").read_text())
    rows = [
        ("labelled", f"{labelled} of {int(_LENGTHS_S[0] * _RATE_HZ)} frames of the first drive"),
        ("second / first model", str(report["verdict"]["text"])),
        *((f"live, {name}", _in_words(found["stream"]["scores"])) for name, found in answers.items()),
        ("all of it took", f"{seconds / 60:.1f} minutes"),
        ("data set", str(output / "set")),
        ("comparison", str(compared / "comparison.html")),
        ("model", str(output / "models" / "second.onnx")),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<30}{value}")


def _in_words(scores: dict[str, Any]) -> str:
    accuracy = scores["accuracy"]
    return f"{accuracy['value']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%}) of {scores['scored']} answers"


def main(argv: Sequence[str] | None = None) -> int:
    """Goes round the loop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.loop", description=__doc__)
    parser.add_argument("--budget", type=int, default=40, help="frames that are labelled (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("loop_output"), help="folder (default: %(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: run(options.output, options.budget), "interrupted")


if __name__ == "__main__":
    sys.exit(main())
