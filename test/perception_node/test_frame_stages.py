"""Owns: what each stage makes of a frame, or why it refuses it. No ROS: messages are plain objects.

Leaves to others: who counts and warns (test_frame_processor), the threads (test_staged_executor). The tiny model's
answer is the dominant colour; its logits are 10 times the mean of the colour channels in [0, 1].
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_parts import BLUE, GREEN, RED, active_model, flat_message
from tiny_model import tiny_spec, with_score_map, with_unknown, write_tiny_model

from cnn_perception.errors import FrameError, ModelError
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.perception_node.frame_stages import (
    Frame,
    FrameResult,
    InferredFrame,
    WantedTopics,
    answer_frame,
    infer_frames,
    judge_stamp,
    map_scores,
    place_to_publish,
    prepare_frame,
    stage_durations_ms,
)
from cnn_perception.stream.smoothing import AnswerSmoother, SmoothingSettings
from cnn_perception.stream.stamps import Stamps

NOW_NS = 100_000_000_000
ANSWER = WantedTopics(answer=True)
NO_SMOOTHING = SmoothingSettings()


class DefectError(Exception):
    """What nobody foresees."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ActiveModel:
    return active_model(write_tiny_model(tmp_path_factory.mktemp("stages") / "tiny.onnx"))


def prepared(model: ActiveModel, message: Any, wanted: WantedTopics = ANSWER, has_age: bool = True) -> Any:
    return prepare_frame(message, model, "front", "/front/image", wanted=wanted, has_age=has_age)


def inferred(model: ActiveModel, message: Any, wanted: WantedTopics = ANSWER) -> Any:
    (one,) = infer_frames([prepared(model, message, wanted)])
    return one


def answered(one: InferredFrame, *, now_ns: int = NOW_NS, max_age_s: float = 0.0) -> Any:
    return answer_frame(one, AnswerSmoother(), NO_SMOOTHING, now_ns, max_age_s)


# ---- before the first stage


def test_good_stamp_has_an_age_and_an_odd_one_a_name():
    verdict = judge_stamp(flat_message(RED, second=99).header, Stamps(), NOW_NS, "accept", 0.0)
    assert not isinstance(verdict, FrameError)
    assert (verdict.age_s, verdict.oddity) == (1.0, "")
    verdict = judge_stamp(flat_message(RED, second=0).header, Stamps(), NOW_NS, "accept", 0.0)
    assert not isinstance(verdict, FrameError)
    assert (verdict.age_s, verdict.oddity) == (None, "stamp_zero")


def test_the_fields_of_a_stamp_are_judged_and_not_their_sum_alone():
    header = flat_message(RED, second=96).header
    header.stamp.nanosec = 3_000_000_000  # together just 1 s before the node's clock
    verdict = judge_stamp(header, Stamps(), NOW_NS, "accept", 0.0)
    assert not isinstance(verdict, FrameError)
    assert (verdict.age_s, verdict.oddity) == (None, "stamp_invalid")
    refusal = judge_stamp(header, Stamps(), NOW_NS, "reject", 0.0)
    assert isinstance(refusal, FrameError)
    assert refusal.reason == "stamp_invalid"


@pytest.mark.parametrize(
    ("second", "policy", "max_age_s", "reason"),
    [(0, "reject", 0.0, "stamp_zero"), (98, "accept", 1.5, "too_old"), (200, "reject", 0.0, "stamp_future")],
)
def test_stamp_that_is_not_accepted_is_a_refusal(second: int, policy: Any, max_age_s: float, reason: str):
    refusal = judge_stamp(flat_message(RED, second=second).header, Stamps(), NOW_NS, policy, max_age_s)
    assert isinstance(refusal, FrameError)
    assert refusal.reason == reason


def test_wanted_topics_say_what_has_to_be_computed():
    none = WantedTopics()
    assert (none.anything, none.rays, none.map, none.views) == (False, False, False, [])
    for name in ("activation", "overlay", "overlay_jpeg", "peak_ray", "centroid_ray"):
        assert WantedTopics(**{name: True}).map
    for name in ("peak_ray", "centroid_ray"):
        assert WantedTopics(**{name: True}).rays
    views = {
        "neighbours": "neighbours",
        "overlay": "overlay",
        "overlay_jpeg": "overlay",
        "score_map": "score map",
        "score_map_info": "score map",
        "label_map": "score map",
        "label_overlay": "score map",
        "unit_activation": "unit activation",
    }
    for field in dataclasses.fields(WantedTopics):
        name = field.name
        assert WantedTopics(**{name: True}).views == ([views[name]] if name in views else [])
    for field in dataclasses.fields(WantedTopics):
        assert WantedTopics(**{field.name: True}).anything


# ---- first stage


def test_prepared_frame_carries_its_model_its_header_and_its_origin(model: ActiveModel):
    message = flat_message(RED, second=7)
    frame = prepared(model, message, has_age=False)
    assert frame.model is model
    assert frame.header is message.header
    origin = frame.origin
    assert (origin.camera, origin.topic, origin.stamp_ns, origin.frame_id) == (
        "front",
        "/front/image",
        7_000_000_000,
        "optical",
    )
    assert (frame.has_age, frame.wanted) == (False, ANSWER)
    assert frame.prepared.tensor.shape == (3, 24, 32)
    np.testing.assert_allclose(frame.prepared.tensor.mean((1, 2)), [1, 0, 0], atol=1e-6)


def test_unusable_image_is_refused_with_its_reason(model: ActiveModel):
    refusal = prepared(model, flat_message(RED, encoding="nonsense"))
    assert isinstance(refusal, FrameError)
    assert refusal.reason == "encoding"


def test_defect_is_a_refusal_that_names_its_cause(model: ActiveModel, monkeypatch: pytest.MonkeyPatch):
    defect = DefectError("as planned")

    def fail(_: object) -> None:
        raise defect

    monkeypatch.setattr(model.pipeline, "prepare", fail)
    refusal = prepared(model, flat_message(RED))
    assert isinstance(refusal, FrameError)
    assert (refusal.reason, refusal.__cause__) == ("defect", defect)
    assert str(refusal) == "DefectError: as planned; this is a defect of the node"


# ---- second stage


def test_frames_of_a_batch_are_answered_in_order_by_their_own_model(model: ActiveModel, tmp_path: Path):
    other = active_model(write_tiny_model(tmp_path / "other.onnx", classes=("rot", "gruen", "blau")))
    for one, names in ((model, ("blue", "green")), (other, ("blau", "gruen"))):
        results = infer_frames([prepared(one, flat_message(BLUE)), prepared(one, flat_message(GREEN))])
        assert tuple(found.result.prediction.name for found in results if isinstance(found, InferredFrame)) == names


def test_run_that_fails_is_the_refusal_of_every_frame(model: ActiveModel, monkeypatch: pytest.MonkeyPatch):
    error = FrameError("inference", "out of memory")

    def fail(*_: object) -> None:
        raise error

    frames = [prepared(model, flat_message(RED)) for _ in range(2)]
    monkeypatch.setattr(model.pipeline, "infer_batch", fail)
    assert infer_frames(frames) == [error, error]


def test_frame_without_a_finite_answer_is_refused_alone(model: ActiveModel):
    good, bad = prepared(model, flat_message(RED)), prepared(model, flat_message(GREEN))
    bad.prepared.tensor[:] = np.nan
    refusal, found = infer_frames([bad, good])
    assert isinstance(refusal, FrameError)
    assert refusal.reason == "not_finite"
    assert isinstance(found, InferredFrame)
    assert found.result.prediction.name == "red"


@pytest.mark.parametrize("error", [DefectError(), MemoryError()], ids=repr)
def test_defect_in_inference_is_raised(model: ActiveModel, monkeypatch: pytest.MonkeyPatch, error: BaseException):
    def fail(*_: object) -> None:
        raise error

    frame = prepared(model, flat_message(RED))
    monkeypatch.setattr(model.pipeline, "infer_batch", fail)
    with pytest.raises(type(error)):
        infer_frames([frame])


def test_activation_map_is_computed_only_where_it_is_wanted(model: ActiveModel):
    assert inferred(model, flat_message(RED)).result.prediction.activation is None
    assert inferred(model, flat_message(RED), WantedTopics(overlay=True)).result.prediction.activation is not None


# ---- third stage


@pytest.mark.parametrize(("age_s", "is_too_old"), [(1.999, False), (2.0, False), (2.001, True)])
def test_frame_that_became_too_old_is_refused(model: ActiveModel, age_s: float, is_too_old: bool):
    one = inferred(model, flat_message(RED, second=50))
    result = answered(one, now_ns=50_000_000_000 + round(age_s * 1e9), max_age_s=2.0)
    assert isinstance(result, FrameError) == is_too_old
    if is_too_old:
        assert result.reason == "too_old"


def test_answer_is_smoothed_over_the_frames_of_one_camera(model: ActiveModel):
    """0.1 s with a time constant of 1 s weigh 1 - exp(-0.1) = 0.095: the answer before goes on."""
    smoothing, settings = AnswerSmoother(), SmoothingSettings(smoothing_s=1.0)
    first = inferred(model, flat_message(RED, second=10))
    second = inferred(model, flat_message(BLUE, second=10))
    header = second.frame.origin
    second = dataclasses.replace(
        second, frame=dataclasses.replace(second.frame, origin=dataclasses.replace(header, stamp_ns=10_100_000_000))
    )
    results = [answer_frame(one, smoothing, settings, NOW_NS, 0.0) for one in (first, second)]
    assert [one.answer.name for one in results if isinstance(one, FrameResult)] == ["red", "red"]
    assert [one.result.prediction.name for one in results if isinstance(one, FrameResult)] == ["red", "blue"]


@pytest.mark.parametrize(("second", "expected"), [(0, "blue"), (10, "red")])
def test_time_of_a_frame_without_a_stamp_is_the_clocks(model: ActiveModel, second: int, expected: str):
    """A minute later by the clock; stamps that stand still change nothing."""
    smoothing, settings = AnswerSmoother(), SmoothingSettings(smoothing_s=1.0)
    frames = [inferred(model, flat_message(colour, second=second)) for colour in (RED, BLUE)]
    results = [
        answer_frame(one, smoothing, settings, NOW_NS + number * 60_000_000_000, 0.0)
        for number, one in enumerate(frames)
    ]
    assert isinstance(results[1], FrameResult)
    assert results[1].answer.name == expected


def half_red() -> Any:
    """Red in the right half, so that its place is known; black elsewhere."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:, 40:] = RED
    return flat_message(RED, data=pixels.tobytes())


def test_place_of_the_answered_class_is_where_it_is_in_the_image(model: ActiveModel):
    result = answered(inferred(model, half_red(), WantedTopics(centroid_ray=True)))
    place = place_to_publish(result)
    assert place is not None
    middle_of_the_right_half = (59.5, 23.5)
    assert place.centroid == pytest.approx(middle_of_the_right_half, abs=0.5)  # its edge is blurred by resampling


def test_no_place_where_no_direction_is_wanted_or_another_class_is_answered(model: ActiveModel, tmp_path: Path):
    result = answered(inferred(model, half_red(), WantedTopics(centroid_ray=True)))
    unwanted = dataclasses.replace(result.frame, wanted=WantedTopics(activation=True))
    assert place_to_publish(dataclasses.replace(result, frame=unwanted)) is None
    for answer in (
        dataclasses.replace(result.answer, held=(1,)),
        dataclasses.replace(result.answer, unknown=True),
    ):
        assert place_to_publish(dataclasses.replace(result, answer=answer)) is None
    assert place_to_publish(dataclasses.replace(result, answer=dataclasses.replace(result.answer, held=(0,))))
    rejecting = write_tiny_model(tmp_path / "rejecting.onnx", spec=with_unknown(tiny_spec(), 1000.0))
    unknown = answered(inferred(active_model(rejecting), half_red(), WantedTopics(centroid_ray=True)))
    assert place_to_publish(unknown) is None


def test_score_map_of_an_answered_frame_is_of_the_scale_that_is_wanted(tmp_path: Path):
    """48x80 pixels have 4x7 windows of 24x32, every 8 pixels; 96x160 of them 10x17."""
    dense = active_model(write_tiny_model(tmp_path / "dense.onnx", spec=with_score_map(tiny_spec())))
    result = answered(inferred(dense, flat_message(RED)))
    shapes = [map_scores(result, scale, 10**6).scores.shape[1:] for scale in (1.0, 2.0)]
    assert shapes == [(4, 7), (10, 17)]


def test_score_map_that_cannot_be_is_refused(model: ActiveModel, tmp_path: Path):
    dense = active_model(write_tiny_model(tmp_path / "dense.onnx", spec=with_score_map(tiny_spec())))
    with pytest.raises(ModelError, match="has no score map"):
        map_scores(answered(inferred(model, flat_message(RED))), 1.0, 10**6)
    with pytest.raises(FrameError, match="80x48 pixels are more than 3839"):
        map_scores(answered(inferred(dense, flat_message(RED))), 1.0, 48 * 80 - 1)


def test_durations_are_those_of_the_stages_and_the_way_from_the_callback(model: ActiveModel):
    result = answered(inferred(model, flat_message(RED, second=50)))
    frame: Frame = dataclasses.replace(result.frame, taken_s=(10.0, 10.125))
    result = dataclasses.replace(result, frame=frame)
    found = stage_durations_ms(result, (10.5, 10.75), 50_300_000_000)
    timings = result.result.timings
    assert found == {
        "take": 125.0,
        "decode": timings.decode_ms,
        "preprocess": timings.preprocess_ms,
        "inference": timings.inference_ms,
        "postprocess": timings.postprocess_ms,
        "publish": 250.0,
        "callback_to_publish": 750.0,
        "age": 300.0,
    }
    ageless = dataclasses.replace(result, frame=dataclasses.replace(frame, has_age=False))
    assert "age" not in stage_durations_ms(ageless, (10.5, 10.75), 50_300_000_000)
