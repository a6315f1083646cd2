"""One frame of a recording and what an evaluation says of it."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_perception.bag.reader import StampedImage
from cnn_perception.image.messages import EncodedFile, EncodedImage
from cnn_perception.label_text import Truth
from cnn_perception.tasks.prediction import Prediction


@dataclass(frozen=True, eq=False)
class EvaluatedFrame:
    """One frame of a recording and what an evaluation says of it.

    Attributes:
        index: Position in the image topic, from 0.
        image: The message of the recording.
        content: What the model was shown of it; None where it could not be used.
        prediction: What was recognised, `TaskRules.kept` of it; None where the frame could not be used.
        answer: The same as label files have it; empty where the frame could not be used.
        truth: What is known; None where it is unlabelled.
        is_right: Whether the answer is the known one; None where that cannot be said.
        error: Why the frame could not be used, in one line; empty for a good one.
    """

    index: int
    image: StampedImage
    content: EncodedImage | EncodedFile | None
    prediction: Prediction | None
    answer: str
    truth: Truth | None
    is_right: bool | None
    error: str = ""
