"""Owns: the files that a comparison leaves: page, Markdown, JUnit XML, JSON, and which pictures are shown.

Oracles: the JUnit schema, an HTML parser. Leaves to others: the figures (test_comparison), the command
(test_evaluate_baseline).
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import tiny_bag
from compared import SECOND, answer, frame, frames, image
from tiny_bag import BLUE, GREEN, RED, START_NS, flat

from cnn_perception.comparison import compare
from cnn_perception.comparison.model_card import ModelCard
from cnn_perception.comparison.report.files import texts_of
from cnn_perception.comparison.report.page import wanted
from cnn_perception.comparison.report.pictures import MOST_PICTURES, chosen, pictures_of, pictures_of_bags, reduced
from cnn_perception.comparison.report.record import ComparisonReport
from cnn_perception.errors import FrameError
from cnn_perception.image.appearance import Appearance
from cnn_perception.image.messages import AS_SENT, EncodedImage

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\" onload='x' & ",
    "two\n<b>lines</b>",
    "a|b `c` [d](e) *f*",
    "\udcff",
    "\x00\x1b[2J",
    "{{ 1 }}",
    "]]>",
    "@team #1",
)


def report(rows, names=("red", "blue"), text="drive", **options) -> ComparisonReport:
    comparison = compare(rows, names, **options)
    picture = np.full((20, 30, 3), 90, np.uint8)
    card = ModelCard(f"{text}.onnx", "ab" * 32, "multiclass", tuple(names), (), has_unknown_rule=False)
    return ComparisonReport(
        comparison=comparison,
        ours=card,
        theirs=card,
        source=text,
        is_passed=not comparison.verdict.fails("pass"),
        created="2026-01-31T12:00:00",
        pictures={(one.frame.bag, one.frame.topic, one.frame.index): picture for one in wanted(comparison)},
    )


def rows_of(name: str, other: str) -> list:
    """Sixty frames of two bags, cameras and classes, of which a third changed."""
    rows = []
    for index in range(60):
        truth, wrong = (name, other) if index % 2 else (other, name)
        ours = wrong if index % 3 == 0 else truth
        place = {
            "bag": f"{name} {index // 30}",
            "topic": f"/{name}/{index % 2}",
            "look": Appearance(index / 60, index % 7),
        }
        rows.append(frame(index, truth, truth, ours, **place))
    return rows


# ---- JUnit XML

SCHEMA = {
    "testsuites": ({}, {}, ["testsuite*"]),
    "testsuite": (
        {
            "name": r".+",
            "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
            "hostname": r".+",
            "tests": r"\d+",
            "failures": r"\d+",
            "errors": r"\d+",
            "time": r"\d+(\.\d+)?",
            "package": r".*",
            "id": r"\d+",
        },
        {"skipped": r"\d+"},
        ["properties", "testcase*", "system-out", "system-err"],
    ),
    "properties": ({}, {}, ["property*"]),
    "property": ({"name": r".+", "value": r"(?s).*"}, {}, []),
    "testcase": ({"name": r"(?s).*", "classname": r".*", "time": r"\d+(\.\d+)?"}, {}, ["failure?"]),
    "failure": ({"type": r".*"}, {"message": r"(?s).*"}, []),
    "system-out": ({}, {}, []),
    "system-err": ({}, {}, []),
}
"""Of each element: what it must have, what it may have, and its children in order.

Source: windyroad/JUnit-Schema, JUnit.xsd at 2378e66, of Ant's JUnit task.
"""


def require_valid(element: Xml.Element) -> None:
    needed, allowed, children = SCHEMA[element.tag]
    assert set(needed) <= set(element.attrib) <= set(needed) | set(allowed), element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch((needed | allowed)[name], value), (element.tag, name, value)
    pattern = "".join(f"({name.rstrip('*?')} ){name[-1] if name[-1] in '*?' else ''}" for name in children)
    assert re.fullmatch(pattern, "".join(f"{child.tag} " for child in element)), element.tag
    for child in element:
        require_valid(child)


def junit(text: str) -> Xml.Element:
    root = Xml.fromstring(text.encode())
    require_valid(root)
    return root


@pytest.mark.parametrize("name", ["red", *HOSTILE])
def test_junit_xml_is_valid_whatever_things_are_called(name):
    root = junit(texts_of(report(rows_of(name, "blue"), (name, "blue"), text=name))["comparison.xml"])

    suite = root[0]
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    assert suite.get("failures") == str(len(root.findall(".//failure")))


def test_junit_xml_has_a_case_for_all_frames_and_for_each_part_and_fails_where_it_is_worse():
    rows = [frame(index, "red" if index % 2 else "blue", "red" if index % 2 else "blue", "red") for index in range(80)]

    root = junit(texts_of(report(rows))["comparison.xml"])

    failed = {case.get("name"): case.find("failure") is not None for case in root.iter("testcase")}
    assert failed == {"all frames": True, "class: blue": True, "class: red": False}
    text = root.find(".//failure")
    assert text is not None
    assert text.get("message", "").startswith("worse: 50.0 points")


def test_junit_xml_of_equal_models_has_no_failure():
    root = junit(texts_of(report(frames({("red", "red", "red"): 20})))["comparison.xml"])

    assert root.findall(".//failure") == []


# ---- Markdown


@pytest.mark.parametrize("classes", [2, 300])
def test_the_summary_for_a_pull_request_is_short(classes):
    names = tuple(f"class {number}" for number in range(classes))
    rows = [frame(index, names[index % classes], names[index % classes], names[0]) for index in range(900)]

    text = texts_of(report(rows, names))["comparison.md"]

    assert len(text.splitlines()) < 60
    assert text.startswith("## Worse: ")
    assert "The smallest loss that could have been shown: " in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {5, 7}
    assert ("further parts" in text) is (classes > 15)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_markdown_or_html_in_the_summary(name):
    text = texts_of(report(rows_of(name, "blue"), (name, "blue"), text=name))["comparison.md"]

    assert text.isascii() or text.encode()
    assert "<" not in text
    unescaped = re.sub(r"\\.", "", text)
    rows = [line for line in unescaped.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5, 7}
    assert "`" not in unescaped
    assert "](" not in unescaped


# ---- the page


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_changes_the_structure_of_the_page(name):
    harmless = Structure(texts_of(report(rows_of("x", "blue"), ("x", "blue"), text="x"))["comparison.html"])
    hostile = Structure(texts_of(report(rows_of(name, "blue"), (name, "blue"), text=name))["comparison.html"])

    assert hostile.tags == harmless.tags
    if "\x00" not in name:  # which no HTML can hold
        assert any(name.replace("\udcff", "\\udcff") in text for text in hostile.texts)


def test_the_page_needs_no_other_file_and_no_script():
    found = Structure(texts_of(report(rows_of("red", "blue")))["comparison.html"])

    assert not {"script", "link", "a"} & {tag for tag, _ in found.tags}
    assert len(found.sources) == MOST_PICTURES
    assert all(source.startswith("data:image/jpeg;base64,") for source in found.sources)


def test_the_page_says_verdict_smallest_loss_and_both_answers():
    rows = [frame(index, "red", "red", "blue" if index % 2 else "red") for index in range(40)]

    text = " ".join(" ".join(Structure(texts_of(report(rows))["comparison.html"]).texts).split())

    assert "Worse: 50.0 points" in text
    assert "The smallest loss that they could have shown" in text
    assert "20 frames newly wrong" in text
    assert "now blue , before red; is red" in text
    assert "/camera, frame 1, stamp 1.000 s" in text


def test_a_picture_that_could_not_be_read_is_said():
    rows = [frame(index, "red", "red", "blue") for index in range(4)]
    full = report(rows)
    without = ComparisonReport(**{**vars(full), "pictures": {}})

    assert texts_of(without)["comparison.html"].count("the picture could not be read") == 4


def test_numbers_are_shown_in_their_unit():
    rows = [frame(index, (1.0,), (1.5,), (1.25,)) for index in range(40)]
    numbers = report(rows, ("x",), units=("m",))

    texts = texts_of(numbers)

    assert "| error of x | 0.5 m | 0.25 m | +0.25 (+0.25 to +0.25) m |" in texts["comparison.md"]
    assert "better: 50.0 % of the baseline's error" in texts["comparison.html"].replace("&#39;", "'").replace(
        "Better", "better"
    )
    assert "40 frames of a smaller error" in texts["comparison.html"]


# ---- JSON


def test_the_record_holds_every_figure_and_the_frames_that_changed():
    rows = [*rows_of("red", "blue"), frame(60, "red", answer(None), "red", bag="red 1", topic="/red/0")]

    record = json.loads(texts_of(report(rows))["comparison.json"])

    assert (record["frames"], record["bags"], record["lost_frames"], record["gained_frames"]) == (61, 2, 20, 1)
    assert record["lost"][0] == {
        "bag": "red 0",
        "topic": "/red/0",
        "file": "",
        "index": 0,
        "stamp_ns": 0,
        "received_ns": SECOND,
        "truth": "blue",
        "baseline": "blue",
        "model": "red",
        "gain": -1.0,
    }
    assert record["gained"][0]["baseline"] is None
    assert record["headline"]["ours"] == pytest.approx(41 / 61)
    assert record["verdict"]["text"]
    assert {part["kind"] for part in record["slices"]} == {"bag", "topic", "picture", "class"}


def test_of_very_many_changed_frames_the_record_counts_all_and_lists_some():
    record = json.loads(
        texts_of(report([image(index, "red", "red", "blue") for index in range(1500)]))["comparison.json"]
    )

    assert (record["lost_frames"], len(record["lost"])) == (1500, 1000)


# ---- pictures


def test_frames_within_a_second_are_one_picture_the_middle_one():
    rows = [frame(index, "red", "red", "blue", time_ns=SECOND + index * SECOND // 10) for index in range(30)]
    rows += [frame(index, "red", "red", "blue", time_ns=SECOND + index * SECOND // 10) for index in (60, 61, 62, 90)]

    found = chosen(compare(rows, ("red", "blue")).lost)

    assert found.events == 3
    assert [one.frame.index for one in found.frames] == [15, 61, 90]


def test_another_kind_of_change_is_another_event():
    answers = ["blue", "blue", "green", "green", "blue", "blue"]
    rows = [frame(i, "red", "red", one, time_ns=SECOND + i * SECOND // 10) for i, one in enumerate(answers)]

    found = chosen(compare(rows, ("red", "blue")).lost)

    assert [one.frame.index for one in found.frames] == [1, 3, 5]


def test_of_many_events_the_longest_are_shown_in_order_of_time():
    lengths = [1 + (number * 7) % 20 for number in range(20)]
    rows = []
    for number, length in enumerate(lengths):
        for step in range(length):
            rows.append(frame(len(rows), "red", "red", "blue", time_ns=(1 + 100 * number) * SECOND + step))

    found = chosen(compare(rows, ("red", "blue")).lost)

    shown = [one.frame.time_ns // (100 * SECOND) for one in found.frames]
    assert (found.events, len(shown)) == (20, MOST_PICTURES)
    assert shown == sorted(sorted(range(20), key=lambda number: -lengths[number])[:MOST_PICTURES])


def test_of_equal_events_some_of_each_kind_are_shown():
    rows = [image(index, f"class {index // 30}", f"class {index // 30}", "other") for index in range(120)]

    found = chosen(compare(rows).lost)

    counts = [sum(one.frame.truth == f"class {number}" for one in found.frames) for number in range(4)]
    assert counts == [3, 3, 3, 3]


def test_of_numbers_the_largest_changes_are_shown():
    """Of each second the largest; every frame has another error."""
    rows = [frame(index, (0.0,), (0.0,), (1.0 + index,), time_ns=SECOND + index * SECOND // 4) for index in range(160)]

    found = chosen(compare(rows, ("x",)).lost)

    assert [one.frame.index for one in found.frames] == list(range(115, 160, 4))
    assert found.events == 40


class Read:
    def __init__(self, content) -> None:
        self.content = content


def test_only_wanted_pictures_are_decoded_and_no_frame_after_them_is_read():
    def pixels(value: int) -> EncodedImage:
        return EncodedImage(bytes([value]) * 12, "rgb8", 2, 2, 6, is_bigendian=False)

    def stream():
        yield Read(pixels(10))
        yield Read(FrameError("message", "damaged"))
        yield Read(EncodedImage(b"", "rgb8", 2, 2, 6, is_bigendian=False))
        yield Read(pixels(40))
        raise AssertionError

    found = pictures_of(stream(), {1, 2, 3})

    assert {index: int(one[0, 0, 0]) for index, one in found.items()} == {3: 40}
    assert pictures_of(stream(), set()) == {}


def test_pictures_of_several_bags_are_read_by_bag_topic_and_index(tmp_path):
    for name, colours in (("monday", (RED, GREEN)), ("friday", (BLUE, RED))):
        messages = [("/camera", START_NS + n, tiny_bag.raw(flat(one), START_NS + n)) for n, one in enumerate(colours)]
        tiny_bag.write_bag(tmp_path / name, messages)
    places = [("monday", 1), ("friday", 0), ("gone", 0)]
    rows = [frame(index, "red", "red", "blue", bag=str(tmp_path / name)) for name, index in places]

    found = pictures_of_bags(compare(rows, ("red", "blue")).lost, AS_SENT)

    assert {key: tuple(one[0, 0].tolist()) for key, one in found.items()} == {
        (str(tmp_path / "monday"), "/camera", 1): GREEN,
        (str(tmp_path / "friday"), "/camera", 0): BLUE,
    }


@pytest.mark.parametrize(
    ("shape", "expected"), [((20, 30), (20, 30)), ((480, 960), (240, 480)), ((1440, 100), (720, 50))]
)
def test_large_pictures_are_reduced_in_their_shape(shape, expected):
    assert reduced(np.zeros((*shape, 3), np.uint8)).shape[:2] == expected
