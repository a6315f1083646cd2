"""Owns: what is answered to each box: the answers of the pipeline to its crop, and which boxes are left out.

Oracle: the pipeline on the crop as an image of its own, and colours known by hand.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_model import tiny_spec, with_unknown, write_tiny_model

from cnn_perception.errors import ConfigError, FrameError
from cnn_perception.image.messages import RgbImage
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.regions.answering import RegionSettings, answer_boxes
from cnn_perception.regions.box import Box
from cnn_perception.regions.cropping import CropSettings
from cnn_perception.tasks.prediction import Prediction


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def halves() -> RgbImage:
    """Red on the left, blue on the right."""
    image = np.zeros((48, 80, 3), np.uint8)
    image[:, :40, 0] = 250
    image[:, 40:, 2] = 250
    return RgbImage(image)


def name(answer: Prediction | FrameError) -> str:
    return answer.reason if isinstance(answer, FrameError) else answer.ranked(1)[0][0]


def test_each_box_is_answered_by_what_it_shows_in_the_order_in_which_it_came(pipeline: Pipeline):
    boxes = [
        Box(60, 24, 20, 20),
        Box(20, 24, 20, 20),
        Box(200, 24, 10, 10),
        Box(60, 24, math.nan, 20),
        Box(70, 9, 4, 4),
    ]

    answers = answer_boxes(pipeline, halves(), boxes, RegionSettings(batch_size=2))

    assert [name(one) for one in answers] == ["blue", "red", "box_outside", "box_not_finite", "blue"]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_scores_are_those_of_the_pipeline_to_the_crop_whatever_the_batch(pipeline: Pipeline, batch_size: int):
    image = RgbImage(np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8))
    boxes = [Box(10 + 7 * n, 20, 11, 9) for n in range(10)]

    answers = answer_boxes(pipeline, image, boxes, RegionSettings(batch_size=batch_size))

    for box, answer in zip(boxes, answers, strict=True):
        assert isinstance(answer, Prediction)
        left, top = int(box.x - 5), int(box.y - 4)  # half pixels go up
        expected = pipeline.recognise(RgbImage(np.ascontiguousarray(image[top : top + 9, left : left + 11])))
        np.testing.assert_allclose(answer.scores, expected.scores, atol=1e-6)


def test_beyond_the_limit_the_surest_boxes_are_answered_and_of_equal_ones_the_first(pipeline: Pipeline):
    scores = [0.1, 0.9, -math.inf, 0.9, 0.5]
    boxes = [Box(20, 24, 10, 10, score=score) for score in scores]

    answers = answer_boxes(pipeline, halves(), boxes, RegionSettings(most=2))

    assert [name(one) for one in answers] == ["beyond_rois_max", "red", "beyond_rois_max", "red", "beyond_rois_max"]
    alike = answer_boxes(pipeline, halves(), [Box(20, 24, 10, 10)] * 4, RegionSettings(most=3))
    assert [name(one) for one in alike] == ["red", "red", "red", "beyond_rois_max"]


def test_no_boxes_are_answered_by_none(pipeline: Pipeline):
    assert answer_boxes(pipeline, halves(), [], RegionSettings()) == []


def test_padding_shows_what_is_around_a_box(pipeline: Pipeline):
    narrow = Box(38, 24, 4, 10)
    wide = RegionSettings(CropSettings(padding=4.0))

    assert [name(one) for one in answer_boxes(pipeline, halves(), [narrow], RegionSettings())] == ["red"]
    (answer,) = answer_boxes(pipeline, halves(), [narrow], wide)
    assert isinstance(answer, Prediction)
    assert answer.scores[2] > 0.1


def test_box_that_shows_none_of_the_classes_is_unknown_alone(tmp_path: Path):
    model = write_tiny_model(tmp_path / "unknown.onnx", spec=with_unknown(tiny_spec(), threshold=5.0))
    image = halves()
    image[:, 60:] = 0

    answers = answer_boxes(Pipeline.load(model), image, [Box(20, 24, 10, 10), Box(70, 24, 10, 10)], RegionSettings())

    assert [name(one) for one in answers] == ["red", "unknown"]


def test_answer_that_is_no_number_costs_its_box_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch):
    sound = pipeline.model.run

    def spoilt(images, activation=True):
        outputs = sound(images, activation)
        outputs[0].logits[:] = np.nan
        return outputs

    monkeypatch.setattr(pipeline.model, "run", spoilt)
    boxes = [Box(20, 24, 10, 10), Box(60, 24, 10, 10)]
    answers = answer_boxes(pipeline, halves(), boxes, RegionSettings(batch_size=2))
    assert [name(one) for one in answers] == ["not_finite", "blue"]


def test_limits_below_one_are_refused():
    with pytest.raises(ConfigError, match="1 at least"):
        RegionSettings(most=0)
