"""Owns: what is planned for a share of the time. Leaves to others: what it really takes (test_budget)."""

from __future__ import annotations

import itertools

import pytest

from training.auto import costs
from training.auto.candidate import Candidate
from training.auto.costs import Plan

SCRATCH = Candidate("small", {"backbone": "lenet5", "mode": "scratch", "weights": "none"})
PROBE = Candidate("probe", {"backbone": "resnet18", "mode": "probe", "weights": "imagenet"})


def test_a_probe_is_tried_in_all_folds_or_not_at_all():
    assert list(costs.plans(PROBE, 100, 5)) == [Plan(100, 5)]


def test_folds_are_given_up_before_epochs_and_never_fewer_than_two():
    found = list(costs.plans(SCRATCH, 40, 5))

    assert found[:3] == [Plan(40, 5), Plan(40, 3), Plan(40, 2)]
    assert min(plan.folds for plan in found) == 2
    assert min(plan.epochs for plan in found) == 8
    assert all(one.epochs >= other.epochs for one, other in itertools.pairwise(found))


def test_usual_epochs_are_never_exceeded():
    assert {plan.epochs for plan in costs.plans(SCRATCH, 3, 2)} == {3}


@pytest.mark.parametrize(("folds", "seconds"), [(5, 40.0), (2, 16.0)])
def test_each_fold_learns_from_all_images_but_its_own(folds, seconds):
    """Of 10 s for all images, one of five folds takes 8 s."""
    assert costs.trial_s(10.0, 5, Plan(1, folds)) == seconds
