"""Owns: raw outputs -> prediction. Oracle: hand arithmetic, scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import expit, logsumexp, softmax
from specs import SPEC

from cnn_perception.errors import FrameError
from cnn_perception.model.outputs import Outputs
from cnn_perception.model.spec import UnknownRule
from cnn_perception.pipeline.postprocess import postprocess

SPEC = dataclasses.replace(SPEC, temperature=1.0, unknown=None, statistics=None)
MULTILABEL = dataclasses.replace(SPEC, task="multilabel", thresholds=(0.5, 0.9, 0.1))
REGRESSION = dataclasses.replace(SPEC, task="regression", units=("rad", "", "m/s"))


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


def test_multilabel_scores_are_sigmoids_and_do_not_compete():
    spec = dataclasses.replace(MULTILABEL, temperature=2.0)
    prediction = postprocess(outputs(3.0, 2.0, -500.0), spec)
    assert prediction.scores == pytest.approx(expit([1.5, 1.0, -250.0]), abs=1e-6)


def test_multilabel_sees_the_classes_over_their_own_thresholds():
    prediction = postprocess(outputs(0.1, 2.0, -2.0), MULTILABEL)  # scores 0.52, 0.88, 0.12
    assert prediction.seen == {"Ameise", "no entry"}
    assert [name for name, _ in prediction.ranked(9)] == ["Ameise", "no entry"]
    assert [name for name, _ in prediction.ranked(9, threshold=0.2)] == ["Ameise"]
    assert [name for name, _ in prediction.ranked(1)] == ["Ameise"]
    assert postprocess(outputs(-9.0, -9.0, -9.0), MULTILABEL).ranked(9) == []


def test_regression_returns_the_logits_as_numbers_and_no_scores():
    prediction = postprocess(outputs(-0.25, 7.0, 3.0), dataclasses.replace(REGRESSION, temperature=2.0))
    assert prediction.values.tolist() == [-0.25, 7.0, 3.0]
    assert prediction.units == ("rad", "", "m/s")
    assert (prediction.scores.size, prediction.ranked(3), prediction.score) == (0, [], 0.0)
    assert prediction.name == "蜂"  # what the activation map belongs to


@pytest.mark.parametrize("spec", [SPEC, MULTILABEL, REGRESSION], ids=lambda spec: spec.task)
@pytest.mark.parametrize("field", ["logits", "embedding", "activation"])
def test_no_output_that_is_no_number_is_ever_returned(spec, field):
    bad = dataclasses.replace(outputs(0.0, 0.0, 0.0), **{field: np.array([[0.0, np.nan, 0.0]], np.float32)})
    with pytest.raises(FrameError):
        postprocess(bad, spec)


def rule(method: str, threshold: float, *centres: tuple[float, ...]):
    return dataclasses.replace(SPEC, unknown=UnknownRule(method, threshold, 0.05, None, 0, centres))


@pytest.mark.parametrize("logits", [(1.0, 3.0, -2.0), (-40.0, -41.0, -39.0), (900.0, 899.0, 0.0)])
def test_energy_below_the_threshold_is_unknown_whatever_the_temperature(logits):
    energy = logsumexp(logits)
    for temperature in (0.5, 4.0):
        for shift, unknown in ((1e-3, True), (-1e-3, False)):
            spec = dataclasses.replace(rule("energy", energy + shift), temperature=temperature)
            assert postprocess(outputs(*logits), spec).unknown is unknown


def test_an_embedding_far_from_every_centre_is_unknown():
    centres = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.6, 0.8, 0.0))
    embedding = np.arange(4)
    nearest = min(cosine(embedding, centre) for centre in centres)
    assert not postprocess(outputs(0.0, 0.0, 0.0), rule("distance", -nearest - 1e-3, *centres)).unknown
    assert postprocess(outputs(0.0, 0.0, 0.0), rule("distance", -nearest + 1e-3, *centres)).unknown


def test_an_embedding_of_zeros_is_near_to_no_centre():
    nothing = dataclasses.replace(outputs(0.0, 0.0, 0.0), embedding=np.zeros(2, np.float32))
    assert postprocess(nothing, rule("distance", -0.9, (1.0, 0.0))).unknown


def test_an_unknown_image_has_one_answer_that_no_threshold_hides():
    prediction = postprocess(outputs(9.0, 0.0, 0.0), rule("energy", 50.0))
    assert prediction.ranked(5) == prediction.ranked(1, threshold=1.0) == [("unknown", 1.0)]
    assert prediction.scores[0] > 0.99  # what it would have been taken for


def held(prediction, *indices: int):
    return dataclasses.replace(prediction, held=indices)


def test_a_held_class_comes_first_even_where_another_scores_higher():
    prediction = held(postprocess(outputs(1.0, 1.1, 0.0), SPEC), 0)
    assert [name for name, _ in prediction.ranked(3)] == ["Ameise", "蜂", "no entry"]
    assert (prediction.name, prediction.score) == prediction.ranked(1)[0]
    assert prediction.score == pytest.approx(softmax([1.0, 1.1, 0.0])[0], abs=1e-6)
    assert prediction.class_names[prediction.top] == "蜂"  # the activation map remains that of this image


def test_a_held_class_below_the_threshold_leaves_no_answer_not_its_challenger():
    prediction = held(postprocess(outputs(1.0, 1.1, -9.0), SPEC), 0)  # scores 0.475, 0.525
    assert prediction.ranked(3, threshold=0.5) == []
    assert len(prediction.ranked(3, threshold=0.47)) == 2


def test_held_labels_are_the_ones_seen_whatever_their_thresholds_say():
    prediction = held(postprocess(outputs(3.0, 2.0, -1.0), MULTILABEL), 1, 2)  # scores 0.95, 0.88, 0.27
    assert prediction.seen == {"蜂", "no entry"}
    assert [name for name, _ in prediction.ranked(9)] == ["蜂", "no entry"]
    assert [name for name, _ in prediction.ranked(9, threshold=0.5)] == ["蜂"]
    assert prediction.name == "蜂"
    assert held(prediction).ranked(9) == []


def test_unknown_outranks_what_is_held():
    prediction = held(postprocess(outputs(9.0, 0.0, 0.0), rule("energy", 50.0)), 1)
    assert prediction.ranked(5) == [("unknown", 1.0)]
