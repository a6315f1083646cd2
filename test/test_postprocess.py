"""Owns: raw outputs -> prediction. Oracle: hand arithmetic, scipy's softmax."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax
from test_spec import SPEC

from cnn_perception.errors import FrameError
from cnn_perception.postprocess import Outputs, postprocess

SPEC = dataclasses.replace(SPEC, temperature=1.0)


def outputs(*logits: float) -> Outputs:
    return Outputs(np.array(logits, np.float32), np.eye(2, dtype=np.float32), np.arange(4, dtype=np.float32))


def test_scores_are_the_softmax():
    prediction = postprocess(outputs(1.0, 3.0, -2.0), SPEC)
    assert prediction.scores == pytest.approx(softmax([1.0, 3.0, -2.0]), abs=1e-6)
    assert (prediction.top, prediction.name) == (1, "蜂")
    assert prediction.score == pytest.approx(softmax([1.0, 3.0, -2.0])[1])


def test_temperature_softens_the_scores():
    prediction = postprocess(outputs(1.0, 3.0, -2.0), dataclasses.replace(SPEC, temperature=4.0))
    assert prediction.scores == pytest.approx(softmax([0.25, 0.75, -0.5]), abs=1e-6)


def test_huge_logits_do_not_overflow():
    prediction = postprocess(outputs(1e30, -1e30, 0.0), SPEC)
    assert prediction.scores.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_never_returned(bad: float):
    with pytest.raises(FrameError) as caught:
        postprocess(outputs(0.0, bad, 1.0), SPEC)
    assert caught.value.reason == "not_finite"


def test_ranking_is_best_first_and_cut_at_k():
    prediction = postprocess(outputs(0.0, 2.0, 1.0), SPEC)
    names = [name for name, _ in prediction.ranked(top_k=2)]
    assert names == ["蜂", "no entry"]
    assert [name for name, _ in prediction.ranked(top_k=9)] == ["蜂", "no entry", "Ameise"]
    assert prediction.ranked(top_k=0) == []


def test_threshold_keeps_scores_at_and_above_it():
    prediction = postprocess(outputs(0.0, 0.0, -1e9), SPEC)  # two scores of exactly one half
    assert len(prediction.ranked(3, threshold=0.49)) == 2
    assert len(prediction.ranked(3, threshold=0.5)) == 2
    assert prediction.ranked(3, threshold=0.51) == []


def test_equal_scores_keep_the_order_of_the_labels():
    prediction = postprocess(outputs(1.0, 1.0, 1.0), SPEC)
    assert [name for name, _ in prediction.ranked(3)] == ["Ameise", "蜂", "no entry"]
