"""One frame with what is known of it, and what two models answered."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_perception.image.appearance import Appearance
from cnn_perception.label_text import NONE_OF_THESE, Truth
from cnn_perception.model.spec import UNKNOWN


@dataclass(frozen=True)
class Answer:
    """What a model answered to a frame.

    Attributes:
        given: The class, the classes or the numbers; `UNKNOWN` where the model's rule says so; None without an answer.
        best: The same if there were no unknown rule.
    """

    given: Truth | None
    best: Truth | None


@dataclass(frozen=True)
class ComparedFrame:
    """One frame with what is known of it, and what two models answered.

    Attributes:
        bag: The recording or the folder.
        topic: The camera's topic; empty in a folder.
        name: File name in a folder; empty in a bag.
        index: Position in the topic or the folder.
        stamp_ns: Stamp of the image's header, nanoseconds; 0 in a folder.
        time_ns: When it was received, nanoseconds; 0 in a folder, whose images have no order in time.
        truth: The known class, classes or numbers.
        ours: The answer of the model that is judged.
        theirs: The answer of the baseline.
        look: How the picture looks; None where nobody looked.
    """

    bag: str
    topic: str
    name: str
    index: int
    stamp_ns: int
    time_ns: int
    truth: Truth
    ours: Answer
    theirs: Answer
    look: Appearance | None = None


def is_right(answer: Truth | None, truth: Truth) -> bool:
    """Whether an answer is exactly what is known; `UNKNOWN` is right for what is none of the classes."""
    return answer == truth or (truth == NONE_OF_THESE and answer == UNKNOWN)
