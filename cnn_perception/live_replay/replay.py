"""`evaluate_bag --live`: what a real node made of a bag, and whether that is what the model answers offline."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cnn_perception.answers.agreement import Agreement, Selection, compared_offline, left_out
from cnn_perception.answers.answer import Answer, Reading, answer_from_message
from cnn_perception.answers.matching import AskedFrame, Matching
from cnn_perception.answers.recorded import offline_accuracy, stamp_warnings
from cnn_perception.answers.report_files import ModelFacts, frames_csv, report_json
from cnn_perception.answers.stream_report import Required, StreamReport, report_stream
from cnn_perception.answers.strips import strips_over_time
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import ConfigError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrames, frames_of_bag, overridden
from cnn_perception.evaluation.recording.known_answers import where_to_look
from cnn_perception.evaluation.report_record import write_text
from cnn_perception.files import require_other, require_outside, require_unused, require_writable
from cnn_perception.image.messages import Overrides
from cnn_perception.label_table import require_table_for_start
from cnn_perception.live_replay.accounts import account
from cnn_perception.live_replay.node_options import NodeOptions
from cnn_perception.live_replay.node_process import is_log
from cnn_perception.live_replay.page import render_live
from cnn_perception.live_replay.participant import Heard
from cnn_perception.live_replay.report import LiveReport, NodeUse, Steadiness, ages, held_frames
from cnn_perception.live_replay.session import LiveRun, run_live
from cnn_perception.live_replay.timeline import pace
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.registry import task_of

_FILES = ("live.json", "live.csv", "live.html")
_LOG = "node.log"
_RATES = (0.01, 100.0)


@dataclass(frozen=True)
class LiveOptions:
    """What is replayed to what.

    Attributes:
        bag: A rosbag2 folder, or a single .mcap or .db3 file.
        output: Folder for the results; made if needed.
        node: How the node is started.
        topic: Image topic of the bag; None takes the only one there is.
        labels: A CSV file or a topic of the bag; empty for none.
        labels_start: What 0 s in the CSV file is: the bag's first message of any topic, or its first image.
        rate: How many times faster than recorded.
        required: What the answers have to reach.

    Raises:
        ConfigError: If they contradict each other, or a value is out of range.
    """

    bag: Path
    output: Path
    node: NodeOptions
    topic: str | None = None
    labels: str = ""
    labels_start: Literal["bag", "image"] = "bag"
    rate: float = 1.0
    required: Required = field(default_factory=Required)

    def __post_init__(self) -> None:
        if not _RATES[0] <= self.rate <= _RATES[1]:
            raise ConfigError(f"--rate is {self.rate}; choose {_RATES[0]:g} to {_RATES[1]:g}")
        require_table_for_start(self.labels, self.labels_start)
        if self.required.in_words() and not self.labels:
            raise ConfigError(
                f"{self.required.in_words()} needs --labels: without them there is nothing to compare with"
            )


@dataclass(frozen=True, eq=False)
class _Heard:
    """The answers of a replay on the time axis of the labels, and which belongs to which published frame."""

    answers: list[Answer]
    report: StreamReport
    matching: Matching


def evaluate_live(options: LiveOptions, tell: Callable[[str], None] = lambda _: None) -> LiveReport:
    """Replays a bag to a node, and writes live.json, live.csv, live.html and node.log.

    Args:
        options: What is replayed to what.
        tell: Is told when the replay begins.

    Raises:
        ModelError: If the model file cannot be used.
        ConfigError: If an option does not fit, or the output folder cannot be made or written to.
        DataError: If the bag or the labels cannot be used, or the node does not get ready.
    """
    _require_own(options)
    pipeline = Pipeline.load(options.node.model, SessionOptions(providers=tuple(options.node.providers)))
    task = task_of(pipeline.spec.task)
    reading = Reading.of(task, pipeline.spec.class_names)
    options.required.require_fit(reading)
    with Bag(options.bag) as bag:
        images = bag.image_topic(options.topic)
        frames = frames_of_bag(bag, options.topic, options.labels, options.labels_start, pipeline.spec)
        records = [frame.record for frame in frames]
        _make(options.output)
        run = run_live(bag, images, task, options.rate, options.node, options.output / _LOG, tell)
        report, asked, streams, offline = _evaluate(options, pipeline, frames, records, run, reading)
    write_text(options.output / "live.json", report_json(report))
    columns = {name: stream.matching.answers for name, stream in streams.items()}
    strips = strips_over_time(asked, {name: stream.answers for name, stream in streams.items()}, reading)
    by_index = {record.index: record for record in offline}
    write_text(
        options.output / "live.csv",
        frames_csv(asked, columns, reading, [by_index[one.index] for one in asked if one.index in by_index]),
    )
    write_text(options.output / "live.html", render_live(report, strips))
    return report


def _require_own(options: LiveOptions) -> None:
    """Refuses an output folder that cannot be written, or has files of others or what is read under their names."""
    require_writable(options.output)
    require_outside(options.output, options.bag)
    outputs = [options.output / name for name in _FILES]
    require_unused(outputs, outputs[0], ("pace", "frames", "steadiness"))
    log = options.output / _LOG
    if os.path.lexists(log) and not is_log(log):
        raise ConfigError(f"{log}: is there already, and not of an earlier replay; choose another --output")
    inputs = [options.node.model, *([Path(options.labels)] if options.labels else [])]
    for path in (*outputs, log):
        require_other(path, [*inputs, *([options.node.params] if options.node.params else [])])


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be made ({error.strerror})") from None


def _evaluate(
    options: LiveOptions,
    pipeline: Pipeline,
    frames: LabelledFrames,
    records: Sequence[FrameRecord],
    run: LiveRun,
    reading: Reading,
) -> tuple[LiveReport, list[AskedFrame], dict[str, _Heard], list[FrameRecord]]:
    """Returns the report, the published frames, the streams of answers by name, and all frames as answered offline."""
    known_of = [(one, records[one.index]) for one in run.played]
    asked = [AskedFrame(one.index, one.stamp_ns, of.time_s, of.truth, of.has_time) for one, of in known_of]
    axis = _Axis(run, records)
    answers = _stream(run.topic, asked, axis, run.answers, reading)
    raw = _stream(f"{run.topic}_raw", asked, axis, run.raw, reading)
    by_index: list[Answer | None] = [None] * len(records)
    for frame, answer in zip(asked, raw.matching.answers, strict=True):
        by_index[frame.index] = answer
    settings = run.settings
    known = overridden(frames, Overrides(settings.encoding, settings.significant_bits))
    if run.interrupted or run.failure:
        known = _first(known, max((frame.index + 1 for frame in asked), default=0))
    same_pipeline = _pipeline_of_node(pipeline, run)
    offline, agreement = compared_offline(
        same_pipeline, known, by_index, reading, Selection(settings.top_k, settings.threshold)
    )
    report = _report(options, same_pipeline, frames, records, run, asked, (answers, raw), reading, offline, agreement)
    return report, asked, {"answer": answers, "raw": raw}, offline


def _first(frames: LabelledFrames, count: int) -> LabelledFrames:
    """Returns so many frames: what was never played needs no answer offline."""
    return dataclasses.replace(frames, count=count, read=lambda: itertools.islice(frames.read(), count))


class _Axis:
    """From moments of the replay to seconds on the time axis of the labels."""

    def __init__(self, run: LiveRun, records: Sequence[FrameRecord]) -> None:
        """Takes the first published frame as what both have in common."""
        self._timeline = run.timeline
        first = run.played[0] if run.played else None
        self._first_s = records[first.index].time_s if first else 0.0
        self._first_ns = run.timeline.at(first.due_s) if first else 0

    def at(self, moment_s: float) -> float:
        """Returns the time of a moment."""
        return self._first_s + (self._timeline.at(moment_s) - self._first_ns) / 1e9


def _stream(topic: str, asked: Sequence[AskedFrame], axis: _Axis, heard: Sequence[Heard], reading: Reading) -> _Heard:
    answers = [answer_from_message(one.message, axis.at(one.moment_s)) for one in heard]
    report, matching = report_stream(topic, asked, answers, reading)
    return _Heard(answers, report, matching)


def _pipeline_of_node(pipeline: Pipeline, run: LiveRun) -> Pipeline:
    """Returns the model on the execution providers that the node was told to use."""
    wanted = tuple(run.settings.providers)
    if pipeline.model.provider in wanted[:1] or len(wanted) == 0:
        return pipeline
    return Pipeline.load(pipeline.model.path, SessionOptions(providers=wanted))


def _report(
    options: LiveOptions,
    pipeline: Pipeline,
    frames: LabelledFrames,
    records: Sequence[FrameRecord],
    run: LiveRun,
    asked: Sequence[AskedFrame],
    streams: tuple[_Heard, _Heard],
    reading: Reading,
    offline: Sequence[FrameRecord],
    agreement: Agreement,
) -> LiveReport:
    answers, raw = streams
    first = next((place for place, one in enumerate(raw.matching.answers) if one is not None), 0)
    accounts = account(frames.count, run.unreadable, len(run.played), run.counts, len(run.answers), first)
    moments = {id(answer): one.moment_s for answer, one in zip(answers.answers, run.answers, strict=True)}
    arrived = [None if answer is None else moments[id(answer)] for answer in answers.matching.answers]
    held, compared = held_frames(asked, answers.matching, raw.matching, reading)
    settings = run.settings
    missing = [
        *frames.damage,
        *_ended_early(run),
        *left_out(agreement),
        *([] if run.interrupted or run.failure else accounts.problems()),
    ]
    if not run.answers and not run.failure and not run.interrupted:
        missing.append(f"not one of {len(run.played)} published frames was answered: {run.topic} was silent")
    elif options.labels and answers.report.matched and not answers.report.scores.scored:
        missing.append(f"{options.labels}: no answered frame is labelled; {where_to_look(options.labels)}")
    unused = frames.unused_labels(records) if answers.report.scores.scored else []
    required = options.required
    if required.in_words():
        missing += unused
        unused = []
    odd = [*unused, *frames.doubts(records)]
    kept = pace(run.played, options.rate)
    return LiveReport(
        complete=not missing,
        interrupted=run.interrupted or agreement.interrupted,
        remarks=(*missing, *required.counted_against(answers.report.scores)),
        warnings=(
            *frames.warnings,
            *_warnings(run, accounts.unreadable, kept.is_kept, asked, answers.report, agreement),
            *odd,
        ),
        source=str(options.bag),
        topic=frames.topic,
        played_on=run.route.topic,
        qos=run.offered.in_words(),
        labels=options.labels,
        model=ModelFacts.of(pipeline),
        pace=kept,
        skipped_s=run.timeline.skipped_s,
        frames=accounts,
        odd=dict(run.counts.odd),
        age_ms=ages(run.played, arrived),
        answers=answers.report,
        raw=raw.report,
        steadiness=Steadiness(settings.smoothing_s, settings.hysteresis, settings.hold_s, held, compared),
        offline=offline_accuracy([] if agreement.interrupted else offline),
        agreement=agreement,
        node=NodeUse(
            cpu_s=run.usage.cpu_s,
            cores=run.usage.cpu_s / run.seconds if run.seconds else 0.0,
            peak_mb=run.usage.peak_mb,
            stages_ms=run.stages,
            said=tuple(run.said),
            log=_LOG,
        ),
        required=required.in_words(),
        passed=required.reached(answers.report.scores),
    )


def _ended_early(run: LiveRun) -> list[str]:
    if run.interrupted:
        return [f"interrupted after {len(run.played)} published images"]
    return [f"after {len(run.played)} published images: {run.failure}"] if run.failure else []


def _warnings(
    run: LiveRun,
    unreadable: int,
    is_kept: bool,
    asked: Sequence[AskedFrame],
    stream: StreamReport,
    agreement: Agreement,
) -> list[str]:
    found = stamp_warnings(asked, stream)
    if not is_kept:
        found.append("this machine did not keep the rate: ages and drops are its own, not those of the node on a robot")
    if unreadable:
        found.append(f"{unreadable} messages are no image of the topic's type, and were not published")
    if run.timeline.skipped_s:
        found.append(f"{run.timeline.skipped_s:.1f} s of long pauses in the bag were skipped")
    if agreement.same < agreement.compared:
        found.append(
            f"{agreement.compared - agreement.same} of {agreement.compared} answers are not those of the model offline"
        )
    return found
