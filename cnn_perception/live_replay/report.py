"""What a replay has shown, as it is written into live.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.answers.agreement import Agreement
from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame, Matching
from cnn_perception.answers.over_time import Percentiles, percentiles
from cnn_perception.answers.report_files import ModelFacts
from cnn_perception.answers.stream_report import StreamReport
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.intervals import Estimate
from cnn_perception.live_replay.accounts import Accounts
from cnn_perception.live_replay.timeline import Pace, PlayedFrame


@dataclass(frozen=True)
class NodeUse:
    """What the node has used while it was played to.

    Attributes:
        cpu_s: Seconds of CPU.
        cores: How many cores it kept busy on average.
        peak_mb: The most memory, megabytes; 0 where the process was gone before it could be asked.
        stages_ms: `p50 / p95` of each stage of its latest frames, milliseconds, as it says itself.
        said: Warnings and errors in its log, each once.
        log: File with all that it printed.
    """

    cpu_s: float
    cores: float
    peak_mb: float
    stages_ms: dict[str, str]
    said: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class Steadiness:
    """What smoothing did.

    Attributes:
        smoothing_s: The node's parameter.
        hysteresis: The node's parameter.
        hold_s: The node's parameter.
        held: Frames whose answer was not that of the frame alone, because an earlier one was held.
        compared: Frames of which both are known.
    """

    smoothing_s: float
    hysteresis: float
    hold_s: float
    held: int
    compared: int

    @property
    def is_on(self) -> bool:
        """Whether the node smooths at all."""
        return bool(self.smoothing_s or self.hysteresis or self.hold_s)


@dataclass(frozen=True)
class LiveReport:
    """Everything `live.json` holds.

    Attributes:
        complete: False if something is missing, see `remarks`.
        interrupted: Whether Ctrl-C ended it; the report is of what was done by then.
        remarks: What is missing, damaged or unaccounted for, one line each.
        warnings: What is odd, one line each.
        source: The bag.
        topic: The image topic.
        played_on: Where it was published.
        qos: With which QoS it was published.
        labels: The label file or topic; empty without labels.
        model: Which model ran.
        pace: Whether the rate was kept.
        skipped_s: Seconds of long pauses in the bag that were skipped.
        frames: What became of each.
        odd: Frames with a strange stamp or picture, by kind, as the node says.
        age_ms: From when an image was published to when its answer arrived here.
        answers: What the node answered.
        raw: The same before smoothing.
        steadiness: What smoothing did.
        offline: Accuracy of the model offline on all labelled frames; None for numbers, and without labels.
        agreement: How many answers of single frames are those of the model offline.
        node: What the node has used.
        required: What had to be reached; empty for nothing.
        passed: Whether it was reached; None if nothing had to be.
        version: Version of this layout.
    """

    complete: bool
    interrupted: bool
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    source: str
    topic: str
    played_on: str
    qos: str
    labels: str
    model: ModelFacts
    pace: Pace
    skipped_s: float
    frames: Accounts
    odd: dict[str, int]
    age_ms: Percentiles
    answers: StreamReport
    raw: StreamReport
    steadiness: Steadiness
    offline: Estimate | None
    agreement: Agreement
    node: NodeUse
    required: str
    passed: bool | None
    version: int = 1

    @property
    def is_same(self) -> bool:
        """Whether each frame was answered as it is offline."""
        return self.agreement.same == self.agreement.compared

    @property
    def exit_code(self) -> int:
        """How `evaluate_bag` ends with it."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if not self.complete:
            return EXIT_BAD_INPUT
        return EXIT_OK if self.is_same and self.passed is not False else EXIT_BELOW_TARGET


def ages(played: Sequence[PlayedFrame], arrived_s: Sequence[float | None]) -> Percentiles:
    """Returns how old answers were when they arrived.

    Args:
        played: The published images.
        arrived_s: When the answer to each arrived, `time.monotonic`; None where none did.
    """
    pairs = zip(played, arrived_s, strict=True)
    return percentiles([moment_s - one.published_s for one, moment_s in pairs if moment_s is not None])


def held_frames(frames: Sequence[AskedFrame], answers: Matching, raw: Matching, reading: Reading) -> tuple[int, int]:
    """Returns of how many frames the answer was another than that of the frame alone, and how many have both."""
    pairs: list[tuple[Answer, Answer]] = [
        (held, alone)
        for _, held, alone in zip(frames, answers.answers, raw.answers, strict=True)
        if held is not None and alone is not None
    ]
    if not reading.has_classes:
        return sum(held.results != alone.results for held, alone in pairs), len(pairs)
    return sum(reading.text(held) != reading.text(alone) for held, alone in pairs), len(pairs)
