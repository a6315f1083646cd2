"""Scores the answers that a robot recorded: `evaluate_bag --answers TOPIC`, with or without the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cnn_perception.answers.agreement import Agreement, compared_offline, left_out
from cnn_perception.answers.answer import Answer, Reading, answer_from_message
from cnn_perception.answers.matching import AskedFrame, Matching
from cnn_perception.answers.over_time import percentiles
from cnn_perception.answers.page import render_recorded
from cnn_perception.answers.recorded_report import RecordedReport
from cnn_perception.answers.report_files import ModelFacts, frames_csv, report_json
from cnn_perception.answers.stream_report import Required, StreamReport, report_stream
from cnn_perception.answers.strips import strips_over_time
from cnn_perception.answers.truth import never_answered, read_truth
from cnn_perception.bag.message_types import CLASSIFICATION_TYPE, IMAGE_TYPES, JOINT_STATE_TYPE
from cnn_perception.bag.reader import Bag, Topic
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrames, frames_of_bag, overridden
from cnn_perception.evaluation.recording.known_answers import where_to_look
from cnn_perception.evaluation.recording.sampling import blocks_of, scored
from cnn_perception.evaluation.report_record import write_text
from cnn_perception.files import require_other, require_outside, require_unused, require_writable
from cnn_perception.image.messages import AS_SENT, Overrides
from cnn_perception.intervals import Estimate
from cnn_perception.label_table import is_table, require_table_for_start
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS, SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.registry import task_of

ANSWER_TYPES = (CLASSIFICATION_TYPE, JOINT_STATE_TYPE)
_FILES = ("answers.json", "answers.csv", "answers.html")


@dataclass(frozen=True)
class RecordedOptions:
    """Which recorded answers are scored, with what.

    Attributes:
        bag: A rosbag2 folder, or a single .mcap or .db3 file.
        answers: Topic of the answers, vision_msgs/Classification or sensor_msgs/JointState.
        output: Folder for the results; made if needed.
        model: Model file to compare with; None for none.
        topic: Image topic; None takes the only one there is, and none where there is none.
        labels: A CSV file or a topic of the bag; empty for none.
        labels_start: What 0 s in the CSV file is: the bag's first message of any topic, or its first image.
        required: What the answers have to reach.
        overrides: What is known better of the images than they say themselves, for the model.
        providers: ONNX Runtime execution providers, the preferred first, for the model.

    Raises:
        ConfigError: If they contradict each other.
    """

    bag: Path
    answers: str
    output: Path
    model: Path | None = None
    topic: str | None = None
    labels: str = ""
    labels_start: Literal["bag", "image"] = "bag"
    required: Required = field(default_factory=Required)
    overrides: Overrides = AS_SENT
    providers: Sequence[str] = DEFAULT_PROVIDERS

    def __post_init__(self) -> None:
        require_table_for_start(self.labels, self.labels_start)
        if self.required.in_words() and not self.labels:
            raise ConfigError(
                f"{self.required.in_words()} needs --labels: without them there is nothing to compare with"
            )


@dataclass(frozen=True, eq=False)
class _Asked:
    """What was asked of the robot: its frames, how the answers are read, and what the model has to say.

    Attributes:
        topic: Of the images; empty where there are none.
        frames: In order.
        reading: How the answers are read.
        unused_labels: Which labels belong to no frame, a line or none.
        doubts: What is odd about the labels, a line each.
        pipeline: The model; None for none.
        labelled: The frames as the model is given them; None without it.
    """

    topic: str
    frames: list[AskedFrame]
    reading: Reading
    unused_labels: list[str]
    doubts: list[str]
    pipeline: Pipeline | None = None
    labelled: LabelledFrames | None = None


def evaluate_recorded(options: RecordedOptions) -> RecordedReport:
    """Scores recorded answers and writes answers.json, answers.csv and answers.html.

    Raises:
        DataError: If the bag, the answers or the labels cannot be used.
        ModelError: If the model file cannot be used.
        ConfigError: If the output folder cannot be used, or an option does not fit.
    """
    _require_own(options)
    with ExitStack() as stack:
        bag = stack.enter_context(Bag(options.bag))
        images = _images(bag, options)
        answers, has_numbers = _answers(bag, options, images)
        asked = _asked(bag, options, images, answers, has_numbers)
        options.required.require_fit(asked.reading)
        stream, found = report_stream(options.answers, asked.frames, answers, asked.reading)
        records: list[FrameRecord] = []
        agreement = None
        if asked.pipeline is not None and asked.labelled is not None:
            records, agreement = compared_offline(asked.pipeline, asked.labelled, found.answers, asked.reading)
        report = _report(options, bag, asked, stream, found, records, agreement)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {options.output}: cannot be made ({error.strerror})") from None
    write_text(options.output / "answers.json", report_json(report))
    columns = {"answer": found.answers}
    strips = strips_over_time(asked.frames, {"answer": answers}, asked.reading)
    write_text(options.output / "answers.csv", frames_csv(asked.frames, columns, asked.reading, records))
    write_text(options.output / "answers.html", render_recorded(report, strips))
    return report


def _require_own(options: RecordedOptions) -> None:
    """Refuses an output folder that cannot be written, or has files of others or what is read under their names."""
    require_writable(options.output)
    require_outside(options.output, options.bag)
    outputs = [options.output / name for name in _FILES]
    require_unused(outputs, outputs[0], ("stream", "delay_ms", "unanswered"))
    for path in outputs:
        require_other(path, [Path(one) for one in (options.model, options.labels) if one])


def _images(bag: Bag, options: RecordedOptions) -> Topic | None:
    """Returns the image topic; None where the bag has none and none was named."""
    is_there = any(topic.type in IMAGE_TYPES and topic.count for topic in bag.topics)
    return bag.image_topic(options.topic) if is_there or options.topic is not None else None


def _answers(bag: Bag, options: RecordedOptions, images: Topic | None) -> tuple[list[Answer], bool]:
    """Returns the recorded answers in the order of reception, and whether they are numbers."""
    zero_ns = _zero_ns(bag, options, images)
    found = []
    has_numbers = False
    messages = list(bag.stamped_messages(options.answers, ANSWER_TYPES, "topics of answers"))
    if images is not None:
        messages = list(bag.of_camera(options.answers, messages, images))
    for log_time_ns, message in messages:
        has_numbers = not hasattr(message, "results")
        zero_ns = log_time_ns if zero_ns is None else zero_ns
        found.append(answer_from_message(message, (log_time_ns - zero_ns) / 1e9))
    if not found:
        raise DataError(f"{options.bag}: {options.answers} has no message that can be read; record it again")
    return found, has_numbers


def _zero_ns(bag: Bag, options: RecordedOptions, images: Topic | None) -> int | None:
    """Returns what is 0 s on the time axis of the labels; None for the first answer, where there is no image."""
    if options.labels_start == "bag" or not is_table(options.labels):
        return bag.start_ns
    if images is None:
        return None
    return next((one.log_time_ns for one in bag.recorded(images.name, IMAGE_TYPES)), None)


def _asked(
    bag: Bag, options: RecordedOptions, images: Topic | None, answers: Sequence[Answer], has_numbers: bool
) -> _Asked:
    if options.model is not None:
        return _asked_of_model(bag, options, has_numbers)
    zero_ns = _zero_ns(bag, options, images)
    names = [name for name, _ in answers[0].results] if has_numbers else []
    truth = read_truth(bag, options.labels, names, images, zero_ns)
    known = truth.known
    topic = "" if images is None else images.name
    frames = []
    if topic:
        for index, image in enumerate(bag.recorded(topic, IMAGE_TYPES)):
            since_ns = image.log_time_ns - (zero_ns or 0)
            at_once = known.at(image.stamp_ns if image.has_time else None, since_ns)
            frames.append(AskedFrame(index, image.stamp_ns or 0, since_ns / 1e9, at_once, image.has_time))
    else:  # each answer was given to a frame of which nothing else was recorded
        for index, answer in enumerate(answers):
            at_once = known.at(answer.stamp_ns if answer.has_time else None, round(answer.time_s * 1e9))
            frames.append(AskedFrame(index, answer.stamp_ns, answer.time_s, at_once, answer.has_time))
    doubts = known.doubts(frames)
    if truth.reading.has_classes:
        doubts += never_answered((frame.truth for frame in frames), answers)
    return _Asked(topic, frames, truth.reading, known.unmet(frames), doubts)


def _asked_of_model(bag: Bag, options: RecordedOptions, has_numbers: bool) -> _Asked:
    assert options.model is not None
    session = SessionOptions(providers=tuple(options.providers))
    pipeline = Pipeline.load(options.model, session)
    task = task_of(pipeline.spec.task)
    if task.has_classes == has_numbers:
        what = "numbers" if has_numbers else "classes"
        raise DataError(f"{options.answers}: holds {what}, the model is {pipeline.spec.task}; name the model's topic")
    labelled = frames_of_bag(bag, options.topic, options.labels, options.labels_start, pipeline.spec)
    labelled = overridden(labelled, options.overrides)
    records = [frame.record for frame in labelled]
    frames = [AskedFrame(one.index, one.stamp_ns, one.time_s, one.truth, one.has_time) for one in records]
    unused, doubts = labelled.unused_labels(records), labelled.doubts(records)
    reading = Reading.of(task, pipeline.spec.class_names)
    return _Asked(labelled.topic, frames, reading, unused, doubts, pipeline, labelled)


def offline_accuracy(records: Sequence[FrameRecord]) -> Estimate | None:
    """Returns the share of labelled frames that are answered rightly offline; None for numbers or without any."""
    verdicts = [record.is_right for record in scored(records)]
    blocks = blocks_of([records])
    if blocks is None or None in verdicts:
        return None
    return blocks.share(np.array(verdicts, np.bool_))


def _report(
    options: RecordedOptions,
    bag: Bag,
    asked: _Asked,
    stream: StreamReport,
    found: Matching,
    records: Sequence[FrameRecord],
    agreement: Agreement | None,
) -> RecordedReport:
    required = options.required
    missing = [*bag.damage, *left_out(agreement), *_unusable(options, asked, stream)]
    unused = asked.unused_labels if stream.scores.scored else []
    if required.in_words():
        missing += unused
        unused = []
    return RecordedReport(
        complete=not missing,
        remarks=(*missing, *required.counted_against(stream.scores)),
        warnings=(*bag.warnings, *_warnings(asked, stream), *unused, *asked.doubts),
        source=str(options.bag),
        topic=asked.topic,
        labels=options.labels,
        model=ModelFacts.of(asked.pipeline) if asked.pipeline else None,
        images=len(asked.frames) if asked.topic else 0,
        unanswered=len(asked.frames) - stream.matched,
        without_stamp=sum(frame.stamp_ns == 0 for frame in asked.frames),
        delay_ms=percentiles(_delays_s(asked.frames, found)) if asked.topic else None,
        stream=stream,
        offline=offline_accuracy([] if left_out(agreement) else records),
        agreement=agreement,
        required=required.in_words(),
        passed=required.reached(stream.scores),
    )


def _unusable(options: RecordedOptions, asked: _Asked, stream: StreamReport) -> list[str]:
    """Returns why nothing can be said of the answers, a line or none."""
    if asked.topic and not stream.matched and stream.ambiguous:
        return [f"{options.answers}: nobody can tell whose answers these are: {stream.ambiguous} images share a stamp"]
    if asked.topic and not stream.matched:
        return [
            f"{options.answers}: no answer has the stamp of an image of {asked.topic}; name its images with --topic"
        ]
    if options.labels and not stream.scores.scored:
        return [f"{options.labels}: no answered frame is labelled; {where_to_look(options.labels)}"]
    return []


def _delays_s(frames: Sequence[AskedFrame], found: Matching) -> list[float]:
    pairs = zip(frames, found.answers, strict=True)
    return [answer.time_s - frame.time_s for frame, answer in pairs if answer is not None]


def _warnings(asked: _Asked, stream: StreamReport) -> list[str]:
    found = []
    if not asked.topic:
        found.append("the bag has no images: each answer counts as a frame, of when it was received")
    return [*found, *stamp_warnings(asked.frames, stream)]


def stamp_warnings(frames: Sequence[AskedFrame], stream: StreamReport) -> list[str]:
    """Returns what is odd about stamps, by which answers find their frames; a line each."""
    found = []
    if zeros := sum(frame.stamp_ns == 0 for frame in frames):
        found.append(f"{zeros} of {len(frames)} frames have no stamp; such are told apart by their order alone")
    if stream.ambiguous:
        found.append(
            f"{stream.ambiguous} frames share their stamp with others, of which not all were answered: not scored"
        )
    if stream.strangers:
        found.append(f"{stream.strangers} answers have a stamp that no frame has: not scored")
    if stream.repeated:
        found.append(f"{stream.repeated} answers are to frames that had one already: the first one counts")
    return found
