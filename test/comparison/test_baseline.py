"""Owns: which frames of two evaluations are the same, and what is refused. Leaves to others: figures (test_comparison).

Oracle: hand arithmetic on a model whose answers are the dominant colour.
"""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_bag import BLUE, GREEN, RED, flat
from tiny_model import as_multilabel, regression_spec, tiny_spec, with_unknown, write_tiny_model

from cnn_perception.comparison.answered_frames import AnsweredFrames, compare_all
from cnn_perception.comparison.baseline import Baseline, Observer, answer_of, baseline_of_bag, open_baseline
from cnn_perception.comparison.compared_frame import Answer
from cnn_perception.comparison.comparison import Comparison
from cnn_perception.comparison.model_card import ModelCard, notes_on
from cnn_perception.comparison.recorded_answers import RecordedAnswer, RecordedAnswers
from cnn_perception.errors import ConfigError, DataError, FrameError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.prediction import Prediction

OPTIONS = SessionOptions(providers=("CPUExecutionProvider",))
SECOND = 10**9


@dataclass
class Record:
    """As an evaluation has it."""

    index: int
    truth: object
    prediction: Prediction | None
    name: str = ""
    content: str = "abc"
    look: None = None
    after: int | None = None

    @property
    def stamp_ns(self) -> int:
        return 0 if self.name else 10 * SECOND + (self.index if self.after is None else self.after)

    @property
    def received_ns(self) -> int:
        return 0 if self.name else SECOND + self.stamp_ns


def card(names=("red", "green", "blue"), task="multiclass", path="new.onnx", units=(), **more) -> ModelCard:
    return ModelCard(path, path, task, tuple(names), tuple(units), more.get("has_unknown_rule", False))


def predicted(name: str, names=("red", "green", "blue")) -> Prediction:
    scores = np.array([0.8 if one == name else 0.1 for one in names], np.float32)
    return Prediction(tuple(names), scores, names.index(name), None, np.empty(0, np.float32))


def recorded(rows: dict, topic: str = "/camera", **more) -> RecordedAnswers:
    theirs = card(path="old.onnx", **more)
    return RecordedAnswers(Path("old/report.json"), theirs, "/bags/monday", topic, "labels.csv", rows)


def row(index: int, truth: str, answer: str | None, content: str = "abc") -> tuple:
    key = ("", 10 * SECOND + index, 11 * SECOND + index, 1)
    return key, RecordedAnswer(content, (truth,), Answer(answer, answer))


def answered(earlier: RecordedAnswers, records: list[Record], bag: str = "/bags/tuesday") -> AnsweredFrames:
    baseline = Baseline(card(), earlier.card, earlier)
    return baseline.answered(records, baseline.observer(), bag, "/camera")


def compared(earlier: RecordedAnswers, records: list[Record]) -> Comparison:
    return compare_all([answered(earlier, records)], 0.0)


def test_frames_that_only_one_evaluation_has_are_left_out_and_said():
    earlier = recorded(dict(row(index, "red", "red") for index in range(2, 10)))

    found = compared(earlier, [Record(index, "red", predicted("blue")) for index in range(6)])

    assert (found.frames, found.headline.theirs, found.headline.ours) == (4, 1.0, 0.0)
    assert found.left_out == (
        "2 frames that the baseline has not seen",
        "4 frames that only the baseline has",
    )


def test_unlabelled_frames_are_not_compared():
    earlier = recorded(dict(row(index, "red" if index else "", "red") for index in range(4)))

    records = [Record(index, "red" if index else None, predicted("red")) for index in range(4)]
    found = compared(earlier, records)

    assert found.frames == 3


def test_another_recording_is_refused_by_its_name():
    earlier = recorded(dict(row(index, "red", "red") for index in range(100, 104)))

    with pytest.raises(DataError, match=r"old/report.json is of another recording, /bags/monday: none of its 4 frames"):
        compared(earlier, [Record(0, "red", predicted("red"))])


def test_another_picture_at_the_same_time_is_refused():
    earlier = recorded(dict([row(0, "red", "red", content="abd")]))

    with pytest.raises(DataError, match=r"of other pictures \(/bags/monday\): frame 0 of /bags/tuesday is not the one"):
        answered(earlier, [Record(0, "red", predicted("red"))])


@pytest.mark.parametrize(
    ("then", "now", "words"), [("blue", "red", "was blue, and is now red"), ("", "red", "was unl")]
)
def test_other_labels_are_refused_by_the_frame(then, now, words):
    earlier = recorded(dict([row(0, then, "red")]))

    with pytest.raises(DataError, match=f"scored with other labels .labels.csv.: frame 0 of /bags/tuesday {words}"):
        answered(earlier, [Record(0, now, predicted("red"))])


def test_another_topic_is_refused():
    with pytest.raises(DataError, match="is of /other, this is /camera"):
        answered(recorded(dict([row(0, "red", "red")]), topic="/other"), [Record(0, "red", predicted("red"))])


def test_a_frame_that_could_not_be_read_has_no_answer():
    earlier = recorded(dict([row(0, "red", "red"), row(1, "red", None)]))

    found = compared(earlier, [Record(0, "red", None), Record(1, "red", predicted("red"))])

    assert (found.headline.theirs, found.headline.ours) == (0.5, 0.5)


def test_frames_of_equal_stamps_are_told_apart_by_their_order():
    key = ("", 10 * SECOND, 11 * SECOND)
    rows = {
        (*key, 1): RecordedAnswer("a", ("red",), Answer("red", "red")),
        (*key, 2): RecordedAnswer("b", ("blue",), Answer("red", "red")),
    }
    records = [
        Record(0, "red", predicted("red"), content="a", after=0),
        Record(1, "blue", predicted("blue"), content="b", after=0),
    ]

    found = compared(recorded(rows), records)

    assert [one.frame.index for one in found.gained] == [1]
    assert found.left_out == ()


def test_models_of_other_classes_are_compared_by_those_that_both_have():
    names = ("red", "blue", "violet")
    earlier = recorded(dict(row(index, "red", "violet") for index in range(3)), names=names)

    both = answered(earlier, [Record(index, "red", predicted("red")) for index in range(3)])
    found = compare_all([both], 0.0)

    assert both.common == ("red", "blue")
    assert (found.headline.theirs, found.headline.ours) == (0.0, 1.0)
    assert notes_on(both.ours, both.theirs) == [
        "compared by the 2 common classes; the model alone has green",
        "compared by the 2 common classes; the baseline alone has violet",
    ]


def test_frames_of_a_class_that_the_baseline_does_not_know_are_left_out_and_said():
    earlier = recorded(
        dict(row(index, "green" if index == 1 else "red", "red") for index in range(3)), names=("red", "blue")
    )
    truths = ["red", "green", "red"]

    found = compared(earlier, [Record(i, truth, predicted("red")) for i, truth in enumerate(truths)])

    assert found.frames == 2
    assert found.left_out == ("1 frames of classes that only one of the models has",)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (card(task="multilabel"), "is multilabel, new.onnx is multiclass"),
        (card(names=("cat", "dog")), "has other classes: cat, dog; none is common"),
    ],
)
def test_models_that_answer_nothing_alike_are_refused(theirs, words):
    with pytest.raises(ConfigError, match=words):
        Baseline(card(), theirs, recorded({}))


def test_numbers_of_other_units_are_refused():
    ours = card(names=("angle",), task="regression", units=("deg",))

    with pytest.raises(ConfigError, match=r"has 'angle' in 'rad', new\.onnx in 'deg'"):
        Baseline(ours, card(names=("angle",), task="regression", units=("rad",)), recorded({}))


def test_a_rule_for_unknown_images_of_one_model_alone_is_said():
    notes = notes_on(card(has_unknown_rule=True), card())

    assert notes == ["only the model has an unknown rule: an image of a class that it calls unknown counts as wrong"]


# ---- several recordings


def test_recordings_are_compared_together_with_what_each_left_out():
    earlier = recorded(dict(row(index, "red", "red") for index in range(8)))
    drives = [
        answered(earlier, [Record(index, "red", predicted(name)) for index in range(count)], bag)
        for bag, name, count in (("/bags/tuesday", "blue", 8), ("/bags/friday", "red", 5))
    ]

    found = compare_all(drives, 0.0)

    assert (found.frames, found.bags, len(found.lost)) == (13, 2, 8)
    assert found.left_out == ("3 frames that only the baseline has of /bags/friday",)
    assert {part.name for part in found.slices if part.kind == "bag"} == {"/bags/tuesday", "/bags/friday"}


def test_recordings_answered_by_different_baselines_are_refused():
    earlier = recorded(dict([row(0, "red", "red")]))
    newer = dataclasses.replace(earlier, card=card(path="newer.onnx"))
    drives = [answered(one, [Record(0, "red", predicted("red"))]) for one in (earlier, newer)]

    with pytest.raises(DataError, match=r"was answered by old\.onnx, /bags/tuesday by newer\.onnx"):
        compare_all(drives, 0.0)


@pytest.mark.parametrize("name", ["all", "all/report.json"])
def test_each_of_several_bags_is_compared_with_the_report_in_the_folder_of_its_name(tmp_path, name):
    (tmp_path / "all" / "monday").mkdir(parents=True)
    for folder in ("all", "all/monday"):
        (tmp_path / folder / "report.json").write_text("{}")

    assert baseline_of_bag(tmp_path / name, "monday") == tmp_path / "all" / "monday" / "report.json"
    assert baseline_of_bag(tmp_path / name, "friday") == tmp_path / name
    assert baseline_of_bag(tmp_path / "all" / "model.onnx", "monday") == tmp_path / "all" / "model.onnx"


def test_answered_frames_can_be_sent_to_another_process():
    both = answered(recorded(dict([row(0, "red", "red")])), [Record(0, "red", predicted("blue"))])

    assert pickle.loads(pickle.dumps(both)) == both


# ---- a model that sees the same pictures


def model(path: Path, spec=None, **options) -> OnnxModel:
    return OnnxModel(write_tiny_model(path, spec=spec, **options), OPTIONS)


def test_another_model_is_asked_about_each_picture(tmp_path):
    theirs = write_tiny_model(tmp_path / "old.onnx", bias=(0, 20, 0))
    baseline = open_baseline(theirs, model(tmp_path / "new.onnx"), OPTIONS)
    observer = baseline.observer()
    for index, colour in enumerate((RED, GREEN, BLUE)):
        observer.observe(index, flat(colour))
    truths = ("red", "green", "blue")

    both = baseline.answered([Record(i, one, predicted(one)) for i, one in enumerate(truths)], observer, "b", "/camera")
    found = compare_all([both], 0.0)

    assert (found.headline.theirs, found.headline.ours) == (1 / 3, 1.0)
    assert [one.frame.theirs.given for one in found.gained] == ["green", "green"]


def test_a_picture_that_the_other_model_cannot_answer_has_no_answer():
    class Failing:
        def recognise(self, _image):
            raise FrameError("nan", "the model returned NaN")

    observer = Observer(Failing())
    observer.observe(3, flat(RED))

    assert observer.answers == {3: Answer(None, None)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (tiny_spec(), Answer("red", "red")),
        (with_unknown(tiny_spec(), 1e6), Answer(UNKNOWN, "red")),
        (as_multilabel(tiny_spec(), 0.9, 0.5, 0.9), Answer(frozenset({"red", "green"}), frozenset({"red", "green"}))),
    ],
)
def test_an_answer_is_read_with_the_unknown_rule_and_without(tmp_path, spec, expected):
    """The logits of the picture are 7.8, 0.4 and 0.4."""
    prediction = Pipeline.load(write_tiny_model(tmp_path / "m.onnx", spec=spec), OPTIONS).recognise(flat(RED))

    assert answer_of(prediction) == expected


def test_numbers_are_read_as_they_are(tmp_path):
    spec = regression_spec({"x": "m", "y": "m", "z": "m"})
    prediction = Pipeline.load(write_tiny_model(tmp_path / "m.onnx", spec=spec), OPTIONS).recognise(flat(RED))

    assert answer_of(prediction).given == pytest.approx((10 * 200 / 255, 100 / 255, 100 / 255), rel=1e-4)


@pytest.mark.parametrize("name", ["nothing.onnx", "nothing/report.json", "nothing"])
def test_what_is_not_there_is_said(tmp_path, name):
    with pytest.raises(ConfigError, match=r"there is no such file; name report\.json, its folder, or a model file"):
        open_baseline(tmp_path / name, model(tmp_path / "new.onnx"), OPTIONS)
