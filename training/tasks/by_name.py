"""The tasks by their names in a model file; the one place that lists them."""

from __future__ import annotations

from cnn_perception.model.spec import Task
from training.tasks.multiclass import Multiclass
from training.tasks.multilabel import Multilabel
from training.tasks.regression import Regression
from training.tasks.task import LearningTask

TASKS: dict[Task, LearningTask] = {task.name: task for task in (Regression(), Multiclass(), Multilabel())}
"""In the order in which a table of labels is asked for their columns."""

METRIC_TITLES = {task.metric: task.metric_title for task in TASKS.values()}


def task_of(name: Task) -> LearningTask:
    """Returns the task of a name."""
    return TASKS[name]
