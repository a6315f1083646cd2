"""Owns: which frames of recordings are told to be there more than once. Oracle: copies that are counted by hand.

Leaves to others: bags of the same times and number of images (test_pooled).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_bag
from evaluating import SECOND, run
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import write_tiny_model

from cnn_perception.errors import EXIT_OK
from cnn_perception.evaluation.cli import main
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.recording.copies import copies_among, copies_within


def record(index: int, stamp_ns: int, content: str = "abc", name: str = "") -> FrameRecord:
    return FrameRecord(index, name, stamp_ns, 0.0, None, content=content, received_ns=START_NS + index)


def image(n: int, delay_ns: int = 0) -> tuple[str, int, object]:
    """The n-th image of a camera at 10 Hz, as a recorder got it so long after its stamp."""
    time_ns = START_NS + n * SECOND // 10
    return "/camera", time_ns + delay_ns, tiny_bag.raw(flat([RED, GREEN, BLUE][n % 3]), time_ns)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_images_that_two_recorders_got_are_told_though_they_came_at_other_times(tmp_path, model):
    merged = sorted((image(n, delay) for n in range(8) for delay in ((0, 7_000_000) if n < 5 else (0,))), key=str)
    bag = tiny_bag.write_bag(tmp_path / "bag", merged)

    code, report, _ = run(tmp_path, model, "--bag", bag, "--labels", "", "--no-video")

    said = "5 of 13 frames have the stamp and the bytes of an earlier one: they count twice"
    assert (code, report["warnings"]) == (EXIT_OK, [said])


def test_a_clip_beside_the_recording_that_it_was_cut_of_is_told(tmp_path, model):
    for name, numbers in {"drive": range(9), "clip": range(3, 7), "later": range(20, 25)}.items():
        tiny_bag.write_bag(tmp_path / "bags" / name, [image(n) for n in numbers])

    output = tmp_path / "out"
    command = ["--bag", tmp_path / "bags", "--model", model, "--output", output, "--no-video"]
    code = main([*map(str, command), "--providers", "CPUExecutionProvider"])

    said = "clip and drive share 4 frames, by stamp and bytes: they count twice"
    assert (code, json.loads((output / "report.json").read_text())["warnings"]) == (EXIT_OK, [said])


def test_what_is_no_copy_is_not_told():
    frames = [
        *(record(n, 5, content) for n, content in enumerate("ab")),  # two cameras of one stamp
        *(record(n, n + 6) for n in range(2)),  # a scene that stands still
        *(record(n, 0) for n in range(2)),  # without a stamp nobody can tell
        *(record(n, 9, "") for n in range(2)),  # unreadable
        *(record(n, 10, "c", f"image 1, box {n}") for n in range(2)),
    ]

    assert copies_within(frames) == []
    assert copies_among({"one": frames, "other": [record(0, 99)]}) == []


def test_of_many_pairs_the_first_are_named_and_the_others_counted():
    lines = copies_among({str(n): [record(0, 5)] for n in range(5)})

    assert lines[0] == "0 and 1 share 1 frames, by stamp and bytes: they count twice"
    assert lines[5:] == ["5 other pairs of bags share frames, too"]
