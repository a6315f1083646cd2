"""Owns: that every task a description may name is there and distinct. Oracle: the description's own type."""

from __future__ import annotations

from typing import get_args

import pytest

from cnn_perception.model.spec import Task
from cnn_perception.tasks.registry import GATES, TASKS, gate_of, task_of


def test_every_task_that_a_description_may_name_has_an_object_of_its_name():
    assert set(TASKS) == set(get_args(Task))
    assert [task_of(name).name for name in TASKS] == list(TASKS)


@pytest.mark.parametrize(
    ("metric", "option", "limit", "text"),
    [
        ("top-1", "min_accuracy", 0.9, "top-1 of at least 90.0%"),
        ("mAP", "min_map", 0.125, "mAP of at least 12.5%"),
        ("MAE", "max_mae", 0.05, "MAE of at most 0.05"),
    ],
)
def test_a_gate_is_found_by_its_metric_and_said_in_words(metric, option, limit, text):
    gate = gate_of(metric)

    assert (gate.option, gate.in_words(limit)) == (option, text)


def test_no_two_gates_have_the_same_option_or_metric():
    assert len({gate.metric for gate in GATES}) == len({gate.option for gate in GATES}) == len(GATES)
