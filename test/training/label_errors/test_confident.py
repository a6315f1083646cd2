"""Owns: confident learning, against cleanlab 2.9 as an oracle. Leaves to others: where probabilities come from.

Of an image that reaches the thresholds of several classes, cleanlab takes the most probable class of all, the paper and
we the most probable of these: they are the same unless a class of a higher threshold is even more probable.
"""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues

from training.label_errors.checks.confident import learn


def noisy(seed: int, images: int, classes: int, sharpness: float, flipped: float):
    """Labels of which a share is wrong, and probabilities of the right ones."""
    rng = np.random.default_rng(seed)
    right = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    logits = rng.normal(size=(images, classes)) + sharpness * np.eye(classes)[right]
    powers = np.exp(logits)
    wrong = rng.random(images) < flipped
    labels = np.where(wrong, (right + rng.integers(1, classes, images)) % classes, right)
    return labels.astype(np.int64), powers / powers.sum(axis=1, keepdims=True)


CASES = [(seed, images, classes, sharpness, flipped)
         for seed in range(3)
         for images, classes in ((60, 2), (200, 5), (400, 10))
         for sharpness, flipped in ((2.0, 0.3), (3.0, 0.1), (6.0, 0.05))]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_confident_joint_is_cleanlabs(case):
    labels, probabilities = noisy(*case)

    found = learn(labels, probabilities)

    assert (found.joint == compute_confident_joint(labels, probabilities, calibrate=False)).all()


@pytest.mark.parametrize("case", CASES)
def test_suspects_are_cleanlabs_of_confident_learning(case):
    labels, probabilities = noisy(*case)

    found = learn(labels, probabilities)

    expected = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    assert expected.any()
    assert (found.suspects == expected).all()


def test_two_classes_by_hand():
    """Mean confidence of class 0: (0.9 + 0.8 + 0.1) / 3 = 0.6, of class 1: (0.7 + 0.9) / 2 = 0.8."""
    of_0 = np.array([0.9, 0.8, 0.1, 0.3, 0.1])
    labels = np.array([0, 0, 0, 1, 1])

    found = learn(labels, np.stack([of_0, 1 - of_0], axis=1))

    assert found.joint.tolist() == [[2, 1], [0, 1]]  # the fourth reaches neither threshold
    assert found.suspects.tolist() == [False, False, True, False, False]
    assert found.guesses.tolist() == [0, 0, 1, 1, 1]
    assert found.confidence == pytest.approx([0.9, 0.8, 0.1, 0.7, 0.9])
    assert found.noise == pytest.approx(1 / 4)


def test_class_without_images_takes_none():
    probabilities = np.array([[0.1, 0.1, 0.8], [0.2, 0.1, 0.7], [0.1, 0.6, 0.3]])

    found = learn(np.array([0, 0, 1]), probabilities)

    assert found.joint[:, 2].sum() == 0
    assert not found.suspects.any()
