"""Owns: that a further task needs no change of the runtime but its registration. Oracle: hand arithmetic.

The toy is ordinal: classes are grades in order, and the answer is the middle one, up to which half of the scores lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from evaluating import Page, colour_bag, run
from recording import Recording, picture, raw
from tiny_model import GAIN, tiny_spec, write_tiny_model

from cnn_perception.background.shadow import Shadow
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.image.messages import RgbImage
from cnn_perception.model import spec as spec_module
from cnn_perception.pipeline import Pipeline
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.stream.drift import Drift
from cnn_perception.stream.smoothing import AnswerSmoother, SmoothingSettings
from cnn_perception.tasks import Prediction, registry
from cnn_perception.tasks.multiclass import Multiclass
from cnn_perception.tasks.rules import Figure, FrameCounts

GRADES = ("low", "middle", "high")
TORN = (12, 0, 9)
"""Logits 0.47, 0 and 0.35, scores 0.40, 0.25 and 0.35: the best grade is low, half of the scores lie up to middle."""
LOW, MIDDLE, HIGH = (200, 0, 0), (0, 200, 0), (0, 0, 200)
SPEC = dataclasses.replace(tiny_spec(GRADES), task="ordinal")


@dataclass(frozen=True)
class OrdinalScores:
    frames: FrameCounts
    grades_off: float | None

    def reaches(self, limit: float) -> bool:
        return self.grades_off is not None and self.grades_off <= limit

    def summary(self) -> list[str]:
        return [] if self.grades_off is None else [f"quality    {self.grades_off:.2f} grades off"]

    def figures(self, spec, threshold: float) -> list[Figure]:
        return [] if self.grades_off is None else [Figure("grades off", self.grades_off, is_share=False)]


class Ordinal(Multiclass):
    name = "ordinal"
    topic = "grade"
    gates = ()
    order_of_worst = "the farthest grades first"

    def text(self, prediction: Prediction) -> str:
        return prediction.class_names[self._grade(prediction)]

    def scored_text(self, prediction: Prediction, most: int) -> str:
        return f"grade {self._grade(prediction) + 1} of {len(prediction.class_names)}"

    def answered(self, prediction: Prediction) -> np.ndarray:
        return np.arange(len(prediction.class_names)) == self._grade(prediction)

    def kept(self, prediction: Prediction, truth) -> Prediction:
        return prediction

    def badness(self, prediction: Prediction, truth) -> float:
        return 0.0 if truth is None else float(self._off(prediction, truth))

    def score(self, frames: FrameCounts, scored: Sequence, spec, threshold, sampling=None) -> OrdinalScores:
        off = [self._off(prediction, truth) for truth, prediction in scored]
        return OrdinalScores(frames, sum(off) / len(off) if off else None)

    def columns(self, names: Sequence[str]) -> tuple[str, ...]:
        return ("truth", "predicted", "grades off")

    def cells(self, prediction: Prediction | None, truth, names: Sequence[str]) -> list[str]:
        if prediction is None or truth is None:
            return [truth or "", "" if prediction is None else self.text(prediction), ""]
        return [truth, self.text(prediction), str(self._off(prediction, truth))]

    def _grade(self, prediction: Prediction) -> int:
        return int(np.searchsorted(np.cumsum(prediction.scores), 0.5))

    def _off(self, prediction: Prediction, truth: str) -> int:
        return abs(self._grade(prediction) - prediction.class_names.index(truth))


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """What its author would write into two files: a line in the registry, and the name in the description's type."""
    monkeypatch.setitem(registry.TASKS, "ordinal", Ordinal())
    monkeypatch.setattr(spec_module, "Task", Literal["multiclass", "multilabel", "regression", "ordinal"])


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path / "ordinal.onnx", spec=SPEC)


def flat(colour) -> RgbImage:
    return RgbImage(np.full((96, 128, 3), colour, np.uint8))


def test_its_predictions_come_out_of_the_pipeline_and_are_said_in_its_words(model):
    found = Pipeline.load(model).recognise(flat(TORN))
    task = registry.task_of(found.task)

    exponentials = np.exp(GAIN * np.array(TORN) / 255)
    assert found.scores == pytest.approx(exponentials / exponentials.sum(), abs=1e-6)
    assert (found.name, task.text(found), task.scored_text(found, 1)) == ("low", "middle", "grade 2 of 3")


def test_it_is_evaluated_with_its_own_columns_figures_and_words(tmp_path, model, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,0.2,low\n0.2,0.3,middle\n0.3,0.4,low\n")
    bag = colour_bag(tmp_path / "bag", [LOW, HIGH, TORN, TORN, MIDDLE])

    code, report, rows = run(tmp_path, model, "--bag", bag, "--labels", labels, "--no-video")

    assert (code, report["task"]) == (EXIT_OK, "ordinal")
    assert report["grades_off"] == (0 + 2 + 0 + 1) / 4
    assert [(row["truth"], row["predicted"], row["grades off"]) for row in rows] == [
        ("low", "low", "0"), ("low", "high", "2"), ("middle", "middle", "0"), ("low", "middle", "1"), ("", "middle", "")
    ]  # fmt: skip
    assert [frame["index"] for frame in report["worst"]] == [1]  # all are of one second
    assert report["worst"][0]["is_right"] is False
    assert "quality    0.75 grades off" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert Page(page).open == []
    assert "grades off" in page
    assert "the farthest grades first" in page


def test_a_gate_of_another_task_is_refused(tmp_path, model, capsys):
    arguments = ("--bag", colour_bag(tmp_path / "bag"), "--max-mae", 1)

    code, _, _ = run(tmp_path, model, *arguments)

    assert code == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "--max-mae is for regression models" in error
    assert "is ordinal: leave it out" in error


def test_it_is_smoothed_and_watched_by_its_own_answer(model):
    torn = Pipeline.load(model).recognise(flat(TORN))
    smoothed = AnswerSmoother()(torn, 1.0, SmoothingSettings(hold_s=1.0))
    drift = Drift(SPEC)
    drift.observe(torn, 0.5)

    assert smoothed.held == (1,)
    assert drift.report().frames == 1


def test_it_is_compared_with_a_second_model_by_its_own_answer(tmp_path, model):
    second = write_tiny_model(tmp_path / "second.onnx", spec=SPEC, bias=[0.0, 0.0, -5.0])
    ours = Pipeline.load(model).recognise(flat(TORN))
    shadow = Shadow(Pipeline.load(second), SPEC, on_failure=lambda _: None)

    shadow.offer(flat(TORN), ours, "front", 10**9)
    assert shadow.close(10.0)

    # without the high grade 0.62 of the scores are low
    assert shadow.report().pairs == (("middle", "low", 1),)
    assert shadow.report().latest == ("front 1.000: grade 2 of 3, shadow grade 1 of 3",)


def test_it_is_recorded_and_drawn(tmp_path, model):
    found = Pipeline.load(model).recognise(flat(TORN))
    recording = Recording(tmp_path, SPEC)

    recording.offer(raw(picture(0)), found, stamp_ns=1)
    recording.close()

    (table,) = tmp_path.rglob("frames.csv")
    assert ",margin,middle,0.04" in table.read_text()  # the best score is 0.40, the second 0.35
    assert (draw_overlay(flat(TORN), found, SPEC.input) != flat(TORN)).any()


def test_its_message_is_of_a_known_kind():
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from cnn_perception.perception_node import messages

    assert messages.ANSWER_TYPES[registry.task_of("ordinal").message].__name__ == "Classification"
