"""What a robot answered over time: matched with its images, scored, and compared with the model's offline answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.answers.answer import Answer as Answer
    from cnn_perception.answers.recorded import RecordedOptions as RecordedOptions
    from cnn_perception.answers.recorded import evaluate_recorded as evaluate_recorded

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Answer": "answer",
        "RecordedOptions": "recorded",
        "evaluate_recorded": "recorded",
    },
)
