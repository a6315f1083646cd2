"""From the task that a model's description names to the object that knows it; a new task is a file and a line here."""

from __future__ import annotations

import itertools

from cnn_perception.tasks.multiclass import Multiclass
from cnn_perception.tasks.multilabel import Multilabel
from cnn_perception.tasks.regression import Regression
from cnn_perception.tasks.rules import Gate, TaskRules

_ALL: tuple[TaskRules, ...] = (Multiclass(), Multilabel(), Regression())
TASKS = {task.name: task for task in _ALL}
"""All tasks by the name that `ModelSpec.task` and `Prediction.task` hold."""
GATES: tuple[Gate, ...] = tuple(itertools.chain.from_iterable(task.gates for task in _ALL))
"""What can be required of the models of any task."""


def task_of(name: str) -> TaskRules:
    """Returns the task of that name, which a verified description always has."""
    return TASKS[name]


def gate_of(metric: str) -> Gate:
    """Returns what can be required of a metric, such as `top-1`."""
    return next(gate for gate in GATES if gate.metric == metric)
