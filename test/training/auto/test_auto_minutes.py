"""Owns: the whole command where its minutes bind, by a clock that goes on by work. Leaves to others: real time."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_images import picture, write_folder

from cnn_perception import Pipeline
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from training.auto import budget, candidate, command, deployment, finish, trial
from training.calibration import embeddings
from training.data import load
from training.loop import trainer
from training.report import page

NETWORKS = tuple(f"layers: conv {width} 5x5 s2, relu, pool 2x2, conv 8 3x3, relu, gap, fc" for width in (16, 17, 18))
NAMES = [f"{candidate.label(name)}, light" for name in NETWORKS]
MINUTES = 6.0
EPOCHS = 10
BEGAN_S = 1000.0
READ_S, EXPORT_S, PAGE_S = 20.0, 4.0, 10.0
"""To read the data, which is more than the 5 % by which the minutes may be exceeded; a model file; a run's page."""
FORWARD_S, LEARN_S = 0.02, 0.2
"""Of an image, as the command measures it; the folds and the last training may take longer."""


class Clock:
    """Stands for `time.monotonic`, `time.perf_counter` and the timer of `signal`: it goes on where work is done alone.

    Attributes:
        now_s: What it shows.
        rings_s: When SIGALRM is due; None for never.
    """

    def __init__(self) -> None:
        self.now_s = BEGAN_S
        self.rings_s: float | None = None

    def show_s(self) -> float:
        return self.now_s

    def setitimer(self, _which: int, seconds: float) -> None:
        self.rings_s = self.now_s + seconds if seconds > 0 else None

    def work(self, seconds: float) -> None:
        """Goes on by so many seconds; a signal that is due comes in their midst, and may end the work there."""
        end_s = self.now_s + seconds
        if self.rings_s is not None and self.rings_s <= end_s:
            self.now_s, self.rings_s = self.rings_s, None
            signal.raise_signal(signal.SIGALRM)
        self.now_s = end_s


class Machine:
    """What each piece of work takes there.

    Attributes:
        slower: By how much more than was measured an image takes to be learned, in the folds and at the end.
    """

    def __init__(self, clock: Clock, patch: pytest.MonkeyPatch, slower: dict[str, float]) -> None:
        self.clock = clock
        self.slower = slower
        self._patch = patch
        patch.setattr(signal, "setitimer", clock.setitimer)
        shown = SimpleNamespace(monotonic=clock.show_s, perf_counter=clock.show_s)
        for module in (budget, command, trial):
            patch.setattr(module, "time", shown)
        patch.setattr(trial, "speed", lambda *_: (FORWARD_S, LEARN_S))
        patch.setattr(deployment, "latencies_ms", lambda paths: dict.fromkeys(paths, 5.0))
        patch.setattr(deployment, "model_file", self.model_file)
        patch.setattr(page, "write", lambda *_: clock.work(PAGE_S))
        self.takes(load.scan, "read_all", lambda *_: READ_S)
        self.takes(finish, "export", lambda *_, **__: EXPORT_S)
        self.takes(trainer, "evaluate", lambda _, batches, *__: FORWARD_S * len(batches.dataset))
        self.takes(embeddings, "predict", lambda _, batches, *__: FORWARD_S * len(batches.dataset))
        self.takes(trainer.Trainer, "step", self.step_s)

    def takes(self, where: Any, name: str, seconds: Callable[..., float]) -> None:
        """Has a function of the package take its time; the clock does not see what it really takes."""
        really = getattr(where, name)

        def timed(*given: Any, **named: Any) -> Any:
            self.clock.work(seconds(*given, **named))
            return really(*given, **named)

        self._patch.setattr(where, name, timed)

    def step_s(self, one: trainer.Trainer, batch: Any, _order: Any) -> float:
        (slower,) = (factor for part, factor in self.slower.items() if part in one.run.folder.parts)
        return slower * LEARN_S * len(batch.labels)

    def model_file(self, _one: Any, _given: Any, _data: Any, _precision: str, path: Path) -> None:
        self.clock.work(EXPORT_S)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)


@dataclass(frozen=True)
class Ended:
    """What a command has left.

    Attributes:
        code: Its exit code.
        used_s: What it took by the clock.
        folder: Of its results.
        said: What it printed.
    """

    code: int
    used_s: float
    folder: Path
    said: str

    def rows(self) -> dict[str, dict[str, str]]:
        with (self.folder / "auto.csv").open() as file:
            return {row["candidate"]: row for row in csv.DictReader(file)}

    def chosen(self) -> str:
        return str(json.loads((self.folder / "auto.json").read_text())["chosen"]["name"])


SLOWER = {"as planned": (1.0, 1.0), "all slower": (3.0, 3.0), "the last slower": (1.0, 3.0)}


@pytest.fixture(scope="module", params=SLOWER)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    root = tmp_path_factory.mktemp("minutes")
    photos = write_folder(root / "signs", {"go": 30, "stop": 30})
    words = ["--data", str(photos), "--output", str(root / "auto"), "--minutes", f"{MINUTES:g}", "--folds", "3"]
    words += ["--augment", "none", "--test-fraction", "0.2", "--device", "cpu", "--input-size", "32x32"]
    words += ["--batch-size", "8", "--backbones", *NETWORKS]
    clock = Clock()
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate, "usual_epochs", lambda _: EPOCHS)
        patch.setattr("builtins.print", lambda *lines, **_: printed.extend(map(str, lines)))
        Machine(clock, patch, dict(zip(("trials", "final"), SLOWER[request.param], strict=True)))
        torch.set_num_threads(1)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        code = command.main(words)
        signal.signal(signal.SIGINT, before)
    return Ended(code, clock.now_s - BEGAN_S, root / "auto", "\n".join(printed))


def test_it_ends_within_its_minutes_and_a_twentieth(ended: Ended):
    assert ended.code == EXIT_OK
    assert 0.5 * 60 * MINUTES < ended.used_s <= 1.05 * 60 * MINUTES


def test_the_time_that_it_says_it_took_is_that_of_the_clock(ended: Ended):
    assert ended.said.splitlines()[-1] == f"{ended.used_s:.0f} s of {60 * MINUTES:.0f} s"


def test_what_is_chosen_has_answered_and_of_the_others_the_table_says_that_time_ended_them(ended: Ended):
    rows = ended.rows()
    answered = {name: float(rows[name]["score"]) for name in NAMES if rows[name]["score"]}
    others = [rows[name]["ended"] for name in NAMES if name != ended.chosen()]

    assert answered[ended.chosen()] == max(answered.values())
    assert len(answered) < len(NETWORKS)
    assert [text for text in others if text.startswith(("no time: its training takes", "time was up "))] == others


def test_the_file_left_answers_in_a_pipeline(ended: Ended):
    prediction = Pipeline.load(ended.folder / "model.onnx").recognise(RgbImage(picture((220, 40, 40), 99)))

    assert {name for name, _ in prediction.ranked(2)} == {"go", "stop"}


def test_a_last_training_that_time_ended_is_left_as_far_as_it_came_and_that_is_said(ended: Ended):
    report = json.loads((ended.folder / "final" / "report.json").read_text())
    short = f"there was time for {report['epochs']} epochs only"

    assert (report["epochs"] < report["config"]["epochs"]) == (short in ended.said)
