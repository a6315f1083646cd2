"""What a comparison needs of the record of a recognised frame."""

from __future__ import annotations

from typing import Protocol

from cnn_perception.image.appearance import Appearance
from cnn_perception.label_text import Truth
from cnn_perception.tasks.prediction import Prediction


class RecognisedFrame(Protocol):
    """What is needed of the record of a frame; see `evaluation.frame_record.FrameRecord`."""

    @property
    def index(self) -> int:
        """Position in the topic or the folder."""

    @property
    def name(self) -> str:
        """File name in a folder; empty in a bag."""

    @property
    def stamp_ns(self) -> int:
        """Stamp of the header, nanoseconds."""

    @property
    def received_ns(self) -> int:
        """When it was received, nanoseconds; 0 in a folder."""

    @property
    def content(self) -> str:
        """Digest of its bytes; empty where there are none."""

    @property
    def truth(self) -> Truth | None:
        """What is known of it."""

    @property
    def prediction(self) -> Prediction | None:
        """What was answered; None for a bad frame."""

    @property
    def look(self) -> Appearance | None:
        """How its picture looks."""
