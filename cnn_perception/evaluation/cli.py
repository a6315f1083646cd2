"""A recording or a folder of images + labels + a model -> a report. Run as `evaluate_bag`.

Every frame is used once with the robot's own pipeline; there is no ROS and no dropped frame. Pictures and video are
made after the model has seen everything, so that they do not slow it down.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import (
    EXIT_BAD_INPUT,
    EXIT_BELOW_TARGET,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ConfigError,
    FrameError,
    PerceptionError,
)
from cnn_perception.evaluation.frame_record import FrameRecord, predictions_csv
from cnn_perception.evaluation.measurements import LARGEST_GAP_S
from cnn_perception.evaluation.page import Picture, render_html
from cnn_perception.evaluation.replay import WORKERS, Findings, in_order, measure_latency, replay
from cnn_perception.evaluation.report_record import ModelRecord, Report, Target, worst_frame, write_text
from cnn_perception.evaluation.scores import score
from cnn_perception.evaluation.sources import LabelledFrame, Source, bag_source, folder_source
from cnn_perception.evaluation.video import VIDEO_ENDINGS, VideoFile, resized_to_view
from cnn_perception.image.messages import RgbImage, decode
from cnn_perception.label_text import SEPARATOR, UNLABELLED, shown, text_of
from cnn_perception.metrics import Latency
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS, OnnxModel, SessionOptions
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.multiclass import KEPT_CLASSES
from cnn_perception.tasks.registry import TASKS, task_of

_DEFAULT_RATE_HZ = 10.0

_TARGETS = tuple((name, gate.option, gate.metric) for name, task in TASKS.items() for gate in task.gates)
"""What can be required of each task, with which option."""


def _make_report(
    model: OnnxModel, source: Source, latency: dict[str, Latency], findings: Findings, options: argparse.Namespace
) -> Report:
    scores = score(findings.records, model.spec, options.threshold)
    remarks = [*source.damage]
    if findings.interrupted:
        remarks.append(f"interrupted after {scores.frames.total} of {source.count} frames")
    if not scores.frames.scored + scores.frames.unlabelled:
        remarks.append(f"{source.path}: not one of {scores.frames.total} frames could be used")
    elif options.labels and not scores.frames.scored:
        remarks.append(f"{options.labels}: no frame lies in a labelled interval; see --labels-start")
    target = _target(options)
    return Report(
        complete=not remarks,
        remarks=tuple(remarks),
        source=str(source.path),
        topic=source.topic,
        labels=options.labels,
        model=ModelRecord(str(model.path), model.sha256, model.provider, model.fallback, model.spec),
        threshold=options.threshold,
        target=target,
        passed=target.reached(scores) if target else None,
        latency=latency,
        frames_per_second=scores.frames.total / findings.seconds if findings.seconds else 0.0,
        scores=scores,
        worst=tuple(worst_frame(frame.record, model.spec) for frame in findings.by_badness()),
    )


def _pictures(findings: Findings, spec: ModelSpec, top_k: int) -> list[Picture]:
    drawn = []
    for frame in findings.by_badness():
        assert not isinstance(frame.source, FrameError)  # only recognised frames are kept
        image = _drawn(decode(frame.source), frame.record, spec, top_k)
        drawn.append(Picture(worst_frame(frame.record, spec), image))
    return drawn


def _drawn(image: RgbImage, record: FrameRecord, spec: ModelSpec, top_k: int) -> RgbImage:
    view = resized_to_view(image)
    if record.prediction is None:
        return view
    truth = None if record.truth is None else shown(text_of(record.truth))
    return draw_overlay(view, record.prediction, spec.input, top_k=top_k, truth=truth, is_right=record.is_right)


def write_video(source: Source, findings: Findings, spec: ModelSpec, top_k: int, folder: Path) -> Path | None:
    """Draws every recognised frame into a video at the recording's frame rate.

    Returns:
        The file; None if there was no frame to show.

    Raises:
        DataError: If no video can be written here.
    """
    stamps_s = np.array([record.time_s for record in findings.records])
    steps_s = np.diff(stamps_s)
    steps_s = steps_s[steps_s > 0]
    rate_hz = float(np.clip(1.0 / np.median(steps_s), 1.0, 60.0)) if len(steps_s) else _DEFAULT_RATE_HZ

    def drawn(pair: tuple[LabelledFrame, FrameRecord]) -> RgbImage | None:
        frame, record = pair
        if record.prediction is None or isinstance(frame.source, FrameError):
            return None
        return _drawn(decode(frame.source), record, spec, top_k)

    images = in_order(drawn, zip(source.frames(), findings.records, strict=False))
    video: VideoFile | None = None
    with ExitStack() as stack:
        for image in tqdm(images, total=len(findings.records), desc="video", unit="frame", disable=None):
            if image is None:
                continue
            if video is None:
                video = stack.enter_context(VideoFile(folder, "overlay", rate_hz, *image.shape[:2]))
            video.add(image)
    return None if video is None else video.path


def _write(report: Report, findings: Findings, pictures: Sequence[Picture], folder: Path, video: str = "") -> None:
    write_text(folder / "report.json", report.to_json())
    write_text(folder / "predictions.csv", predictions_csv(findings.records, report.model.spec))
    write_text(folder / "report.html", render_html(report, findings.records, pictures, video))


def evaluate(pipeline: Pipeline, source: Source, options: argparse.Namespace) -> tuple[Report, int]:
    """Runs the evaluation and writes all files.

    Args:
        pipeline: The loaded model.
        source: The frames.
        options: The parsed command line.

    Returns:
        The report, and the exit code.

    Raises:
        DataError: If a file cannot be written.
    """
    findings = replay(_one_core_a_frame(pipeline, options), source)
    latency = {} if findings.interrupted else measure_latency(pipeline, source)
    report = _make_report(pipeline.model, source, latency, findings, options)
    pictures = _pictures(findings, pipeline.spec, options.top_k)
    for ending in VIDEO_ENDINGS:  # a video of an earlier run would not belong to this report
        (options.output / f"overlay{ending}").unlink(missing_ok=True)
    _write(report, findings, pictures, options.output)
    if not (options.no_video or findings.interrupted or options.images):
        try:
            video = write_video(source, findings, pipeline.spec, options.top_k, options.output)
        except KeyboardInterrupt:
            return report, EXIT_INTERRUPTED
        if video is not None:
            _write(report, findings, pictures, options.output, video.name)
    if findings.interrupted:
        return report, EXIT_INTERRUPTED
    if not report.complete:
        return report, EXIT_BAD_INPUT
    return report, EXIT_BELOW_TARGET if report.passed is False else EXIT_OK


def _one_core_a_frame(pipeline: Pipeline, options: argparse.Namespace) -> Pipeline:
    """Loads the model once more for the highest rate, see `replay`; a GPU is shared by all frames anyway."""
    if pipeline.model.provider != "CPUExecutionProvider":
        return pipeline
    return Pipeline.load(options.model, SessionOptions(providers=("CPUExecutionProvider",), intra_op_threads=1))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
        with ExitStack() as stack:
            pipeline = Pipeline.load(options.model, SessionOptions(providers=options.providers))
            _check_target(options, pipeline.spec)
            source = _open_source(options, pipeline.spec, stack)
            try:
                options.output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"--output {options.output}: cannot be made ({error.strerror})") from None
            report, code = evaluate(pipeline, source, options)
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    for remark in report.remarks:
        print(f"error: {remark}", file=sys.stderr)
    print(_summary(report, options.output))
    return code


def _open_source(options: argparse.Namespace, spec: ModelSpec, stack: ExitStack) -> Source:
    if options.images is not None:
        return folder_source(options.images, options.labels, spec)
    bag = stack.enter_context(Bag(options.bag))
    return bag_source(bag, options.topic, options.labels, options.labels_start, spec)


def _target(options: argparse.Namespace) -> Target | None:
    given = [Target(metric, value) for _, option, metric in _TARGETS if (value := getattr(options, option)) is not None]
    return given[0] if given else None


def _check(options: argparse.Namespace) -> None:
    if options.images is not None and options.topic:
        raise ConfigError("--topic belongs to --bag")
    if options.images is not None and options.labels and not options.labels.endswith(".csv"):
        raise ConfigError(f"--labels {options.labels}: for --images name a CSV file of their paths and labels")
    for name in ("min_accuracy", "min_map", "threshold"):
        value = getattr(options, name)
        if value is not None and not 0.0 <= value <= 1.0:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; choose 0 to 1")
    if options.max_mae is not None and not options.max_mae >= 0.0:
        raise ConfigError(f"--max-mae is {options.max_mae}; choose 0 or more")
    if _target(options) and not (options.labels or options.images):
        names = " or ".join(
            f"--{option.replace('_', '-')}" for _, option, _ in _TARGETS if getattr(options, option) is not None
        )
        raise ConfigError(f"{names} needs --labels: without them there is nothing to compare with")
    if not 1 <= options.top_k <= KEPT_CLASSES:
        raise ConfigError(f"--top-k is {options.top_k}; choose 1 to {KEPT_CLASSES}")


def _check_target(options: argparse.Namespace, spec: ModelSpec) -> None:
    if options.threshold and not task_of(spec.task).is_exclusive:
        raise ConfigError(f"--threshold is for one class an image, this model is {spec.task}; leave it out")
    for task, option, _ in _TARGETS:
        if task != spec.task and getattr(options, option) is not None:
            right = next((f"--{o.replace('_', '-')}" for t, o, _ in _TARGETS if t == spec.task), "leave it out")
            raise ConfigError(
                f"--{option.replace('_', '-')} is for {task} models; {options.model} is {spec.task}: {right}"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_bag",
        description="Scores a model on a recording or a folder of images and leaves report.json, predictions.csv, "
        "report.html and an overlay video.",
        epilog="exit codes: 0 done; 2 bad input, or a damaged bag of which the readable part was evaluated; "
        "3 --min-accuracy, --min-map or --max-mae missed; 130 interrupted, with a report of what was done",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bag", type=Path, help="rosbag2 folder (sqlite3 or mcap), or a single .mcap or .db3 file")
    where.add_argument("--images", type=Path, help="folder with a folder of images for each class")
    parser.add_argument("--model", type=Path, required=True, help="model file made by training.export")
    parser.add_argument("--topic", help="image topic; not needed where the bag has only one")
    parser.add_argument(
        "--labels",
        default="",
        help="CSV file (*.csv) or topic. Classes: start_s,end_s,class in seconds, or std_msgs/String or "
        f"vision_msgs/Classification; gaps and the class {UNLABELLED!r} are not scored; a multilabel model takes "
        f"several classes with {SEPARATOR!r} between them, {SEPARATOR!r} alone is none of them. Numbers: time_s and a "
        "column for each, or std_msgs/Float32, Float64 or sensor_msgs/JointState; the nearest in time within "
        f"{LARGEST_GAP_S:g} s counts. With --images: a CSV file with path and class, classes, or the numbers",
    )
    parser.add_argument(
        "--labels-start",
        choices=("bag", "image"),
        default="bag",
        help="what 0 s in the CSV file is: when the bag's first message of any topic was received, or the first image",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results; made if needed")
    parser.add_argument("--min-accuracy", type=float, help="required top-1 accuracy, 0 to 1; missed: exit code 3")
    parser.add_argument("--min-map", type=float, help="the same for the mAP of a multilabel model, 0 to 1")
    parser.add_argument("--max-mae", type=float, help="largest allowed MAE of each number of a regression model")
    parser.add_argument("--threshold", type=float, default=0.0, help="score below which the robot publishes nothing")
    parser.add_argument("--top-k", type=int, default=3, help="classes listed in pictures and video")
    parser.add_argument(
        "--providers", nargs="+", default=list(DEFAULT_PROVIDERS), help="ONNX Runtime providers, the preferred first"
    )
    parser.add_argument("--no-video", action="store_true", help="leave out the overlay video, which takes longest")
    return parser


def _summary(report: Report, folder: Path) -> str:
    frames = report.scores.frames
    bad = ", ".join(f"{count} {reason}" for reason, count in frames.bad.items()) or "0"
    lines = [f"frames     {frames.total}: {frames.scored} scored, {frames.unlabelled} unlabelled, bad: {bad}"]
    lines += report.scores.summary()
    if report.target is not None:
        lines.append(f"required   {report.target}: {'reached' if report.passed else 'MISSED'}")
    lines.append(f"speed      {report.frames_per_second:.1f} frames/s with {WORKERS} frames at once")
    if report.latency:
        lines.append(f"latency    p50 {report.latency['total'].p50_ms:.1f} ms, one frame at a time")
    lines.append(f"report     {folder / 'report.html'}")
    return "\n".join(lines)
