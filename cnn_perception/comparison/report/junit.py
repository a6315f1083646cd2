"""A comparison as JUnit XML, which CI servers show: a test case for all frames and one for each slice.

Source: the schema of Ant's JUnit task as windyroad/JUnit-Schema gives it, the strictest that is in use; Jenkins' and
GitLab's are wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from cnn_perception.comparison.comparison import Comparison, Measure
from cnn_perception.comparison.report import words
from cnn_perception.comparison.report.record import ComparisonReport
from cnn_perception.files import as_utf8

_SUITE = "evaluate_bag --baseline"


def junit_xml(report: ComparisonReport) -> str:
    """Returns the text of comparison.xml: a failure where the model is worse by more than is allowed, proven.

    What could not be evaluated is an error, so that no server takes the rest for all.
    """
    found = report.comparison
    cases = [_case("all frames", found.headline, found, "" if report.is_passed else found.verdict.text)]
    for part in found.slices:
        text = f"worse in this part: {words.gain(part.measure)} {found.points}" if part.is_loss_proven else ""
        cases.append(_case(f"{part.kind}: {part.name}", part.measure, found, text))
    if report.missing:
        cases.append(_error("everything was evaluated", report.missing))
    said = "\n".join((found.verdict.text, *report.remarks))
    return _text_of(cases, report.created, _properties(report), said)


def error_xml(reason: str, created: str) -> str:
    """Returns the text of comparison.xml where there was no comparison: an error alone.

    Args:
        reason: Why, in one line.
        created: When, ISO 8601.
    """
    return _text_of([_error("the models were compared", [reason])], created, [], "")


def _text_of(cases: Sequence[Xml.Element], created: str, facts: Sequence[tuple[str, str]], said: str) -> str:
    suite = Xml.Element(
        "testsuite",
        {
            "name": _SUITE,
            "package": "cnn_perception",
            "id": "0",
            "timestamp": created,
            "hostname": "localhost",
            "tests": str(len(cases)),
            "failures": str(sum(case.find("failure") is not None for case in cases)),
            "errors": str(sum(case.find("error") is not None for case in cases)),
            "time": "0",
        },
    )
    properties = Xml.SubElement(suite, "properties")
    for name, value in facts:
        Xml.SubElement(properties, "property", {"name": name, "value": _valid(value)})
    suite.extend(cases)
    Xml.SubElement(suite, "system-out").text = _valid(said)
    Xml.SubElement(suite, "system-err").text = ""
    root = Xml.Element("testsuites")
    root.append(suite)
    Xml.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Xml.tostring(root, encoding="unicode")}\n'


def _case(name: str, measure: Measure, found: Comparison, failure: str) -> Xml.Element:
    case = Xml.Element("testcase", {"classname": "comparison", "name": _valid(name), "time": "0"})
    if failure:
        figures = f"{measure.name}: baseline {words.figure(measure, measure.theirs)}, "
        figures += f"now {words.figure(measure, measure.ours)}, of {measure.difference.frames} frames"
        element = Xml.SubElement(case, "failure", {"type": "worse", "message": _valid(failure)})
        element.text = _valid(f"{failure}\n{figures}; gain {words.gain(measure)} {found.points}")
    return case


def _error(name: str, lines: Sequence[str]) -> Xml.Element:
    case = Xml.Element("testcase", {"classname": "comparison", "name": name, "time": "0"})
    element = Xml.SubElement(case, "error", {"type": "incomplete", "message": _valid(lines[0])})
    element.text = _valid("\n".join(lines))
    return case


def _properties(report: ComparisonReport) -> list[tuple[str, str]]:
    return [
        ("source", report.source),
        ("model", report.ours.path),
        ("model sha256", report.ours.sha256),
        ("baseline", report.theirs.path),
        ("baseline sha256", report.theirs.sha256),
        ("frames", str(report.comparison.frames)),
        ("smallest loss that could have been shown", words.detectable(report.comparison)),
    ]


def _valid(text: str) -> str:
    """Returns a text without what XML 1.0 cannot hold; control characters become escapes."""
    readable = as_utf8(text).decode()
    return "".join(one if _is_valid(one) else one.encode("unicode_escape").decode() for one in readable)


def _is_valid(one: str) -> bool:
    code = ord(one)
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
