"""What recorded answers have shown, as it is written into answers.json."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_perception.answers.agreement import Agreement
from cnn_perception.answers.over_time import Percentiles
from cnn_perception.answers.report_files import ModelFacts
from cnn_perception.answers.stream_report import StreamReport
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.intervals import Estimate


@dataclass(frozen=True)
class RecordedReport:
    """Everything `answers.json` holds.

    Attributes:
        complete: False if something is missing, see `remarks`.
        remarks: What is missing or damaged, one line each.
        warnings: What is odd, one line each.
        source: The bag.
        topic: The image topic; empty where the bag has no images, so that each answer counts as a frame.
        labels: The label file or topic; empty without labels.
        model: With which the answers were compared; None for none.
        images: How many images the bag has.
        unanswered: How many of them no answer belongs to.
        without_stamp: How many of them have a stamp of zero.
        delay_ms: From the reception of an image to that of its answer, by the recorder's clock; None without images.
        stream: The answers.
        offline: Accuracy of the model offline on all labelled frames; None without a model, and for numbers.
        agreement: How many answers are those of the model offline; None without a model.
        required: What had to be reached; empty for nothing.
        passed: Whether it was reached; None if nothing had to be.
        version: Version of this layout.
    """

    complete: bool
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    source: str
    topic: str
    labels: str
    model: ModelFacts | None
    images: int
    unanswered: int
    without_stamp: int
    delay_ms: Percentiles | None
    stream: StreamReport
    offline: Estimate | None
    agreement: Agreement | None
    required: str
    passed: bool | None
    version: int = 1

    @property
    def exit_code(self) -> int:
        """How `evaluate_bag` ends with it."""
        if self.agreement is not None and self.agreement.interrupted:
            return EXIT_INTERRUPTED
        if not self.complete:
            return EXIT_BAD_INPUT
        return EXIT_BELOW_TARGET if self.passed is False else EXIT_OK
