"""Whether one model is better or worse than another on the same frames, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.comparison.answered_frames import AnsweredFrames as AnsweredFrames
    from cnn_perception.comparison.answered_frames import compare_all as compare_all
    from cnn_perception.comparison.baseline import open_baseline as open_baseline
    from cnn_perception.comparison.compared_frame import Answer as Answer
    from cnn_perception.comparison.compared_frame import ComparedFrame as ComparedFrame
    from cnn_perception.comparison.comparison import Comparison as Comparison
    from cnn_perception.comparison.comparison import compare as compare

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Answer": "compared_frame",
        "AnsweredFrames": "answered_frames",
        "ComparedFrame": "compared_frame",
        "Comparison": "comparison",
        "compare": "comparison",
        "compare_all": "answered_frames",
        "open_baseline": "baseline",
    },
)
