"""Owns: figures measured on images that a fit has not seen. Leaves to others: what is fitted (test_fit)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.calibration import cross_fit
from training.calibration import fit as calibrate
from training.calibration.embeddings import Predictions
from training.calibration.quantile import lower_quantile
from training.data.records import Sample


def too_sure(count, classes=3, heat=3.0):
    """Validation images with logits too sure by a factor, and labels drawn from what they should have said."""
    random = np.random.default_rng(0)
    honest = random.normal(0, 1.5, (count, classes))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = [int(random.choice(classes, p=row)) for row in shares]
    samples = tuple(Sample(Path(f"{row}.png"), label, "val") for row, label in enumerate(labels))
    return Predictions(samples, (heat * honest).astype(np.float32), np.ones((count, 2), np.float32))


def test_each_fold_has_its_share_of_every_class_and_groups_stay_together():
    labels = np.array([0] * 25 + [1] * 50 + [2] * 5)

    found = cross_fit.folds(labels)
    by_group = cross_fit.folds(labels, [f"bag {index // 8}" for index in range(80)])

    assert [[int(((found == fold) & (labels == k)).sum()) for k in range(3)] for fold in range(5)] == [[5, 10, 1]] * 5
    assert all(len(set(by_group[start : start + 8])) == 1 for start in range(0, 80, 8))
    assert len(set(by_group)) == 5


def test_too_few_images_or_a_single_group_are_measured_as_they_are_and_that_is_said():
    assert cross_fit.folds(np.zeros(19, int)) is None
    assert cross_fit.folds(np.zeros(40, int), ["one"] * 40) is None
    assert "that it was fitted to, so that it is too good" in cross_fit.in_words(None, 19)
    few = too_sure(12)
    found = calibrate.fit(few, {"val": few}, None, "multiclass").report()
    assert "12 validation images that it was fitted to" in found["measured_by"]


def test_no_image_is_measured_by_a_fit_that_has_seen_it():
    parts = cross_fit.folds(np.zeros(30, int))

    found = cross_fit.each(parts, 30, lambda rows: float(2.0 ** rows.astype(float) @ np.ones(len(rows))))

    for row in range(30):
        others = np.flatnonzero(parts != parts[row])
        assert row not in others
        assert found[row] == (2.0**others).sum()


def test_the_share_of_false_alarms_is_that_of_new_images_while_its_own_are_too_good():
    """The tail is long: a threshold that was fitted to few images lets more of new ones fall than of its own."""
    random = np.random.default_rng(0)
    own, crossed, new = [], [], []
    for _ in range(1000):
        scores = random.standard_t(2, 100)
        threshold = lower_quantile(scores, 0.05)
        own.append((scores < threshold).mean())
        crossed.append(cross_fit.called_unknown(scores, 0.05, cross_fit.folds(np.zeros(100, int))).mean())
        new.append((random.standard_t(2, 1000) < threshold).mean())

    assert np.mean(crossed) == pytest.approx(np.mean(new), abs=0.003)
    assert abs(np.mean(crossed) - np.mean(new)) < abs(np.mean(own) - np.mean(new))


def test_the_calibration_error_of_the_validation_images_is_that_of_temperatures_fitted_to_others():
    val = too_sure(300)

    found = calibrate.fit(val, {"val": val}, None, "multiclass", unknown="none")

    parts = cross_fit.folds(val.labels)
    losses = []
    for fold in range(5):
        heat = calibrate.fit_temperature(val.logits[parts != fold], val.labels[parts != fold])
        logits = val.logits[parts == fold].astype(float) / heat
        losses += list(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), val.labels[parts == fold]])
    assert found.reliability["val"].loss == pytest.approx(np.mean(losses), rel=1e-5)
    own = val.logits.astype(float) / found.calibration.temperature
    of_own = np.mean(np.log(np.exp(own).sum(1)) - own[np.arange(300), val.labels])
    assert found.reliability["val"].loss > of_own
    assert "cross-fitting" in found.report()["measured_by"]
