"""The program `evaluate_bag`: a recording or a folder of images + labels + a model -> a report."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from cnn_perception import memory
from cnn_perception.answers import command as as_robot
from cnn_perception.commands import Done, exit_code, there
from cnn_perception.comparison.baseline import baseline_of_bag
from cnn_perception.comparison.comparison import Comparison
from cnn_perception.comparison.report import words
from cnn_perception.comparison.report.files import PAGE
from cnn_perception.comparison.verdict import Doubt
from cnn_perception.errors import ConfigError, PerceptionError, printable
from cnn_perception.evaluation.baseline.comparing import say_not_compared
from cnn_perception.evaluation.evaluation import RECORD, RESULTS, Evaluation, evaluate
from cnn_perception.evaluation.labels import BAG_COLUMN, LARGEST_GAP_S
from cnn_perception.evaluation.options import EvaluationOptions
from cnn_perception.evaluation.regions.known_boxes import LEAST_OVERLAP
from cnn_perception.evaluation.replay import WORKERS
from cnn_perception.evaluation.report_record import Report
from cnn_perception.evaluation.several.bag_labels import PLACEHOLDER, BagLabels
from cnn_perception.evaluation.several.pooled import PooledReport
from cnn_perception.evaluation.several.run import BAGS_CSV, SeveralOptions, evaluate_several
from cnn_perception.evaluation.several.sources import find_bags
from cnn_perception.files import given_name, given_path, require_reachable
from cnn_perception.image import listing
from cnn_perception.jobs.ray_cluster import LOCAL
from cnn_perception.label_text import SEPARATOR, UNLABELLED
from cnn_perception.masks import scores as mask_scores
from cnn_perception.model.onnx_model import DEFAULT_PROVIDERS
from cnn_perception.regions.answering import MOST_BOXES
from cnn_perception.results_bag.frame_messages import ImagesAs
from cnn_perception.results_bag.results_bag import FOLDER as RESULTS_FOLDER
from cnn_perception.tasks.registry import GATES


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code after evaluating as the command line says."""
    parser = _parser()
    given = parser.parse_args(argv)
    memory.keep_freed()
    return exit_code(lambda: _evaluate_or_say(given, parser.get_default))


def _evaluate_or_say(given: argparse.Namespace, default: Callable[[str], Any]) -> int:
    """Does what `_evaluate` does; what ends it is also said to who reads the comparison alone."""
    try:
        return _evaluate(given, default)
    except PerceptionError as error:
        if given.baseline is not None:
            with contextlib.suppress(OSError):  # of an output that cannot be; the error is what is to be said
                say_not_compared(given.output, str(error))
        raise


def _evaluate(given: argparse.Namespace, default: Callable[[str], Any]) -> int:
    """Returns the exit code after an evaluation and its summary.

    Args:
        given: The options.
        default: Returns what an option is that is not given.

    Raises:
        PerceptionError: If an option, the model, the frames or the labels cannot be used.
    """
    if given.live or given.answers is not None:
        as_robot.require_together(given, default)
    if given.answers is not None:
        return as_robot.score_recorded(given)
    if given.live:
        try:
            from cnn_perception.live_replay.command import replay_live  # needs ROS, which all else here does not
        except ImportError as error:
            missing = (error.name or "").partition(".")[0]
            raise ConfigError(f"--live needs ROS 2, of which {missing} is missing; source its setup file") from None
        return replay_live(given)
    done = _done(as_robot.others(given))
    word = "warning" if done.report.complete else "error"
    for remark in done.report.remarks:
        print(f"{word}: {printable(remark)}", file=sys.stderr)
    if done.interrupted and done.report.complete:
        print(
            "error: interrupted once all frames were evaluated: pages, video or comparison may be missing",
            file=sys.stderr,
        )
    for warning in done.report.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    at_once = f"with {WORKERS} frames at once" if isinstance(done, Evaluation) else "of all bags together"
    print(_summary(done.report, given.output, at_once))
    if given.results_bag:
        folder = given.output if isinstance(done, Evaluation) else given.output / "NAME"
        if not isinstance(done, Evaluation) or (folder / RESULTS_FOLDER).exists():  # of no frame there is none
            print(printable(f"results    {folder / RESULTS_FOLDER}"))
    if done.compared is not None:
        print(_compared(done.compared.comparison, given.output))
    written = there(given.output, *RESULTS, BAGS_CSV, PAGE, RESULTS_FOLDER)
    return Done(done.exit_code, record=given.output / RECORD, written=written)


def _done(fields: dict[str, Any]) -> Evaluation | PooledReport:
    """Returns the evaluation of a folder, of one bag or of several, after it has written its files.

    Args:
        fields: The options, by their names.

    Raises:
        PerceptionError: As `_evaluate`.
    """
    for name in ("output", "images", "masks", "baseline"):
        if fields[name] is not None:
            require_reachable(fields[name])
    named = [(gate.option, fields.pop(f"{gate.option}_each")) for gate in GATES]
    each = {option: limit for option, limit in named if limit is not None}
    several = SeveralOptions(fields.pop("jobs"), fields.pop("ray"), each)
    bags = fields.pop("bag")
    found = find_bags(bags) if bags else None
    if (each or several.ray) and (found is None or found.is_single):
        raise ConfigError("--ray and what is required of each bag are for several bags; name more than one by --bag")
    if found is None:
        return evaluate(EvaluationOptions(**fields))
    for path in found.left_out:
        print(printable(f"warning: {path}: is no bag; it was left out"), file=sys.stderr)
    first = found.bags[0]
    if not found.is_single:
        return evaluate_several(found, EvaluationOptions(**fields, bag=first.path), several)
    fields["labels"] = BagLabels(fields["labels"]).of(first)
    fields["baseline"] = fields["baseline"] and baseline_of_bag(fields["baseline"], first.name)
    return evaluate(EvaluationOptions(**fields, bag=first.path))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_bag",
        description="Scores a model on a recording or a folder of images and leaves report.json, predictions.csv, "
        "report.html and an overlay video.",
        epilog="exit codes: 0 done; 2 bad input, or a damaged bag of which the readable part was evaluated; "
        "3 --min-accuracy, --min-map or --max-mae missed, of all or of each; 4 worse than --baseline by more than "
        "--max-loss, proven or, with --on-doubt fail, not ruled out; 130 interrupted, with a report of what was done; "
        "where more than one is true, the first of 130, 2, 3, 4",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--bag",
        type=given_path,
        nargs="+",
        action="extend",
        help="rosbag2 folder (sqlite3 or mcap), or a single .mcap or .db3 file; several, folders of bags and patterns "
        "in quotes give one report of all, beside that of each in OUTPUT/NAME",
    )
    where.add_argument("--images", type=given_path, help="folder with a folder of images for each class")
    parser.add_argument("--model", type=given_path, help="model file made by training.export; needed but for --answers")
    parser.add_argument("--topic", help="image topic; not needed where the bag has only one")
    parser.add_argument(
        "--encoding",
        default="",
        help="what the pixels are, such as bgr8 for 8UC3, where the messages say it wrong; of compressed images, the "
        "mosaic that was compressed as a grey picture",
    )
    parser.add_argument(
        "--significant-bits",
        type=int,
        default=0,
        help="how many bits of 16-bit images are used, such as 12 by a 12-bit camera; 0 for what the encoding says",
    )
    parser.add_argument(
        "--labels",
        type=given_name,
        default="",
        help="table (*.csv, *.tsv, *.txt) or topic. Classes: start_s,end_s,class in seconds, or std_msgs/String or "
        f"vision_msgs/Classification; gaps and the class {UNLABELLED!r} are not scored; a multilabel model takes "
        f"several classes with {SEPARATOR!r} between them, {SEPARATOR!r} alone is none of them. Numbers: time_s and a "
        "column for each, or std_msgs/Float32, Float64 or sensor_msgs/JointState; the nearest in time within "
        f"{LARGEST_GAP_S:g} s counts. With --images: a CSV file with path and class, classes, or the numbers. Of "
        f"several bags: a topic of all, a CSV file with a column {BAG_COLUMN!r} of their names or paths, or a path "
        f"with {PLACEHOLDER} in it, such as labels/{PLACEHOLDER}.csv",
    )
    parser.add_argument(
        "--labels-start",
        choices=("bag", "image"),
        default="bag",
        help="what 0 s in the CSV file is: when the bag's first message of any topic was received, or the first image",
    )
    parser.add_argument(
        "--masks",
        type=given_path,
        help="folder of masks, with which the model's score map is scored as a segmentation (pixel accuracy, mean "
        "IoU): NAME.png of the image NAME.jpg, in the same folders as far as there are; <stamp_ns>.png of a bag's "
        "frame, in folders called as bag and topic, as the topic, or none; classes.csv says what their values stand "
        "for (name,r,g,b or index,name, and optionally class: as which class of the model it counts). Or Penn-Fudan's "
        "folder",
    )
    parser.add_argument(
        "--mask-scale",
        type=float,
        default=1.0,
        help="how much larger than its own pixels the network sees each image for --masks (default: %(default)s)",
    )
    parser.add_argument("--output", type=given_path, required=True, help="folder for the results; made if needed")
    parser.add_argument("--min-accuracy", type=float, help="required top-1 accuracy, 0 to 1; missed: exit code 3")
    parser.add_argument("--min-map", type=float, help="the same for the mAP of a multilabel model, 0 to 1")
    parser.add_argument("--max-mae", type=float, help="largest allowed MAE of each number of a regression model")
    parser.add_argument("--threshold", type=float, default=0.0, help="score below which the robot publishes nothing")
    parser.add_argument("--top-k", type=int, default=3, help="classes listed in pictures and video")
    parser.add_argument(
        "--providers", nargs="+", default=list(DEFAULT_PROVIDERS), help="ONNX Runtime providers, the preferred first"
    )
    parser.add_argument(
        "--no-video", dest="video", action="store_false", help="leave out the overlay video, which takes longest"
    )
    parser.add_argument(
        "--results-bag",
        choices=get_args(ImagesAs),
        help=f"leave the results as a rosbag2 (mcap) in OUTPUT/{RESULTS_FOLDER}, too, for Foxglove, RViz and ros2 bag "
        "play: answers, overlays, annotations, truth and diagnostics at the images' times, with the images copied as "
        "they were recorded, or only with where each is (reference)",
    )
    _add_rois(parser)
    _add_baseline(parser)
    as_robot.add_options(parser)
    _add_several(parser)
    return parser


def _add_rois(parser: argparse.ArgumentParser) -> None:
    """Adds the options of boxes."""
    group = parser.add_argument_group(
        "boxes of another detector", "Each box is evaluated as a frame of its own, as the node answers it."
    )
    group.add_argument(
        "--rois",
        default="",
        metavar="TOPIC",
        help="vision_msgs/Detection2DArray with the stamps of the images; --labels is then a CSV file with id and "
        "class, and stamp_ns where an id is of one image only",
    )
    group.add_argument(
        "--truth",
        default="",
        metavar="TOPIC",
        help="vision_msgs/Detection2DArray whose classes are true, in place of --labels: a box is the one of the same "
        f"stamp and id where they overlap, or the one with which it shares most pixels (IoU {LEAST_OVERLAP:g} or more)",
    )
    group.add_argument(
        "--rois-padding", type=float, default=0.0, help="shown on each side of a box, a share of it (default: 0)"
    )
    group.add_argument("--rois-square", action="store_true", help="boxes are made square")
    group.add_argument(
        "--rois-max", type=int, default=MOST_BOXES, help="most boxes of one image, the surest (default: %(default)s)"
    )


def _add_baseline(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a comparison."""
    group = parser.add_argument_group("comparison with another model")
    group.add_argument(
        "--baseline",
        type=given_path,
        help="compare with another model on the same frames: report.json of an earlier evaluation or its folder, or a "
        "model file; leaves comparison.html, .json, .md (for a pull request) and .xml (JUnit)",
    )
    group.add_argument(
        "--max-loss",
        type=float,
        default=0.0,
        metavar="POINTS",
        help="loss beside the baseline that is allowed: percentage points of right answers, or of numbers percent of "
        "its mean error (default: %(default)g)",
    )
    group.add_argument(
        "--on-doubt",
        choices=get_args(Doubt),
        default="pass",
        help="what to do where a larger loss is neither proven nor ruled out (default: %(default)s)",
    )


def _compared(comparison: Comparison, folder: Path) -> str:
    lines = [
        f"baseline   {comparison.verdict.text}",
        f"could show a loss of {words.detectable(comparison)} or more, by {comparison.frames} frames",
        f"compared   {folder / PAGE}",
    ]
    return "\n".join(map(printable, lines))


def _add_several(parser: argparse.ArgumentParser) -> None:
    """Adds the options of several bags."""
    group = parser.add_argument_group("several bags")
    group.add_argument(
        "--jobs", type=int, default=1, help="bags at once, each in a process with its share of the cores (default: 1)"
    )
    group.add_argument(
        "--ray",
        default="",
        metavar="ADDRESS",
        help=f"evaluate them on a Ray cluster, a core each, such as 10.0.0.1:6379; {LOCAL!r} starts one of --jobs "
        "cores here. Its machines must see the same paths. Needs requirements/fleet.txt",
    )
    for gate in GATES:
        option = f"--{gate.option.replace('_', '-')}"
        group.add_argument(f"{option}-each", type=float, help=f"as {option}, of each bag")


def _summary(report: Report, folder: Path, at_once: str) -> str:
    frames = report.scores.frames
    bad = ", ".join(f"{count} {reason}" for reason, count in frames.bad.items()) or "0"
    lines = [f"frames     {frames.total}: {frames.scored} scored, {frames.unlabelled} unlabelled, bad: {bad}"]
    if report.ignored:
        lines.append(f"ignored    {listing.in_words(Counter(report.ignored))}")
    lines += report.scores.summary()
    if report.sampling is not None:
        lines.append(f"time       {report.sampling.in_words}")
    if report.masks is not None:
        lines.append(f"masks      {mask_scores.in_words(report.masks)}")
    if report.target is not None:
        lines.append(f"required   {report.target}: {'reached' if report.passed else 'MISSED'}")
    lines.append(f"speed      {report.frames_per_second:.1f} frames/s {at_once}")
    if report.latency:
        lines.append(f"latency    p50 {report.latency['total'].p50_ms:.1f} ms, one frame at a time")
    lines.append(f"report     {folder / 'report.html'}")
    return "\n".join(map(printable, lines))
