"""The frames of several bags as one evaluation: a row a bag, the pooled figures, and the worst parts and frames."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.errors import (
    EXIT_BAD_INPUT,
    EXIT_BELOW_TARGET,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_WORSE,
    DataError,
)
from cnn_perception.evaluation.baseline.comparing import Compared
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.options import EvaluationOptions
from cnn_perception.evaluation.recording.copies import copies_among
from cnn_perception.evaluation.recording.curves import calibration, trade_off
from cnn_perception.evaluation.recording.facts import RecordingFacts
from cnn_perception.evaluation.recording.sampling import blocks_of, sampling_record, scored
from cnn_perception.evaluation.report_record import Report, Target, WorstFrame, json_lines
from cnn_perception.evaluation.scores import score
from cnn_perception.evaluation.several.one_bag import BagResult
from cnn_perception.evaluation.several.slices import EvaluatedBag, SliceScore, slice_scores
from cnn_perception.evaluation.several.sources import BagSource
from cnn_perception.jobs.outcome import INTERRUPTED, Outcome
from cnn_perception.masks import scores as mask_scores
from cnn_perception.tasks.rules import Figure, FrameCounts

_WORST_FRAMES = 24
_WORST_OF_A_BAG = 4


@dataclass(frozen=True)
class BagRow:
    """What became of one bag.

    Attributes:
        name: Of its own among the bags; its report is in the folder of this name.
        source: The bag.
        failure: Why it was not evaluated; empty if it was.
        attempts: How often that was tried.
        complete: Whether all of it was evaluated.
        remarks: What is missing, a line each.
        warnings: What is odd about its pictures.
        topic: The image topic.
        labels: The label file or topic.
        frames: What became of its frames; None if it was not evaluated.
        figures: Its most important figures.
        passed: Whether what is required of each bag was reached; None if nothing is.
        recording: When it was made, how long it is, and so on.
    """

    name: str
    source: str
    failure: str
    attempts: int
    complete: bool
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    topic: str = ""
    labels: str = ""
    frames: FrameCounts | None = None
    figures: tuple[Figure, ...] = ()
    passed: bool | None = None
    recording: RecordingFacts | None = None


@dataclass(frozen=True)
class WorstOfBags:
    """A frame for a human's attention, and the bag that it is of."""

    bag: str
    frame: WorstFrame


@dataclass(frozen=True)
class PooledReport:
    """What `report.json` of several bags holds.

    Attributes:
        report: As of one bag, over the frames of all; its worst frames are in `worst_of_bags`, latencies in none.
        bags: A row a bag, in the order in which they were given.
        slices: Parts of the frames, the worst first.
        worst_of_bags: The worst frames of all bags, at most a few of each, the worst first.
        each: What is required of each bag; None if nothing is.
        interrupted: Whether Ctrl-C ended it early.
        compared: What was found beside the baseline; None without one.
    """

    report: Report
    bags: tuple[BagRow, ...]
    slices: tuple[SliceScore, ...]
    worst_of_bags: tuple[WorstOfBags, ...]
    each: Target | None
    interrupted: bool
    compared: Compared | None = None

    @property
    def exit_code(self) -> int:
        """How `evaluate_bag` ends with it."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if not self.report.complete:
            return EXIT_BAD_INPUT
        missed = self.report.passed is False or any(row.passed is False for row in self.bags)
        if missed:
            return EXIT_BELOW_TARGET
        return EXIT_WORSE if self.compared and self.compared.is_worse else EXIT_OK

    def to_json(self) -> str:
        """Returns the text of `report.json`: as of one bag, and `bags`, `slices`, `worst_of_bags`, `each`."""
        own = dataclasses.asdict(dataclasses.replace(self, report=None, compared=None))  # type: ignore[arg-type]
        del own["report"], own["compared"]
        return json_lines({**self.report.fields(), **own})

    def bags_csv(self) -> str:
        """Returns the text of `bags.csv`: a line a bag."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = list(dict.fromkeys(figure.name for row in self.bags for figure in row.figures))
        ends = [f"{name}{end}" for name in names for end in ("", " low", " high")]
        writer.writerow(("bag", "source", "start", "length_s", "frames", "scored", *ends, "complete", "failure"))
        for row in self.bags:
            facts = (row.recording.start, f"{row.recording.length_s:.3f}") if row.recording else ("", "")
            counts = (row.frames.total, row.frames.scored) if row.frames else ("", "")
            writer.writerow(
                (row.name, row.source, *facts, *counts, *_cells(row, names), int(row.complete), row.failure)
            )
        return text.getvalue()


def _cells(row: BagRow, names: Sequence[str]) -> list[str]:
    by_name = {figure.name: figure for figure in row.figures}
    cells = []
    for name in names:
        figure = by_name.get(name)
        ends = ("", "") if figure is None or figure.interval is None else tuple(map(_number, figure.interval))
        cells += ["" if figure is None else _number(figure.value), *ends]
    return cells


def _number(value: float) -> str:
    return f"{value:.6f}"


def bag_row(source: BagSource, outcome: Outcome[BagResult], options: EvaluationOptions) -> BagRow:
    """Returns what became of a bag."""
    if outcome.result is None:
        return BagRow(source.name, str(source.path), outcome.failure, outcome.attempts, complete=False)
    report = outcome.result.report
    return BagRow(
        name=source.name,
        source=report.source,
        failure="",
        attempts=outcome.attempts,
        complete=report.complete,
        remarks=report.remarks,
        warnings=report.warnings,
        topic=report.topic,
        labels=report.labels,
        frames=report.scores.frames,
        figures=tuple(report.scores.figures(report.model.spec, options.threshold)),
        passed=report.passed,
        recording=report.recording,
    )


def pool(
    sources: Sequence[BagSource],
    outcomes: Sequence[Outcome[BagResult]],
    options: EvaluationOptions,
    each: Target | None,
    unused: Sequence[str],
    seconds: float,
) -> PooledReport:
    """Returns the report of several bags.

    Args:
        sources: The bags.
        outcomes: What became of each, in the same order.
        options: Of all; its target is what all together have to reach.
        each: What each bag has to reach; None for nothing.
        unused: Which labels are of none of the bags, a line or none; where something is required they are missing.
        seconds: How long all took.

    Raises:
        DataError: If not one bag could be evaluated.
    """
    rows = tuple(bag_row(*pair, options) for pair in zip(sources, outcomes, strict=True))
    results = [(row.name, outcome.result) for row, outcome in zip(rows, outcomes, strict=True) if outcome.result]
    if not results:
        raise DataError(
            f"not one of {len(rows)} bags could be evaluated: {'; '.join(dict.fromkeys(row.failure for row in rows))}"
        )
    bags = [EvaluatedBag(name, result.report.topic, result.records) for name, result in results]
    is_interrupted = any(result.interrupted for _, result in results)
    report = _pooled(rows, bags, [result.report for _, result in results], options, unused, seconds)
    filled = [bag for bag in bags if scored(bag.records)]
    blocks = blocks_of([bag.records for bag in bags])
    spec = report.model.spec
    return PooledReport(
        report=report,
        bags=rows,
        slices=slice_scores(filled, spec, blocks) if blocks else (),
        worst_of_bags=_worst(results),
        each=each,
        interrupted=is_interrupted or any(outcome.failure == INTERRUPTED for outcome in outcomes),
    )


def _pooled(
    rows: Sequence[BagRow],
    bags: Sequence[EvaluatedBag],
    reports: Sequence[Report],
    options: EvaluationOptions,
    unused: Sequence[str],
    seconds: float,
) -> Report:
    """Returns the report over the frames of all bags."""
    spec = reports[0].model.spec
    recordings = [bag.records for bag in bags]
    records: list[FrameRecord] = [record for recording in recordings for record in recording]
    blocks = blocks_of(recordings)
    scores = score(records, spec, options.threshold, blocks)
    target = options.target
    failed = [f"{row.name}: not evaluated{_tried(row)}: {row.failure}" for row in rows if row.failure]
    damaged = [f"{row.name}: {remark}" for row in rows for remark in row.remarks]
    masks = [report.masks for report in reports if report.masks]
    return dataclasses.replace(
        reports[0],
        complete=all(row.complete for row in rows) and not (unused and target),
        remarks=(*unused, *failed, *damaged, *twins(rows)),
        warnings=(
            *(f"{row.name}: {warning}" for row in rows for warning in row.warnings),
            *copies_among({bag.name: bag.records for bag in bags}),
        ),
        source=f"{len(rows)} bags",
        topic=", ".join(dict.fromkeys(bag.topic for bag in bags)),
        labels=options.labels,
        target=target,
        passed=target.reached(scores) if target else None,
        latency={},
        frames_per_second=len(records) / seconds if seconds else 0.0,
        ignored={},
        scores=scores,
        worst=(),
        masks=mask_scores.pooled(masks) if masks else None,
        recording=None,
        sampling=sampling_record(recordings, spec, blocks),
        calibration=calibration(records, spec),
        trade_off=trade_off(records, spec, options.threshold),
    )


def _tried(row: BagRow) -> str:
    return f" after {row.attempts} attempts" if row.attempts > 1 else ""


def twins(rows: Sequence[BagRow]) -> list[str]:
    """Returns which bags look like copies by the time and number of their images, a line each."""
    alike: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for row in rows:
        if row.recording is not None:
            alike[row.topic, row.recording.start_ns, row.recording.images].append(row.name)
    return [
        f"{' and '.join(names)} hold images of the same times: if they are copies, their frames count twice"
        for names in alike.values()
        if len(names) > 1
    ]


def _worst(results: Sequence[tuple[str, BagResult]]) -> tuple[WorstOfBags, ...]:
    """Returns some of each bag's worst frames; they are ordered by how bad they are, over all bags."""
    found = []
    for name, result in results:
        badness = {record.index: record.badness for record in result.records}
        found += [(badness[frame.index], name, frame) for frame in result.report.worst[:_WORST_OF_A_BAG]]
    found.sort(key=lambda one: -one[0])
    return tuple(WorstOfBags(name, frame) for _, name, frame in found[:_WORST_FRAMES])
