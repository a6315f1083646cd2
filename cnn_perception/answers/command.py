"""The options of `evaluate_bag` for answers of a node that ran, and its way with recorded ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cnn_perception.answers.page import agreement_rows, in_milliseconds, stream_figures, time_words
from cnn_perception.answers.recorded import RecordedOptions, evaluate_recorded
from cnn_perception.answers.recorded_report import RecordedReport
from cnn_perception.answers.stream_report import Required
from cnn_perception.commands import Done, there
from cnn_perception.errors import ConfigError, printable
from cnn_perception.evaluation.several.bag_labels import BagLabels
from cnn_perception.evaluation.several.sources import BagSource, find_bags
from cnn_perception.files import given_path
from cnn_perception.image.messages import Overrides

_OPTIONS = ("live", "rate", "params", "start_limit", "answers")
_COMMON = (
    *("bag", "model", "topic", "encoding", "significant_bits", "labels", "labels_start", "output", "min_accuracy"),
    *("max_mae", "providers", "video"),
)
"""The other options of `evaluate_bag` that mean something for the answers of a node."""
START_LIMIT_S = 120.0
"""A model is loaded and verified in seconds; TensorRT's first engine of it takes minutes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to those of `evaluate_bag`."""
    group = parser.add_argument_group(
        "as the robot ran",
        "One image topic at a time, into live.json, live.csv and live.html, or answers.json, answers.csv and "
        "answers.html. --min-accuracy and --max-mae are then required of the answers that were given.",
    )
    group.add_argument(
        "--live",
        action="store_true",
        help="play the bag to a perception_node in a process and a ROS domain of its own, and say what became of every "
        "frame, how old and how steady the answers were, and whether they are those of the model offline (if not: exit "
        "code 3; if a frame is unaccounted for, or the node ends: 2)",
    )
    group.add_argument("--rate", type=float, default=1.0, help="times faster than it was recorded (default: 1)")
    group.add_argument("--params", type=given_path, help="parameter file of the node; its record_folder is not used")
    group.add_argument(
        "--start-limit",
        type=float,
        default=START_LIMIT_S,
        metavar="SECONDS",
        help="after which a node that is not active has failed (default: %(default)g)",
    )
    group.add_argument(
        "--answers",
        metavar="TOPIC",
        help="score the answers that are in the bag, vision_msgs/Classification or sensor_msgs/JointState, by the "
        "stamps of its images; --model is then only compared with, and may be left out",
    )


def one_bag(given: argparse.Namespace) -> BagSource:
    """Returns the bag.

    Raises:
        ConfigError: If there is none, or several are given.
    """
    found = find_bags(given.bag or ())
    if len(found.bags) != 1:
        way = "--live" if given.live else "--answers"
        raise ConfigError(f"{way} takes one bag at a time, these are {len(found.bags)}; name one with --bag")
    return found.bags[0]


def others(given: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `evaluate_bag` that are not of `add_options`.

    Raises:
        ConfigError: If one of `add_options` is given alone, or there is no model.
    """
    _require_live_alone(given)
    if given.model is None:
        raise ConfigError("name the model file: --model")
    return {name: value for name, value in vars(given).items() if name not in _OPTIONS}


def _require_live_alone(given: argparse.Namespace) -> None:
    if given.params is not None or given.rate != 1.0 or given.start_limit != START_LIMIT_S:
        raise ConfigError("--params, --rate and --start-limit belong to --live")


def require_together(given: argparse.Namespace, default: Callable[[str], Any]) -> None:
    """Refuses options that mean nothing for the answers of a node.

    Args:
        given: The options.
        default: Returns what an option is that is not given.

    Raises:
        ConfigError: Names them.
    """
    if given.live and given.answers is not None:
        raise ConfigError("--live makes answers and --answers scores recorded ones; choose one")
    way = "--live" if given.live else "--answers"
    if given.images is not None or given.masks is not None:
        raise ConfigError(f"{way} is for a bag; leave --images and --masks out")
    if given.min_map is not None:
        raise ConfigError(f"--min-map needs the scores of all classes, of which {way} has the best; leave it out")
    names = [name for name in vars(given) if name not in (*_OPTIONS, *_COMMON)]
    foreign = [name for name in names if getattr(given, name) != default(name)]
    if foreign:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise ConfigError(f"leave {flags} out: {way} is only about what one node answered")


def required(given: argparse.Namespace) -> Required:
    """Returns what the answers have to reach.

    Raises:
        ConfigError: If a limit makes no sense.
    """
    return Required(given.min_accuracy, given.max_mae)


def score_recorded(given: argparse.Namespace) -> int:
    """Returns the exit code after scoring recorded answers as the command line says.

    Raises:
        PerceptionError: If an option, the bag, the answers, the labels or the model cannot be used.
    """
    _require_live_alone(given)
    bag = one_bag(given)
    options = RecordedOptions(
        bag=bag.path,
        answers=given.answers,
        output=given.output,
        model=given.model,
        topic=given.topic,
        labels=BagLabels(given.labels).of(bag),
        labels_start=given.labels_start,
        required=required(given),
        overrides=overrides(given),
        providers=given.providers,
    )
    report = evaluate_recorded(options)
    tell(report.complete, report.remarks, report.warnings)
    print("\n".join(map(printable, _summary(report, options.output))))
    written = there(options.output, "answers.json", "answers.csv", "answers.html")
    return Done(report.exit_code, record=options.output / "answers.json", written=written)


def overrides(given: argparse.Namespace) -> Overrides:
    """Returns what is known better of the images than they say themselves.

    Raises:
        ConfigError: If there is no such encoding, or no camera of so many bits.
    """
    try:
        return Overrides(given.encoding, given.significant_bits)
    except ConfigError as error:
        raise ConfigError(f"--{error}".replace("significant_bits", "significant-bits")) from None


def tell(is_complete: bool, remarks: Sequence[str], warnings: Sequence[str]) -> None:
    """Prints what is missing and what is odd."""
    for remark in remarks:
        print(f"{'warning' if is_complete else 'error'}: {printable(remark)}", file=sys.stderr)
    for warning in warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)


def _summary(report: RecordedReport, folder: Path) -> list[str]:
    stream = report.stream
    images = f"{report.images} images, {report.unanswered} without an answer; " if report.topic else ""
    lines = [f"answers    {images}{stream.answers} answers, {stream.matched} belong to a frame"]
    lines += [f"{text}: {figure}" for text, figure in stream_figures(stream)[1:]]
    if words := time_words(stream):
        lines.append(f"time       {words}")
    if report.delay_ms is not None:
        lines.append(f"delay      {in_milliseconds(report.delay_ms)}, from image to answer")
    if report.agreement is not None:
        lines += [f"{text}: {figure}" for text, figure in agreement_rows(report.agreement, report.offline)]
    return [*lines, *verdict(report.required, report.passed), f"report     {folder / 'answers.html'}"]


def verdict(what: str, passed: bool | None) -> list[str]:
    """Returns what had to be reached and whether it was, a line or none."""
    return [f"required   {what}: {'reached' if passed else 'MISSED'}"] if what else []
