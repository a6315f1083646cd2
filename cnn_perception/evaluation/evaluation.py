"""Scores a model file on a recording or a folder of images, and leaves the report.

Every frame is used once with the robot's own pipeline; there is no ROS and no dropped frame. Pictures and video are
made after the model has seen everything, so that they do not slow it down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from cnn_perception.bag.reader import Bag
from cnn_perception.commands import despite_ctrl_c
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.comparison.answered_frames import AnsweredFrames
from cnn_perception.comparison.baseline import Baseline, Observer
from cnn_perception.comparison.comparison import ChangedFrame
from cnn_perception.comparison.report.files import NAMES as COMPARISON_FILES
from cnn_perception.comparison.report.pictures import pictures_of
from cnn_perception.comparison.report.record import Pictures
from cnn_perception.errors import (
    EXIT_BAD_INPUT,
    EXIT_BELOW_TARGET,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_WORSE,
    ConfigError,
    DataError,
    FrameError,
)
from cnn_perception.evaluation.baseline.comparing import Compared, compare_into, open_for, remove_comparison
from cnn_perception.evaluation.frame_record import FrameRecord, predictions_csv
from cnn_perception.evaluation.labelled_frames import LabelledFrames, frames_of_bag, frames_of_folder, overridden
from cnn_perception.evaluation.options import EvaluationOptions
from cnn_perception.evaluation.page import Picture, render_html
from cnn_perception.evaluation.recording.copies import copies_within
from cnn_perception.evaluation.recording.curves import calibration, trade_off
from cnn_perception.evaluation.recording.facts import recording_facts
from cnn_perception.evaluation.recording.known_answers import where_to_look
from cnn_perception.evaluation.recording.sampling import blocks_of, one_of_each_image, sampling_record
from cnn_perception.evaluation.recording.video import draw_record, write_video
from cnn_perception.evaluation.recording.video_file import VIDEO_ENDINGS
from cnn_perception.evaluation.regions.box_frames import BoxOptions, frames_of_boxes
from cnn_perception.evaluation.replay import (
    ReplayedFrames,
    in_order,
    measure_latency,
    replay,
    replay_masks,
)
from cnn_perception.evaluation.report_record import ModelRecord, Report, Target, worst_frame, write_text
from cnn_perception.evaluation.scores import never_right, score
from cnn_perception.files import has_fields, require_other, require_outside, require_unused, require_writable
from cnn_perception.image.messages import decode
from cnn_perception.label_table import is_table
from cnn_perception.masks.folder import read_masks
from cnn_perception.masks.segmentation import MaskTally
from cnn_perception.metrics import Latency
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import ModelSpec
from cnn_perception.pages import data_url
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.results_bag import results_bag
from cnn_perception.results_bag.evaluated_frame import EvaluatedFrame
from cnn_perception.results_bag.frame_messages import ImagesAs, ResultsOptions
from cnn_perception.tasks.rules import FrameCounts

RECORD = "report.json"
RECORD_FIELDS = ("frames_per_second", "latency", "worst")
"""By which an earlier evaluation is known."""
RECORD_OF_BAGS = ("bags", "slices", "frames_per_second")
"""By which an earlier evaluation of several bags is known."""
RESULTS = (RECORD, "predictions.csv", "report.html", *(f"overlay{ending}" for ending in VIDEO_ENDINGS))


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that has ended, with its files written.

    Attributes:
        report: What `report.json` holds.
        interrupted: Whether Ctrl-C ended it; the report is of what was done by then, and of all frames where it came
            after the last one.
        answered: The frames with the answers of both models; None without a baseline, and where it was interrupted.
        compared: What was found of them; None of one of several bags, which are compared together.
        records: All frames.
    """

    report: Report
    interrupted: bool
    answered: AnsweredFrames | None = None
    compared: Compared | None = None
    records: Sequence[FrameRecord] = ()

    @property
    def exit_code(self) -> int:
        """How `evaluate_bag` ends with it."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if not self.report.complete:
            return EXIT_BAD_INPUT
        if self.report.passed is False:
            return EXIT_BELOW_TARGET
        return EXIT_WORSE if self.compared and self.compared.is_worse else EXIT_OK


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Runs a model over every frame and writes report.json, predictions.csv, report.html and the overlay video.

    Args:
        options: What is evaluated on what.

    Raises:
        ModelError: If the model file cannot be used.
        ConfigError: If an option does not fit the model, or the output folder cannot be made or written to.
        DataError: If the frames or labels cannot be used, or a file cannot be written.
    """
    require_writable(options.output)
    with ExitStack() as stack:
        pipeline = Pipeline.load(options.model, _session(options))
        options.require_fit(pipeline.spec)
        _require_own(options)
        baseline = open_for(pipeline.model, options.baseline, options.providers, options.overrides)
        frames = _open_frames(options, pipeline.spec, stack)
        try:
            options.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--output {options.output}: cannot be made ({error.strerror})") from None
        return _evaluate(pipeline, frames, options, baseline)


def remove_results(folder: Path) -> None:
    """Removes what an earlier evaluation left in a folder, and the folder if nothing else is in it.

    Raises:
        OSError: If something cannot be removed.
    """
    remove_comparison(folder)
    results_bag.remove(folder / results_bag.FOLDER)
    for name in reversed(RESULTS):  # the record, by which the others are known, comes last
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _session(options: EvaluationOptions) -> SessionOptions:
    """Returns how the model is run that measures latencies: on all cores, or on the share of one of several bags."""
    threads = options.workers if options.is_one_of_several else 0
    return SessionOptions(providers=tuple(options.providers), intra_op_threads=threads)


def _require_own(options: EvaluationOptions) -> None:
    """Refuses an output folder in which this evaluation would overwrite another program's files, or what it reads."""
    for source in (options.bag, options.images):
        if source is not None:
            require_outside(options.output, source)
    if has_fields(options.output / RECORD, RECORD_OF_BAGS):
        raise ConfigError(f"{options.output}: holds an evaluation of several bags; choose another --output")
    compared = COMPARISON_FILES if options.baseline else ()
    bags = (results_bag.FOLDER,) if options.results_bag else ()
    outputs = [options.output / name for name in (*RESULTS, *compared, *bags)]
    require_unused(outputs, options.output / RECORD, RECORD_FIELDS)
    for path in outputs:
        require_other(path, options.inputs)
    if options.results_bag:
        results_bag.require_replaceable(options.output / results_bag.FOLDER)


def _open_frames(options: EvaluationOptions, spec: ModelSpec, stack: ExitStack) -> LabelledFrames:
    if options.bag is None:
        assert options.images is not None
        return overridden(frames_of_folder(options.images, options.labels, spec), options.overrides)
    bag = stack.enter_context(Bag(options.bag))
    if options.rois:
        wanted = BoxOptions(options.rois, options.labels, options.truth, options.regions, options.overrides)
        return frames_of_boxes(bag, options.topic, wanted, spec)
    frames = frames_of_bag(bag, options.topic, options.labels, options.labels_start, spec)
    return overridden(frames, options.overrides)


@contextmanager
def _opencv_in_one_thread() -> Iterator[None]:
    """Has OpenCV use one core a frame, as in the node: a pool that shares a picture takes the cores of other frames."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _evaluate(
    pipeline: Pipeline, frames: LabelledFrames, options: EvaluationOptions, baseline: Baseline | None
) -> Evaluation:
    tally = _masked(pipeline, frames, options)
    observer = baseline.observer() if baseline else Observer(None)
    replayed = _replayed(pipeline, frames, options, observer, tally)
    is_alone = not (replayed.interrupted or options.is_one_of_several)
    with _opencv_in_one_thread():
        latency = _latency(pipeline, frames, replayed) if is_alone else {}

    def record(is_interrupted: bool) -> Report:
        replayed.interrupted |= is_interrupted
        made = _make_report(pipeline.model, frames, latency, replayed, options, tally)
        _write_record(made, replayed.records, options.output)
        return made

    report = despite_ctrl_c(record)
    pictures = _pictures(replayed, pipeline.spec, options)
    replayed.worst.clear()  # their messages, as large as the camera sends them; they have been drawn

    def show(is_interrupted: bool) -> None:
        replayed.interrupted |= is_interrupted
        _write_page(report, replayed, pictures, options.output, tally)

    despite_ctrl_c(show)
    try:
        if options.results_bag is not None:
            _write_results_bag(options.results_bag, frames, replayed.records, pipeline.spec, options)
        if options.video and options.bag is not None and not options.rois and not replayed.interrupted:
            video = write_video(
                frames,
                replayed.records,
                pipeline.spec,
                options.top_k,
                options.output,
                options.workers,
                options.threshold,
            )
            if video is not None:
                _write_page(report, replayed, pictures, options.output, tally, video.name)
        if baseline is None or replayed.interrupted:
            return Evaluation(report, replayed.interrupted, records=replayed.records)
        answered = baseline.answered(replayed.records, observer, str(frames.path), frames.topic)
        compared = None if options.is_one_of_several else _compare(answered, frames, options, report)
    except KeyboardInterrupt:
        return Evaluation(report, interrupted=True, records=replayed.records)
    return Evaluation(report, interrupted=False, answered=answered, compared=compared, records=replayed.records)


def _remove_others(folder: Path) -> None:
    """Removes what an earlier evaluation left beside its record, which a disk that is full now would leave to this one.

    Raises:
        DataError: If something cannot be removed.
    """
    try:
        for name in RESULTS[1:]:
            (folder / name).unlink(missing_ok=True)
        remove_comparison(folder)
        results_bag.remove(folder / results_bag.FOLDER)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from None


def _latency(pipeline: Pipeline, frames: LabelledFrames, replayed: ReplayedFrames) -> dict[str, Latency]:
    """Returns what `measure_latency` does; Ctrl-C ends it and is noted: what was replayed is worth a report."""
    try:
        return measure_latency(pipeline, frames)
    except KeyboardInterrupt:
        replayed.interrupted = True
        return {}


def _compare(answered: AnsweredFrames, frames: LabelledFrames, options: EvaluationOptions, report: Report) -> Compared:
    def pictures(changed: Sequence[ChangedFrame]) -> Pictures:
        images = pictures_of(frames, {one.frame.index for one in changed})
        return {(answered.bag, frames.topic, index): image for index, image in images.items()}

    return compare_into(
        options.output,
        [answered],
        pictures,
        source=answered.bag,
        max_loss=options.max_loss,
        on_doubt=options.on_doubt,
        missing=() if report.complete else report.remarks,
    )


def _masked(pipeline: Pipeline, frames: LabelledFrames, options: EvaluationOptions) -> MaskTally | None:
    """Segments the frames that have a mask; before anything that takes longer, since masks may be refused."""
    if options.masks is None:
        return None
    tally = MaskTally(pipeline, read_masks(options.masks), options.mask_scale)
    replay_masks(tally, frames)
    return tally


def _replayed(
    pipeline: Pipeline, frames: LabelledFrames, options: EvaluationOptions, observer: Observer, tally: MaskTally | None
) -> ReplayedFrames:
    """Classifies the frames, unless Ctrl-C has come already; what was segmented is worth a report of its own."""
    if tally is not None and not tally.complete:
        return ReplayedFrames(interrupted=True)
    try:
        alone = _one_core_a_frame(pipeline)
    except KeyboardInterrupt:
        if tally is None:
            raise
        return ReplayedFrames(interrupted=True)
    with _opencv_in_one_thread():
        return replay(alone, frames, options.workers, observer.observe)


def _one_core_a_frame(pipeline: Pipeline) -> Pipeline:
    """Loads the model once more for the highest rate, see `replay`; a GPU is shared by all frames anyway."""
    if pipeline.model.provider != "CPUExecutionProvider":
        return pipeline
    one_core = SessionOptions(providers=("CPUExecutionProvider",), intra_op_threads=1)
    return Pipeline.load(pipeline.model.path, one_core)


def _make_report(
    model: OnnxModel,
    frames: LabelledFrames,
    latency: dict[str, Latency],
    replayed: ReplayedFrames,
    options: EvaluationOptions,
    tally: MaskTally | None,
) -> Report:
    records = replayed.records
    recordings = [records] if frames.topic else []
    blocks = blocks_of(recordings)
    scores = score(records, model.spec, options.threshold, blocks)
    missing = _missing(frames, replayed, scores.frames, tally, options)
    unused = [] if replayed.interrupted or not scores.frames.scored else frames.unused_labels(records)
    doubts = [] if replayed.interrupted else frames.doubts(records)
    if options.target is not None or options.needs_all_labels:
        missing += unused
        unused = []
    if tally and tally.complete and not tally.scores.images:
        missing.append(f"{options.masks}: no frame that can be used has a mask there; see --masks in --help")
    target = options.target
    return Report(
        complete=not missing,
        remarks=(*missing, *_counted_against(target, scores.frames), *never_right(replayed.records, model.spec)),
        warnings=(*replayed.warnings, *frames.warnings, *unused, *doubts, *copies_within(records)),
        source=str(frames.path),
        topic=frames.topic,
        encoding=options.encoding,
        significant_bits=options.significant_bits,
        labels=options.labels or options.truth,
        model=ModelRecord(str(model.path), model.sha256, model.provider, model.fallback, model.spec),
        threshold=options.threshold,
        target=target,
        passed=target.reached(scores) if target else None,
        latency=latency,
        frames_per_second=scores.frames.total / replayed.seconds if replayed.seconds else 0.0,
        ignored=dict(frames.ignored),
        scores=scores,
        worst=tuple(worst_frame(frame.record, model.spec) for frame in replayed.by_badness()),
        masks=tally.scores if tally else None,
        recording=recording_facts(one_of_each_image(records), frames.topics) if frames.topic else None,
        sampling=sampling_record(recordings, model.spec, blocks),
        calibration=calibration(records, model.spec),
        trade_off=trade_off(records, model.spec, options.threshold),
    )


def _missing(
    frames: LabelledFrames,
    replayed: ReplayedFrames,
    counts: FrameCounts,
    tally: MaskTally | None,
    options: EvaluationOptions,
) -> list[str]:
    """Returns what of the frames and labels was not evaluated, a line each; none where everything was."""
    found = [*frames.damage, *frames.faults]
    if replayed.interrupted:
        found.append(_how_far(frames, counts, tally))
        if not counts.total:
            return found
    if not counts.scored + counts.unlabelled:
        reason = next((f", the first because: {one.message}" for one in replayed.records if one.message), "")
        found.append(f"{frames.path}: not one of {counts.total} frames could be used{reason}")
    elif options.rois and (options.labels or options.truth) and not counts.scored:
        found.append(f"{options.labels or options.truth}: nothing is known of a box; see --labels and --truth")
    elif options.labels and not counts.scored:
        found.append(f"{options.labels}: {_nothing_scored(counts, options)}")
    return found


def _how_far(frames: LabelledFrames, counts: FrameCounts, tally: MaskTally | None) -> str:
    """Returns how far an interrupted evaluation came; frames are segmented before any is classified."""
    if tally is None or tally.complete:
        return f"interrupted after {counts.total} of {frames.count} frames"
    masks = tally.scores
    segmented = masks.images + masks.unmasked + masks.unusable
    return f"interrupted while segmenting, after {segmented} of {frames.count} frames; none is classified"


def _nothing_scored(counts: FrameCounts, options: EvaluationOptions) -> str:
    """Returns why not one frame was scored, though some were answered."""
    if counts.lost:
        return f"of {counts.lost} labelled frames not one could be used"
    if options.bag is None:
        return "not one image that can be used is labelled"
    what = "lies in a labelled interval" if is_table(options.labels) else "is labelled"
    return f"no frame {what}; {where_to_look(options.labels)}"


def _counted_against(target: Target | None, counts: FrameCounts) -> list[str]:
    """Returns which frames speak against what is required although they were not scored, a line or none."""
    if target is None or not counts.lost:
        return []
    labelled = counts.scored + counts.lost
    return [f"{counts.lost} of {labelled} labelled frames could not be used; they count against the {target}"]


def _pictures(replayed: ReplayedFrames, spec: ModelSpec, options: EvaluationOptions) -> list[Picture]:
    """Returns the worst frames, drawn; Ctrl-C leaves the others out and is noted."""
    drawn: list[Picture] = []
    try:
        for frame in replayed.by_badness():
            assert not isinstance(frame.content, FrameError)  # only recognised frames are kept
            image = draw_record(decode(frame.content), frame.record, spec, options.top_k, options.threshold)
            drawn.append(Picture(worst_frame(frame.record, spec), data_url.of_image(image)))
    except KeyboardInterrupt:
        replayed.interrupted = True
    return drawn


def _write_record(report: Report, records: Sequence[FrameRecord], folder: Path) -> None:
    """Leaves what was measured, before anything is drawn."""
    _remove_others(folder)
    write_text(folder / RECORD, report.to_json())
    write_text(folder / "predictions.csv", predictions_csv(records, report.model.spec))


def _write_page(
    report: Report,
    replayed: ReplayedFrames,
    pictures: Sequence[Picture],
    folder: Path,
    tally: MaskTally | None,
    video: str = "",
) -> None:
    write_text(
        folder / "report.html", render_html(report, replayed.records, pictures, tally.worst if tally else (), video)
    )


def _write_results_bag(
    images: ImagesAs,
    frames: LabelledFrames,
    records: Sequence[FrameRecord],
    spec: ModelSpec,
    options: EvaluationOptions,
) -> None:
    """Writes what became of the frames as a bag; Ctrl-C leaves a whole one of the frames so far."""
    wanted = ResultsOptions(images, frames.path.resolve(), frames.topic, options.threshold, options.top_k)
    with results_bag.ResultsBag(options.output / results_bag.FOLDER, spec, wanted) as bag:
        made = in_order(bag.made, _evaluated(frames, records))
        for frame, messages in ProgressBar(made, total=len(records), desc="results bag", unit="frame"):
            bag.write(frame, messages)


def _evaluated(frames: LabelledFrames, records: Sequence[FrameRecord]) -> Iterator[EvaluatedFrame]:
    """Yields the frames of a bag, read once more, with what became of them."""
    for frame, record in zip(frames, records, strict=False):
        assert frame.recorded is not None
        content = None if isinstance(frame.content, FrameError) else frame.content
        yield EvaluatedFrame(
            index=record.index,
            image=frame.recorded,
            content=content,
            prediction=record.prediction,
            answer=record.answer,
            truth=record.truth,
            is_right=record.is_right,
            error=record.message,
        )
