"""What is known of a camera's frames over time: their stamps, counts, drift, and the smoothed answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.stream.drift import Drift as Drift
    from cnn_perception.stream.frame_counters import FrameCounters as FrameCounters
    from cnn_perception.stream.smoothing import AnswerSmoother as AnswerSmoother
    from cnn_perception.stream.stamps import Stamps as Stamps

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Drift": "drift",
        "FrameCounters": "frame_counters",
        "Stamps": "stamps",
        "AnswerSmoother": "smoothing",
    },
)
