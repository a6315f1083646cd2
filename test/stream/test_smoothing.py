"""Owns: smoothed answers: moving average, hysteresis, hold, unknown. Oracle: hand arithmetic, a sum over all frames."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cnn_perception.errors import ConfigError
from cnn_perception.stream.smoothing import AnswerSmoother, SmoothingSettings
from cnn_perception.tasks.prediction import Prediction

FRAME_S = 1 / 30
NAMES = ("stop", "go", "left")


def scored(*scores: float, unknown: bool = False) -> Prediction:
    values = np.array(scores, np.float32)
    names = NAMES[: len(scores)]
    return Prediction(names, values, int(values.argmax()), None, np.zeros(2, np.float32), unknown=unknown)


def labelled(*scores: float, thresholds: tuple[float, ...]) -> Prediction:
    return dataclasses.replace(scored(*scores), task="multilabel", thresholds=np.array(thresholds, np.float32))


def measured(*values: float) -> Prediction:
    numbers = np.array(values, np.float32)
    nothing = np.empty(0, np.float32)
    return dataclasses.replace(
        scored(*[0.0] * len(values)), scores=nothing, task="regression", values=numbers, units=("m",) * len(values)
    )


def answers(frames, wanted: SmoothingSettings, period_s: float = FRAME_S, start_s: float = 100.0) -> list[Prediction]:
    smoother = AnswerSmoother()
    return [smoother(frame, start_s + k * period_s, wanted) for k, frame in enumerate(frames)]


def names(predictions) -> list[str]:
    return [prediction.ranked(1)[0][0] for prediction in predictions]


def changes(items) -> int:
    return sum(a != b for a, b in itertools.pairwise(items))


STOP, GO = scored(0.9, 0.1), scored(0.1, 0.9)
STRANGE = scored(0.2, 0.8, unknown=True)


def test_switched_off_it_hands_on_the_very_prediction():
    smoother = AnswerSmoother()
    assert smoother(STOP, 0.0, SmoothingSettings()) is STOP
    smoother(STOP, 1.0, SmoothingSettings(smoothing_s=9.0, hold_s=9.0))
    assert smoother(GO, 1.1, SmoothingSettings()) is GO
    assert names([smoother(GO, 1.2, SmoothingSettings(smoothing_s=9.0, hold_s=9.0))]) == ["go"]  # nothing is remembered


def test_the_first_answer_is_that_of_its_frame():
    for frame in (STOP, STRANGE, scored(0.2, 0.3, 0.5)):
        (first,) = answers([frame], SmoothingSettings(1.0, 0.5, 1.0))
        assert (first.ranked(9), first.unknown) == (frame.ranked(9), frame.unknown)


# ---- smoothing


@pytest.mark.parametrize("rate_hz", [5, 30, 250])
def test_a_step_is_seen_to_63_percent_after_the_time_constant_at_any_frame_rate(rate_hz):
    frames = [scored(1.0, 0.0)] + [scored(0.0, 1.0)] * rate_hz
    last = answers(frames, SmoothingSettings(smoothing_s=1.0), 1 / rate_hz)[-1]
    assert last.scores == pytest.approx([math.exp(-1), 1 - math.exp(-1)], abs=1e-6)


def test_without_a_time_constant_scores_are_those_of_the_frame():
    found = answers([STOP, GO, STOP], SmoothingSettings(hysteresis=0.5))
    assert [list(p.scores) for p in found] == [list(p.scores) for p in (STOP, GO, STOP)]


SCORES = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda s: tuple(np.array(s) / sum(s)))
STREAM = st.lists(st.tuples(SCORES, st.booleans(), st.floats(0.001, 0.5)), min_size=1, max_size=40)
SETTINGS = st.builds(
    SmoothingSettings,
    smoothing_s=st.sampled_from([0.0, 0.05, 0.3, 2.0]),
    hysteresis=st.sampled_from([0.0, 0.1, 0.5, 0.95]),
    hold_s=st.sampled_from([0.0, 0.2, 1.0]),
)


def play(stream, wanted: SmoothingSettings) -> tuple[list[float], list[Prediction], list[Prediction]]:
    """Times, frames and answers of a stream of (scores, unknown, seconds since the frame before)."""
    smoother = AnswerSmoother()
    now_s = 50.0
    times = []
    raw = []
    found = []
    for scores, unknown, step_s in stream:
        now_s += step_s
        times.append(now_s)
        raw.append(scored(*scores, unknown=unknown))
        found.append(smoother(raw[-1], now_s, wanted))
    return times, raw, found


@settings(max_examples=100, deadline=None)
@given(STREAM, st.sampled_from([0.05, 0.3, 2.0]))
def test_scores_are_the_weighted_mean_of_all_known_frames(stream, tau):
    times, raw, found = play(stream, SmoothingSettings(smoothing_s=tau))
    ages = times[-1] - np.array(times)
    entered = np.concatenate([[1.0], 1.0 - np.exp(-np.diff(times) / tau)])
    weights = entered * np.exp(-ages / tau) * np.array([not frame.unknown for frame in raw])
    assume(weights.sum() > 1e-9)
    expected = weights @ np.array([frame.scores for frame in raw], np.float64) / weights.sum()
    assert found[-1].scores == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(STREAM, SETTINGS)
def test_scores_stay_probabilities_and_the_answer_is_one_of_the_classes(stream, wanted):
    for prediction in play(stream, wanted)[2]:
        assert prediction.scores.dtype == np.float32
        assert ((prediction.scores >= 0) & (prediction.scores <= 1)).all()
        assert prediction.scores.sum() == pytest.approx(1.0, abs=1e-5)
        if wanted != SmoothingSettings():
            assert (prediction.held is None) == prediction.unknown
            assert prediction.unknown or prediction.ranked(1) == [(prediction.name, prediction.score)]


@settings(max_examples=40, deadline=None)
@given(STREAM, SCORES, st.booleans(), SETTINGS)
def test_a_scene_that_stays_is_answered_in_the_end(stream, scores, unknown, wanted):
    ranked = sorted(scores, reverse=True)
    assume(unknown or ranked[0] - ranked[1] > wanted.hysteresis + 0.01)
    rest = [(scores, unknown, FRAME_S)] * int(30 * (1 + wanted.hold_s + 8 * wanted.smoothing_s))
    found = play(stream + rest, wanted)[2][-1]
    assert found.unknown == unknown
    assert unknown or found.ranked(1)[0][0] == scored(*scores).ranked(1)[0][0]
    assert unknown or found.scores == pytest.approx(scores, abs=2e-3)


# ---- hysteresis


def test_a_challenger_must_be_better_by_the_margin():
    found = answers(
        [STOP, scored(0.46, 0.54), scored(0.44, 0.56), scored(0.46, 0.54)], SmoothingSettings(hysteresis=0.1)
    )
    assert names(found) == ["stop", "stop", "go", "go"]
    assert found[1].ranked(2) == [("stop", pytest.approx(0.46)), ("go", pytest.approx(0.54))]


def test_alternating_frames_do_not_flicker():
    found = answers([STOP, GO] * 60, SmoothingSettings(smoothing_s=0.5, hysteresis=0.1))
    assert changes(names(found)) == 0


def test_a_single_wrong_frame_changes_nothing():
    found = answers([STOP] * 10 + [GO] + [STOP] * 10, SmoothingSettings(smoothing_s=0.3))
    assert set(names(found)) == {"stop"}


@settings(max_examples=100, deadline=None)
@given(STREAM, SETTINGS)
def test_an_answer_that_leads_by_the_margin_is_not_given_up(stream, wanted):
    found = play(stream, wanted)[2]
    for before, after in itertools.pairwise(found):
        if not (before.unknown or after.unknown) and before.name != after.name:
            lost = after.scores[after.class_names.index(before.name)]
            assert after.score > lost + wanted.hysteresis - 1e-6


# ---- hold


def test_an_answer_is_held_for_its_time():
    frames = [STOP] + [GO] * 5 + [STOP] * 5
    found = answers(frames, SmoothingSettings(hold_s=0.3), period_s=0.1, start_s=0.0)
    assert names(found) == ["stop"] * 3 + ["go"] * 3 + ["stop"] * 5


@settings(max_examples=150, deadline=None)
@given(STREAM, SETTINGS)
def test_the_answer_never_changes_twice_within_the_hold(stream, wanted):
    times, _, found = play(stream, wanted)
    given_ = names(found)
    changed = [times[0]] + [t for t, a, b in zip(times[1:], given_, given_[1:], strict=False) if a != b]
    assert all(b - a >= wanted.hold_s - 1e-9 for a, b in itertools.pairwise(changed))


# ---- unknown


def test_unknown_is_answered_once_most_frames_of_late_are():
    # after t seconds of unknown frames their share is 1 - exp(-t); it passes one half at ln 2 = 0.693 s,
    # and (1 + 0.5) / 2 at ln 4 = 1.386 s
    found = answers([STOP] + [STRANGE] * 20, SmoothingSettings(smoothing_s=1.0), period_s=0.1)
    assert [p.unknown for p in found].index(True) == 7
    found = answers([STOP] + [STRANGE] * 20, SmoothingSettings(smoothing_s=1.0, hysteresis=0.5), period_s=0.1)
    assert [p.unknown for p in found].index(True) == 14


def test_unknown_is_left_as_slowly_as_it_came():
    found = answers([STRANGE] + [STOP] * 20, SmoothingSettings(smoothing_s=1.0), period_s=0.1)
    assert [p.unknown for p in found].index(False) == 7
    assert names(found)[7:] == ["stop"] * 14


def test_what_unknown_frames_are_taken_for_moves_no_score():
    frames = [STOP] * 5 + [STRANGE] * 5
    found = answers(frames, SmoothingSettings(smoothing_s=1.0))
    assert names(found) == ["stop"] * 10
    assert found[-1].scores == pytest.approx([0.9, 0.1])


def test_an_unsure_class_is_not_unknown_for_that():
    unsure = scored(0.35, 0.33, 0.32)
    strange = scored(0.35, 0.33, 0.32, unknown=True)
    found = answers([unsure, unsure, strange] * 30, SmoothingSettings(smoothing_s=1.0))
    assert set(names(found)) == {"stop"}


def test_frames_that_alternate_between_known_and_unknown_do_not_flicker():
    found = answers([STOP, STRANGE] * 60, SmoothingSettings(smoothing_s=0.5, hysteresis=0.1))
    assert changes(names(found)) == 0


def test_without_a_time_constant_unknown_is_answered_at_once():
    assert names(answers([STOP, STRANGE, STOP], SmoothingSettings(hysteresis=0.9))) == ["stop", "unknown", "stop"]


# ---- several labels, numbers


def test_a_label_stays_as_it_is_within_the_band_around_its_threshold():
    # threshold 0.5, hysteresis 0.2: on from 0.6, off below 0.4
    scores = [0.55, 0.45, 0.39, 0.55, 0.59, 0.61, 0.41, 0.3]
    found = answers([labelled(s, thresholds=(0.5,)) for s in scores], SmoothingSettings(hysteresis=0.2))
    assert [bool(p.seen) for p in found] == [True, True, False, False, False, True, True, False]


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("hysteresis", [0.0, 0.3, 0.99])
def test_every_label_can_be_switched_on_and_off_whatever_its_threshold(threshold, hysteresis):
    frames = [labelled(s, thresholds=(threshold,)) for s in (0.0, 1.0, 0.0)]
    assert [bool(p.seen) for p in answers(frames, SmoothingSettings(hysteresis=hysteresis, hold_s=1e-9))] == [0, 1, 0]


def test_labels_are_held_each_by_itself():
    thresholds = (0.5, 0.5)
    frames = [
        labelled(a, b, thresholds=thresholds) for a, b in [(0, 1), (1, 1), (1, 1), (1, 1), (0, 0), (0, 0), (0, 1)]
    ]
    found = answers(frames, SmoothingSettings(hold_s=0.25), period_s=0.1, start_s=0.0)
    seen = [p.seen for p in found]
    # `stop` may change from 0.3 s on, then from 0.6 s on; `go` from 0.3 s on, then not before 0.7 s
    assert seen == [{"go"}] * 3 + [{"stop", "go"}, {"stop"}, {"stop"}, set()]
    assert [name for name, _ in found[3].ranked(9)] == ["stop", "go"]


def test_labels_are_smoothed_one_by_one():
    frames = [labelled(0.0, 1.0, thresholds=(0.5, 0.5))] + [labelled(1.0, 1.0, thresholds=(0.5, 0.5))] * 10
    last = answers(frames, SmoothingSettings(smoothing_s=1.0), period_s=0.1)[-1]
    assert last.scores == pytest.approx([1 - math.exp(-1), 1.0])
    assert last.ranked(9) == [("go", 1.0), ("stop", pytest.approx(1 - math.exp(-1)))]


def test_numbers_are_smoothed_and_nothing_holds_them():
    found = answers([measured(0.0, -8.0)] + [measured(2.0, -8.0)] * 10, SmoothingSettings(1.0, 0.9, 99.0), period_s=0.1)
    assert found[-1].values == pytest.approx([2 * (1 - math.exp(-1)), -8.0])
    assert (found[-1].held, found[-1].ranked(3), found[-1].scores.size) == (None, [], 0)


# ---- time and models


HARD = SmoothingSettings(smoothing_s=10.0, hysteresis=0.9, hold_s=60.0)


@pytest.mark.parametrize(
    ("step_s", "afresh"), [(-0.99, False), (-1.01, True), (59.9, False), (60.1, True), (math.nan, True), (1e9, True)]
)
def test_it_starts_afresh_where_time_goes_back_or_after_a_gap(step_s, afresh):
    smoother = AnswerSmoother()
    smoother(STOP, 100.0, HARD)
    assert names([smoother(GO, 100.0 + step_s, HARD)]) == ["go" if afresh else "stop"]


@pytest.mark.parametrize(("smoothing_s", "longest_s"), [(0.0, 5.0), (0.5, 5.0), (2.0, 10.0)])
def test_a_gap_is_bridged_for_5_seconds_or_5_time_constants(smoothing_s, longest_s):
    wanted = SmoothingSettings(smoothing_s=smoothing_s, hysteresis=0.9)
    for step_s, expected in ((longest_s, "stop"), (longest_s + 0.01, "go")):
        smoother = AnswerSmoother()
        smoother(STOP, 0.0, wanted)
        assert names([smoother(scored(0.05, 0.95) if smoothing_s else GO, step_s, wanted)]) == [expected]


@pytest.mark.parametrize("step_s", [0.0, -0.2], ids=["sent twice", "out of order"])
def test_a_frame_that_is_not_newer_changes_nothing(step_s):
    smoother = AnswerSmoother()
    smoother(STOP, 1.0, HARD)
    once = smoother(scored(0.3, 0.7), 1.3, HARD)
    late = smoother(STRANGE, 1.3 + step_s, HARD)
    after = smoother(scored(0.3, 0.7), 1.4, HARD)
    assert late.ranked(2) == once.ranked(2)
    assert after.scores == pytest.approx([0.3 + 0.6 * math.exp(-0.04), 0.7 - 0.6 * math.exp(-0.04)])


def test_where_time_stands_still_no_old_answer_is_held():
    found = answers([STOP] + [GO] * 7, HARD, period_s=0.0)
    assert names(found) == ["stop"] * 6 + ["go"] * 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.floats(-2, 6)), min_size=6, max_size=40))
def test_whatever_time_does_an_answer_is_old_by_few_frames(steps):
    smoother = AnswerSmoother()
    now_s = 0.0
    found = []
    smoother(STOP, now_s, SmoothingSettings(hysteresis=0.5))
    for step_s in steps:
        now_s += step_s
        found.append(smoother(GO, now_s, SmoothingSettings(hysteresis=0.5)).name)
    assert found[5:] == ["go"] * len(found[5:])


def test_another_model_starts_afresh():
    smoother = AnswerSmoother()
    smoother(STOP, 1.0, HARD)
    other = dataclasses.replace(GO, class_names=("halt", "walk"))
    assert names([smoother(other, 1.1, HARD)]) == ["walk"]
    task = labelled(0.2, 0.8, thresholds=(0.5, 0.5))
    smoother(STOP, 1.2, HARD)
    assert smoother(task, 1.3, HARD).seen == {"go"}


def test_settings_take_effect_between_two_frames():
    smoother = AnswerSmoother()
    smoother(STOP, 1.0, HARD)
    assert names([smoother(GO, 1.1, HARD)]) == ["stop"]
    assert names([smoother(GO, 1.2, SmoothingSettings(hysteresis=0.1))]) == ["go"]


def test_the_prediction_given_is_not_changed_and_its_map_stays():
    smoother = AnswerSmoother()
    frame = dataclasses.replace(GO, activation=np.ones((2, 2), np.float32))
    smoother(STOP, 1.0, HARD)
    found = smoother(frame, 1.1, HARD)
    assert (frame.held, frame.scores.tolist()) == (None, GO.scores.tolist())
    assert found.activation is frame.activation
    assert (found.name, found.class_names[found.top]) == ("stop", "go")


def test_a_time_constant_of_ages_after_an_unknown_frame_divides_by_nothing():
    found = answers([STRANGE, STOP], SmoothingSettings(smoothing_s=1e25))
    assert found[-1].unknown
    assert found[-1].scores == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize(
    "values",
    [(-0.1, 0, 0), (math.nan, 0, 0), (math.inf, 0, 0), (0, 1.0, 0), (0, -0.1, 0), (0, math.nan, 0), (0, 0, -1)],
)
def test_settings_out_of_range_are_refused_by_name(values):
    with pytest.raises(ConfigError, match=r"(smoothing_s|hysteresis|hold_s) is "):
        SmoothingSettings(*values)
