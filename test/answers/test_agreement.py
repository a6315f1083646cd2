"""Owns: when an answer is that of the model offline. Leaves to others: which frame it is to (test_matching)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_bag import GREEN, RED, START_NS, flat, raw, write_bag
from tiny_model import as_multilabel, regression_spec, tiny_spec, write_tiny_model

from cnn_perception.answers.agreement import Selection, compared_offline
from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.bag.reader import Bag
from cnn_perception.evaluation.labelled_frames import frames_of_bag
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.registry import task_of

ALL = Selection(top_k=5, threshold=0.0)


def compared(tmp_path, spec, results, selection=ALL, colours=(RED, GREEN)):
    """The answers to one frame of each colour beside those of the tiny model."""
    write_tiny_model(tmp_path / "model.onnx", spec=spec)
    pipeline = Pipeline.load(tmp_path / "model.onnx", SessionOptions(providers=("CPUExecutionProvider",)))
    images = [("/image_raw", START_NS + n, raw(flat(colour), START_NS + n)) for n, colour in enumerate(colours)]
    answers = [None if one is None else Answer(START_NS + n, 0.0, tuple(one)) for n, one in enumerate(results)]
    with Bag(write_bag(tmp_path / "bag", images)) as bag:
        frames = frames_of_bag(bag, None, "", "bag", pipeline.spec)
        reading = Reading.of(task_of(spec.task), spec.class_names)
        return compared_offline(pipeline, frames, answers, reading, selection)[1]


def scores(colour):
    """The tiny model's softmax: logits are 10 times the colour's share of white."""
    exponentials = np.exp(10 * np.array(colour) / 255)
    return dict(zip(("red", "green", "blue"), (exponentials / exponentials.sum()).tolist(), strict=True))


def test_an_answer_is_the_same_within_the_tolerance_and_not_beyond_it(tmp_path):
    red, green = scores(RED)["red"], scores(GREEN)["green"]

    found = compared(tmp_path, tiny_spec(), [[("red", red + 5e-6)], [("green", green - 5e-5)]])

    assert (found.compared, found.same_answer, found.same) == (2, 2, 1)
    assert [one.index for one in found.differences] == [1]
    assert found.largest == pytest.approx(5e-5, rel=0.05)


def test_another_class_is_another_answer_whatever_its_score(tmp_path):
    found = compared(tmp_path, tiny_spec(), [[("green", scores(RED)["green"])], None])

    assert (found.compared, found.same_answer, found.same) == (1, 0, 0)
    assert (found.differences[0].answered, found.differences[0].offline) == ("green", "red")


def test_no_class_is_the_right_answer_where_none_reaches_the_nodes_threshold(tmp_path):
    assert compared(tmp_path, tiny_spec(), [[], []], Selection(5, 0.9999)).same == 2
    assert compared(tmp_path / "other", tiny_spec(), [[], []]).same == 0


def test_several_classes_are_compared_as_a_set(tmp_path):
    spec = as_multilabel(tiny_spec(), 0.5, 0.5, 0.5)
    found = compared(tmp_path, spec, [[("blue", 0.9), ("red", 0.9)], [("red", 0.9)]], colours=((255, 0, 255), RED))

    # a logit of 0 has the score 0.5, which reaches the threshold: all three are seen in every picture
    assert found.same_answer == 0
    assert {one.offline for one in found.differences} == {"blue;green;red"}


def test_numbers_are_compared_by_name(tmp_path):
    spec = regression_spec({"a": "rad", "b": "", "c": ""})
    share = [10 * value / 255 for value in RED]
    right = list(zip("abc", share, strict=True))

    found = compared(tmp_path, spec, [right[::-1], [(name, value + 0.1) for name, value in right]], colours=(RED, RED))

    assert (found.compared, found.same) == (2, 1)
    assert [one.index for one in found.differences] == [1]


def test_a_frame_that_is_refused_offline_and_was_answered_is_a_difference(tmp_path):
    write_tiny_model(tmp_path / "model.onnx")
    pipeline = Pipeline.load(tmp_path / "model.onnx", SessionOptions(providers=("CPUExecutionProvider",)))
    broken = raw(flat(RED), START_NS)
    broken = dataclasses.replace(broken, encoding="nonsense")
    with Bag(write_bag(tmp_path / "bag", [("/image_raw", START_NS, broken)])) as bag:
        frames = frames_of_bag(bag, None, "", "bag", pipeline.spec)
        answers = [Answer(START_NS, 0.0, (("red", 1.0),))]
        records, found = compared_offline(pipeline, frames, answers, Reading(), ALL)

    assert records[0].error == "encoding"
    assert found.same == 0
    assert found.differences[0].offline == "refused (encoding)"
