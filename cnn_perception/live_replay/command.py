"""The way of `evaluate_bag --live`: from its command line to its exit code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cnn_perception.answers.command import one_bag, overrides, required, tell, verdict
from cnn_perception.answers.page import agreement_rows, stream_figures, time_words
from cnn_perception.commands import Done, there
from cnn_perception.errors import ConfigError, printable
from cnn_perception.evaluation.several.bag_labels import BagLabels
from cnn_perception.live_replay.node_options import NodeOptions
from cnn_perception.live_replay.page import frame_rows, pace_rows
from cnn_perception.live_replay.replay import LiveOptions, evaluate_live
from cnn_perception.live_replay.report import LiveReport


def replay_live(given: argparse.Namespace) -> int:
    """Returns the exit code after a replay as the command line says.

    Raises:
        PerceptionError: If an option, the bag, the labels or the model cannot be used, or the node does not get ready.
    """
    if given.model is None:
        raise ConfigError("name the model file: --model")
    node = NodeOptions(given.model, given.params, given.start_limit, overrides(given), given.providers)
    bag = one_bag(given)
    options = LiveOptions(
        bag=bag.path,
        output=given.output,
        node=node,
        topic=given.topic,
        labels=BagLabels(given.labels).of(bag),
        labels_start=given.labels_start,
        rate=given.rate,
        required=required(given),
    )
    report = evaluate_live(options, lambda text: print(text, file=sys.stderr, flush=True))
    tell(report.complete, report.remarks, report.warnings)
    print("\n".join(map(printable, _summary(report, options.output))))
    written = there(options.output, "live.json", "live.csv", "live.html")
    return Done(report.exit_code, record=options.output / "live.json", written=written)


def _summary(report: LiveReport, folder: Path) -> list[str]:
    rows = [*frame_rows(report), *pace_rows(report)[:2], *stream_figures(report.answers)[1:]]
    rows += agreement_rows(report.agreement, report.offline)
    lines = [f"{name}: {text}" for name, text in rows if text != "0"]
    if words := time_words(report.answers):
        lines.append(f"time       {words}")
    return [*lines, *verdict(report.required, report.passed), f"report     {folder / 'live.html'}"]
