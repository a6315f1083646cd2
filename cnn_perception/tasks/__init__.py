"""What differs between the tasks of a model: each is one object, which says it in plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.tasks.prediction import Prediction as Prediction
    from cnn_perception.tasks.registry import task_of as task_of
    from cnn_perception.tasks.rules import TaskRules as TaskRules

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Prediction": "prediction",
        "TaskRules": "rules",
        "task_of": "registry",
    },
)
