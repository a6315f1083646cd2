"""Recordings, folders, recorders and cameras -> the frames that are worth a label, as a data set.

    python -m training.collect --bag A B ... --images DIR ... --recorded DIR ... --output SET [--model M] [--budget N]
    python -m training.collect --topic /camera/image_raw --output SET [--rate HZ] [--seconds S] [--on rate|key|service]

Leaves SET/labels.csv, SET/classes.txt and SET/images/; what is there already stays, and nothing is taken twice.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from cnn_perception.commands import Done, exit_code, for_shell, program
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, printable
from cnn_perception.files import given_name, given_path
from cnn_perception.image.messages import Overrides
from cnn_perception.model.spec import Task
from training.collect.collecting import Outcome, collect
from training.collect.options import CollectOptions, Trigger
from training.collect.parts import Division
from training.data_set import columns

_ROS_ARGUMENTS = "--ros-args"


@program("training.collect")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    end = words.index(_ROS_ARGUMENTS) if _ROS_ARGUMENTS in words else len(words)
    given = _parser().parse_args(words[:end])
    return exit_code(lambda: _run(given, words[end:]), "interrupted: nothing was added")


def _run(given: argparse.Namespace, ros_arguments: Sequence[str]) -> int:
    options = _options(given)
    if options.is_live:
        from training.collect.live import node  # needs ROS, which nothing else here does

        return node.run(options, ros_arguments)
    outcome = collect(options, _say)
    for line in outcome.survey.warnings:
        print(f"warning: {printable(line)}", file=sys.stderr)
    for line in outcome.survey.damage:
        print(f"error: {printable(line)}", file=sys.stderr)
    print("\n".join(map(printable, summary(outcome, options))))
    code = EXIT_INTERRUPTED if outcome.interrupted else EXIT_BAD_INPUT if outcome.survey.damage else EXIT_OK
    result = {
        "frames": outcome.survey.frames,
        "bad": outcome.survey.bad,
        "warnings": outcome.survey.warnings,
        "known": outcome.survey.known,
        "alike": outcome.survey.alike,
        "chosen": len(outcome.rows),
        "images": outcome.before + len(outcome.rows),
    }
    damage = "; ".join(outcome.survey.damage)
    return Done(code, result=result, written=[options.output / columns.TABLE], error=damage)


def _say(text: str) -> None:
    print(printable(text), flush=True)


def summary(outcome: Outcome, options: CollectOptions) -> list[str]:
    """Returns what was done, for a terminal."""
    found = outcome.survey
    bad = ", ".join(f"{count} {reason}" for reason, count in found.bad.most_common())
    reasons = Counter(row[columns.REASON] for row in outcome.rows)
    parts = Counter(row[columns.PART] for row in outcome.rows)
    lines = [
        f"frames     {found.frames} read" + (f", of which could not be used: {bad}" if bad else ""),
        f"known      {found.known} are in {options.output} already, or came twice",
        f"alike      {found.alike} look like the one before them (nearer than {options.min_distance:g})",
        f"chosen     {len(outcome.rows)}{_counts(reasons)}",
        f"parts      {outcome.division}{_counts(parts)}",
    ]
    if outcome.in_gaps:
        lines.append(f"gap        {outcome.in_gaps} left out between the parts of one recording")
    if outcome.interrupted:
        lines.append("interrupted: what was chosen until then is there")
    lines.append(f"data set   {options.output / columns.TABLE}: {outcome.before + len(outcome.rows)} images")
    lines.append(f"next       {for_shell('python', '-m', 'training.label', options.output)}")
    return lines


def _counts(counted: Counter[str]) -> str:
    return ": " + ", ".join(f"{count} {what}" for what, count in counted.most_common()) if counted else ""


def _options(given: argparse.Namespace) -> CollectOptions:
    return CollectOptions(
        output=given.output,
        bags=tuple(given.bag),
        images=tuple(given.images),
        recorded=tuple(given.recorded),
        topics=tuple(given.topic),
        model=given.model,
        shadow=given.shadow,
        checkpoint=given.checkpoint,
        backbone=given.backbone,
        weights=given.weights,
        weight_classes=given.weight_classes,
        classes=given.classes,
        task=given.task,
        budget=given.budget,
        doubt_share=given.doubt_share,
        min_distance=given.min_distance,
        division=Division(given.val_fraction, given.test_fraction, given.gap, given.seed),
        overrides=Overrides(given.encoding, given.significant_bits),
        rate_hz=given.rate,
        seconds=given.seconds,
        trigger=given.on,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.collect",
        description="Chooses frames that are worth a label, and adds them to a data set.",
        epilog="exit codes: 0 done; 2 bad input, or a damaged source of which the readable part was used; "
        "130 interrupted, with what was chosen until then",
    )
    parser.add_argument("--output", type=given_path, required=True, help="folder of the data set; made, or added to")
    _add_sources(parser)
    _add_models(parser)
    _add_choice(parser)
    _add_parts(parser)
    _add_live(parser)
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sources")
    for option, text in (
        ("--bag", "recordings, folders of recordings, or patterns of them"),
        ("--images", "folders of images"),
        ("--recorded", "folders of a perception node's recorder, of either format"),
    ):
        group.add_argument(option, type=given_path, nargs="+", action="extend", default=[], metavar="PATH", help=text)
    group.add_argument(
        "--topic",
        nargs="+",
        action="extend",
        default=[],
        help="image topics of the recordings, where they have several; without a source, of a running camera",
    )
    group.add_argument("--encoding", default="", help="what the pixels of recordings are, as for evaluate_bag")
    group.add_argument("--significant-bits", type=int, default=0, help="of 16-bit images, as for evaluate_bag")


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what looks at the frames")
    group.add_argument(
        "--model", type=given_path, help="model file: guesses labels, and its embedding says what looks alike"
    )
    group.add_argument(
        "--shadow", type=given_path, help="another model file: frames on which the two disagree are in doubt"
    )
    group.add_argument("--checkpoint", type=given_path, help="of a training run: its features say what looks alike")
    group.add_argument(
        "--backbone", type=given_name, help="network whose features say what looks alike, with --weights"
    )
    group.add_argument("--weights", type=given_name, help="weights of --backbone, as for training.train")
    group.add_argument("--weight-classes", metavar="N", help="classes that --weights are for, where they do not say it")
    group.add_argument(
        "--classes", type=given_path, help="file of the names to choose from, one a line; else the model's"
    )
    group.add_argument("--task", choices=get_args(Task), help="what is labelled, without a model (multiclass)")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("choice")
    group.add_argument("--budget", type=int, help="most frames that are added; without it all that differ")
    group.add_argument(
        "--doubt-share",
        type=float,
        default=CollectOptions.doubt_share,
        help="share of the budget for what the model doubts most; the rest is half typical, half diverse (%(default)s)",
    )
    group.add_argument(
        "--min-distance",
        type=float,
        default=CollectOptions.min_distance,
        help="frames nearer than this to the last one kept of their topic are left out, 0 to 2 (%(default)s)",
    )


def _add_parts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("parts: whole recordings, or the end of the only one")
    group.add_argument(
        "--val-fraction",
        type=float,
        default=Division.val_fraction,
        help="held out (%(default)s); 0 where other data or training.train itself holds something out",
    )
    group.add_argument("--test-fraction", type=float, default=Division.test_fraction, help="for the test (%(default)s)")
    group.add_argument(
        "--gap",
        type=float,
        default=Division.gap_s,
        metavar="SECONDS",
        help="left out between the parts of one recording, at most a twentieth of it (%(default)s)",
    )
    group.add_argument("--seed", type=int, default=Division.seed, help="of what is drawn (%(default)s)")


def _add_live(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a running camera (--topic without a source)")
    group.add_argument("--rate", type=float, default=CollectOptions.rate_hz, help="frames a second (%(default)s)")
    group.add_argument("--seconds", type=float, help="how long; else until Ctrl-C, or --budget frames")
    group.add_argument(
        "--on",
        choices=get_args(Trigger),
        default=CollectOptions.trigger,
        help="what takes a frame: the rate, Enter in the terminal, or a call of ~/collect (std_srvs/srv/Trigger)",
    )
