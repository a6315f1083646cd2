"""Owns: what is said of several bags beside their pooled figures: slices, copies, texts from outside, other tasks.

Oracle: hand arithmetic on frames made here; the page of harmless names. Leaves to others: how bags are evaluated
(test_several), the intervals (test_time_blocks).
"""

from __future__ import annotations

import csv
import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tiny_bag import START_NS
from tiny_model import as_multilabel, regression_spec, tiny_spec

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK, DataError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.options import EvaluationOptions
from cnn_perception.evaluation.recording.facts import recording_facts
from cnn_perception.evaluation.recording.sampling import blocks_of
from cnn_perception.evaluation.report_record import ModelRecord, Report, Target, worst_frame
from cnn_perception.evaluation.scores import score
from cnn_perception.evaluation.several.one_bag import BagResult
from cnn_perception.evaluation.several.page import link_to, render_bags
from cnn_perception.evaluation.several.pooled import PooledReport, pool
from cnn_perception.evaluation.several.sources import BagSource
from cnn_perception.image.appearance import Appearance
from cnn_perception.jobs.outcome import INTERRUPTED, Outcome
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction

HOUR_NS = 3600 * 10**9
COLOURS = tiny_spec()
HOSTILE = (
    "</td><script>alert(1)</script>",
    "\" onload='x' & ",
    "javascript:alert(1)",
    "two\nlines",
    "\udcff",
    "{{ 1 }}",
)


def frame(index: int, truth, spec: ModelSpec, is_right: bool, hour: int = 0, dark: bool = False) -> FrameRecord:
    count = len(spec.class_names)
    if spec.task == "regression":
        values = np.array(truth, np.float32) + (0.0 if is_right else 1.0)
    else:
        known = truth if isinstance(truth, str) else min(truth)
        values = np.full(count, 0.1, np.float32)
        values[(spec.class_names.index(known) + (not is_right)) % count] = 0.8
    prediction = Prediction(
        spec.class_names,
        values if spec.task != "regression" else np.empty(0, np.float32),
        int(values.argmax()),
        None,
        np.empty(0, np.float32),
        task=spec.task,
        values=values if spec.task == "regression" else np.empty(0, np.float32),
        units=spec.units,
        thresholds=np.array(spec.thresholds, np.float32),
    )
    received_ns = START_NS - START_NS % HOUR_NS + hour * HOUR_NS + index * 10**8
    look = Appearance((0.1 if dark else 0.5) + 1e-4 * index, 10.0 + index % 7)
    return FrameRecord(index, "", received_ns, 0.1 * index, truth, received_ns=received_ns).answered(prediction, look)


def result(records: list[FrameRecord], spec: ModelSpec, text: str = "x", **changes: object) -> BagResult:
    report = Report(
        complete=True,
        remarks=(),
        warnings=(text,),
        source=text,
        topic=f"/{text}",
        encoding="",
        significant_bits=0,
        labels=text,
        model=ModelRecord(text, text, text, text, spec),
        threshold=0.0,
        target=None,
        passed=None,
        latency={},
        frames_per_second=1.0,
        ignored={},
        scores=score(records, spec, 0.0, blocks_of([records])),
        worst=tuple(worst_frame(record, spec) for record in records[:3]),
        recording=recording_facts(records, ()),
    )
    return BagResult(dataclasses.replace(report, **changes), records, interrupted=False)


def pooled(results: dict[str, BagResult | str], each: Target | None = None, **options: object) -> PooledReport:
    """The report of bags by name; a text in place of a result is why there is none."""
    sources = [BagSource(Path("/bags") / str(index), name) for index, name in enumerate(results)]
    outcomes = [
        Outcome(index, None, one, 2) if isinstance(one, str) else Outcome(index, one)
        for index, one in enumerate(results.values())
    ]
    given = EvaluationOptions(Path("m"), Path("out"), bag=sources[0].path, labels="/label", **options)
    return pool(sources, outcomes, given, each, [], 1.0)


def drive(count: int, wrong: range, spec: ModelSpec = COLOURS, truth: object = "red", **where: object):
    return [frame(index, truth, spec, index not in wrong, **where) for index in range(count)]


def test_a_slice_is_the_frames_of_a_bag_topic_hour_class_and_look():
    night = drive(100, range(40, 90), hour=23, dark=True, truth="green")
    day = drive(300, range(250, 260), hour=12)

    found = pooled({"night": result(night, COLOURS, "rear"), "day": result(day, COLOURS, "front")})

    slices = {(one.kind, one.name): one for one in found.slices}
    for kind, name in (("bag", "night"), ("topic", "/rear"), ("class", "green"), ("hour (UTC)", "21")):
        assert (kind, name) in slices, slices.keys()
        assert (slices[kind, name].frames, slices[kind, name].value) == (100, 0.5)
        assert slices[kind, name].independent_frames < 50
    assert slices["bag", "day"].value == pytest.approx(290 / 300)
    (dark,) = [one for (_, name), one in slices.items() if name.startswith("the darkest quarter")]
    assert (dark.frames, dark.value) == (100, 0.5)
    assert found.slices[0].value == 0.5


def test_only_what_cannot_be_chance_is_called_worse():
    random = np.random.default_rng(0)
    alike = [[frame(n, "red", COLOURS, bool(random.random() < 0.9), hour=k) for n in range(200)] for k in range(6)]
    plain = pooled({f"{k}": result(records, COLOURS) for k, records in enumerate(alike)})

    bad = [frame(n, "red", COLOURS, bool(random.random() < 0.3), hour=7) for n in range(200)]
    odd = pooled({f"{k}": result(records, COLOURS) for k, records in enumerate([*alike, bad])})

    assert not [one for one in plain.slices if one.is_worse]
    assert {(one.kind, one.name) for one in odd.slices if one.is_worse} >= {("bag", "6")}
    assert not [one for one in odd.slices if one.kind == "bag" and one.name != "6" and one.is_worse]


def test_small_slices_are_not_shown():
    found = pooled({"a": result(drive(19, range(0)), COLOURS), "b": result(drive(60, range(5)), COLOURS)})

    assert ("bag", "a") not in {(one.kind, one.name) for one in found.slices}
    assert ("bag", "b") in {(one.kind, one.name) for one in found.slices}


def test_bags_that_look_like_copies_are_named():
    records = drive(30, range(3))

    found = pooled({"run": result(records, COLOURS), "copy": result(list(records), COLOURS)})

    assert [
        remark for remark in found.report.remarks if remark.startswith("run and copy hold images of the same times")
    ]
    assert found.report.complete


@pytest.mark.parametrize(
    ("changes", "limits", "each", "code"),
    [
        ({}, {}, None, EXIT_OK),
        ({}, {"min_accuracy": 0.9}, None, EXIT_OK),
        ({}, {"min_accuracy": 0.91}, None, EXIT_BELOW_TARGET),
        ({"passed": False}, {}, Target("top-1", 0.99), EXIT_BELOW_TARGET),
        ({"complete": False, "passed": False}, {"min_accuracy": 0.91}, None, EXIT_BAD_INPUT),
    ],
)
def test_the_exit_code_is_that_of_the_worst(changes, limits, each, code):
    one = result(drive(30, range(3)), COLOURS, **changes)

    found = pooled({"a": one, "b": result(drive(60, range(6), hour=3), COLOURS)}, each, **limits)

    assert found.exit_code == code
    assert pooled({"a": dataclasses.replace(one, interrupted=True)}).exit_code == EXIT_INTERRUPTED
    assert pooled({"a": one, "b": INTERRUPTED}).exit_code == EXIT_INTERRUPTED


def test_not_one_bag_is_an_error_that_says_why():
    with pytest.raises(DataError, match="not one of 2 bags could be evaluated: broken; killed"):
        pooled({"a": "broken", "b": "killed"})


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_bags_of_other_tasks_are_pooled_by_their_own_figures(task):
    spec = as_multilabel(COLOURS, 0.5, 0.5, 0.5) if task == "multilabel" else regression_spec({"speed": "m/s"})
    truth = frozenset({"red"}) if task == "multilabel" else (2.0,)
    first, second = drive(30, range(3), spec, truth), drive(60, range(30), spec, truth, hour=5)

    found = pooled({"a": result(first, spec), "b": result(second, spec)})

    figures = {figure.name: figure.value for figure in found.report.scores.figures(spec, 0.0)}
    wrong = 33 / 90
    if task == "multilabel":
        assert figures["frames with exactly the right classes"] == pytest.approx(1 - wrong)
    else:
        assert figures["MAE of speed, m/s"] == pytest.approx(wrong)
    (second_bag,) = [one for one in found.slices if (one.kind, one.name) == ("bag", "b")]
    assert (second_bag.value, second_bag.frames) == (0.5, 60)
    values = [one.value for one in found.slices]
    assert values == sorted(values, reverse=task == "regression")
    (row,) = [row for row in csv.DictReader(io.StringIO(found.bags_csv())) if row["bag"] == "a"]
    assert "0.100000" in row.values() or "0.900000" in row.values()
    assert Structure(render_bags(found, [*first, *second])).open == []


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes; its texts; where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(text: str) -> Structure:
    records = drive(40, range(5))
    other = drive(40, range(20), hour=2)
    found = pooled({text: result(records, COLOURS, text), "z": result(other, COLOURS, "another"), "y": text})
    return Structure(render_bags(found, [*records, *other]).encode().decode())


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_changes_the_structure_of_the_page_or_leads_elsewhere(text):
    found = page(text)

    assert found.tags == page("x").tags
    assert found.open == []
    assert all(link.startswith("./") for link in found.links)


def test_a_link_is_the_folder_of_the_bag_whatever_its_name():
    assert link_to("a b#1") == "./a%20b%231/report.html"
    assert link_to("\udcff") == "./%FF/report.html"
