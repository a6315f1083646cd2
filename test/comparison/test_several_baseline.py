"""Owns: `evaluate_bag --baseline` of several bags. Leaves to others: of one (test_evaluate_baseline)."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import tiny_bag
from evaluating import SECOND
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_WORSE
from cnn_perception.evaluation.cli import main


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> Path:
    """Two bags of thirty frames at 2 Hz; the bad model takes green for blue."""
    folder = tmp_path_factory.mktemp("drives")
    lines = ["bag,start_s,end_s,class"]
    for name, start_ns in (("monday", START_NS), ("friday", START_NS + 1000 * SECOND)):
        times = [start_ns + index * SECOND // 2 for index in range(30)]
        colours = (RED, GREEN, BLUE)
        frames = [("/camera", time, tiny_bag.raw(flat(colours[n % 3]), time)) for n, time in enumerate(times)]
        tiny_bag.write_bag(folder / "bags" / name, frames)
        kinds = ("red", "green", "blue")
        lines += [f"{name},{index / 2},{index / 2 + 0.5},{kinds[index % 3]}" for index in range(30)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    write_tiny_model(folder / "good.onnx")
    write_tiny_model(folder / "bad.onnx", bias=(0, -9, 0))
    assert evaluated(folder, "good.onnx", folder / "before")[0] == EXIT_OK
    return folder


def evaluated(folder: Path, model: str, output: Path, *more: object, bags: bool = True) -> tuple[int, dict]:
    given = ["--bag", folder / "bags"] if bags else []
    given += ["--labels", folder / "labels.csv", "--model", folder / model, "--output", output]
    code = main([str(one) for one in (*given, "--providers", "CPUExecutionProvider", "--no-video", *more)])
    record = output / "comparison.json"
    return code, json.loads(record.read_text()) if record.is_file() else {}


@pytest.mark.parametrize("baseline", ["before", "before/report.json", "good.onnx"])
def test_several_bags_are_compared_together(drives, tmp_path, capsys, baseline):
    code, found = evaluated(drives, "bad.onnx", tmp_path / "out", "--baseline", drives / baseline)

    assert code == EXIT_WORSE
    assert (found["frames"], found["bags"], found["lost_frames"], found["remarks"]) == (60, 2, 20, [])
    bags = {Path(part["name"]).name for part in found["slices"] if part["kind"] == "bag"}
    assert bags == {"monday", "friday"}
    assert "baseline   worse: 33.3 points" in capsys.readouterr().out
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.count("data:image/jpeg") == 12
    assert "could not be read" not in page


@pytest.mark.parametrize("baseline", ["out", "out/report.json", "out/monday", "out/friday/report.json"])
def test_a_baseline_that_would_be_removed_is_refused_and_left_as_it_was(drives, tmp_path, capsys, baseline):
    evaluated(drives, "good.onnx", tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    code, _ = evaluated(drives, "bad.onnx", tmp_path / "out", "--baseline", tmp_path / baseline)

    assert code == EXIT_BAD_INPUT
    assert capsys.readouterr().err.splitlines()[-1].endswith("is read, and would be overwritten; choose another output")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_bag_finds_its_own_report_among_several(drives, tmp_path):
    given = ("--baseline", drives / "before", "--bag", drives / "bags" / "monday")
    code, found = evaluated(drives, "bad.onnx", tmp_path / "out", *given, bags=False)

    assert (code, found["frames"], found["lost_frames"]) == (EXIT_WORSE, 30, 10)


def test_a_bag_that_is_not_among_several_is_told_to_name_one(drives, tmp_path, capsys):
    (tmp_path / "sunday").symlink_to(drives / "bags" / "monday")

    given = ("--baseline", drives / "before", "--bag", tmp_path / "sunday")
    code, _ = evaluated(drives, "bad.onnx", tmp_path / "out", *given, bags=False)

    assert code == EXIT_BAD_INPUT
    assert "before/report.json: is of several bags, none with this one's name" in capsys.readouterr().err


def test_a_comparison_without_a_broken_bag_says_so_and_no_server_takes_it_for_all(drives, tmp_path):
    (tmp_path / "broken.mcap").write_bytes(b"no bag")

    code, found = evaluated(
        drives, "good.onnx", tmp_path / "out", "--baseline", drives / "good.onnx", "--bag", tmp_path / "broken.mcap"
    )

    assert code == EXIT_BAD_INPUT
    assert (found["frames"], found["complete"]) == (60, False)
    assert found["remarks"][0].startswith("could not be evaluated: broken: not evaluated: ")
    suite = Xml.parse(tmp_path / "out" / "comparison.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    assert len(suite.findall("testcase/error")) == 1
    assert "**not everything could be evaluated**" in (tmp_path / "out" / "comparison.md").read_text()
