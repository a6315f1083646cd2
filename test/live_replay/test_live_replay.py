"""Owns: `evaluate_bag --live` as real processes over real DDS: every frame accounted for, no node left behind.

Leaves to others: the arithmetic (test_accounts, test_over_time), what the node does with a frame (test_node).
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluating import Page
from paths import ROOT
from tiny_bag import (
    BLUE,
    CAMERA,
    GREEN,
    IMAGE,
    RED,
    SQLITE,
    START_NS,
    McapWriter,
    compressed,
    edit,
    flat,
    payload,
    raw,
    string,
    write_bag,
)
from tiny_model import regression_spec, write_tiny_model

from cnn_perception.errors import ConfigError
from cnn_perception.evaluation import cli
from cnn_perception.live_replay.domain import free_domain

TIMEOUT_S = 90.0
STEP_NS = 50_000_000
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}
TRUTH = [name for name in COLOURS for _ in range(10)]
UNREADABLE, TRUNCATED, MISNAMED = 4, 15, 25
NOT_UTF_8, LONGER = 7, 22


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.onnx")


def odd_bag(path: Path) -> Path:
    """30 images at 20 Hz with a class each: one is no message, one is cut short, one has an unknown encoding.

    Two are as ROS 2 takes them and the standard does not.
    """
    messages = []
    for index, name in enumerate(TRUTH):
        time_ns = START_NS + index * STEP_NS
        image = raw(flat(COLOURS[name]), time_ns)
        if index == TRUNCATED:
            image.data = image.data[:100]
        if index == MISNAMED:
            image.encoding = "nonsense"
        bytes_ = b"\0\1\0\0no image" if index == UNREADABLE else payload(image)
        if index == NOT_UTF_8:
            bytes_ = bytes_.replace(b"camera", b"cam\xe9ra")
        if index == LONGER:
            bytes_ += bytes(64)
        messages += [(2, time_ns, payload(string(name))), (1, time_ns, bytes_)]
    labels = ("/truth", "cdr", "std_msgs/msg/String", "ros2msg")
    return McapWriter([("/camera/image_raw", "cdr", IMAGE, "ros2msg"), labels], messages).write(path)


def long_bag(path: Path) -> Path:
    """A minute at 5 Hz, of which no test waits for the end."""
    times = [START_NS + n * 200_000_000 for n in range(300)]
    return write_bag(path, [("/camera/image_raw", time_ns, raw(flat(RED), time_ns)) for time_ns in times])


def command(bag: Path, model: Path, output: Path, *arguments: object) -> list[str]:
    words = ["--bag", bag, "--live", "--model", model, "--output", output, "--providers", "CPUExecutionProvider"]
    return list(map(str, [*words, *arguments]))


def report_of(output: Path) -> dict:
    return json.loads((output / "live.json").read_text())


@pytest.fixture(scope="module")
def held(tmp_path_factory, model) -> tuple[int, dict, list[dict[str, str]], Path]:
    """The odd bag through a node that holds on to its first answer: exit code, report, table and folder."""
    folder = tmp_path_factory.mktemp("held")
    given = "{hold_s: 3600.0, top_k: 2, misspelt: 1, model: /nowhere.onnx, autostart: false}"
    (folder / "node.yaml").write_text(f"perception_node:\n  ros__parameters: {given}\n")
    output = folder / "out"
    arguments = ["--labels", "/truth", "--params", folder / "node.yaml", "--rate", "2"]
    code = cli.main(command(odd_bag(folder / "odd.mcap"), model, output, *arguments))
    with (output / "live.csv").open() as file:
        return code, report_of(output), list(csv.DictReader(file)), output


def test_every_frame_is_accounted_for_by_the_nodes_own_counters(held):
    code, report, rows, _ = held
    frames = report["frames"]

    assert code == 0, report["remarks"]
    assert (frames["in_bag"], frames["unreadable"], frames["published"]) == (30, 1, 29)
    known = frames["answered"] + frames["lost"] + frames["overtaken"] + sum(frames["dropped"].values())
    assert known == 29
    assert (frames["unaccounted"], frames["unheard"], frames["unplayed"]) == (0, 0, 0)
    assert set(frames["dropped"]) <= {"truncated", "encoding"}
    assert [int(row["index"]) for row in rows] == [index for index in range(30) if index != UNREADABLE]


def test_messages_that_only_a_lenient_reader_takes_are_played_and_told(held):
    _, report, rows, _ = held

    assert {NOT_UTF_8, LONGER} <= {int(row["index"]) for row in rows}
    (warning,) = [line for line in report["warnings"] if "standard" in line]
    assert "/camera/image_raw: 2 of 29 messages are not serialised as the standard demands" in warning


def test_the_same_frame_has_the_same_answer_as_offline(held):
    _, report, rows, _ = held

    assert report["agreement"]["compared"] == report["frames"]["answered"] > 0
    assert report["agreement"]["same"] == report["agreement"]["compared"]
    assert {row["raw"] for row in rows if row["truth"] == "blue"} <= {"blue", ""}
    assert report["raw"]["scores"]["accuracy"]["value"] == 1.0


def test_what_is_held_is_counted_and_costs_accuracy_as_a_robot_lives_it(held):
    _, report, rows, _ = held
    answered = [row for row in rows if row["answer"]]
    red = sum(row["truth"] == "red" for row in answered)

    assert {row["answer"] for row in answered} == {"red"}
    assert report["steadiness"]["held"] == len(answered) - red
    assert report["answers"]["scores"]["accuracy"]["value"] == pytest.approx(red / len(answered))
    assert report["answers"]["changes_per_minute"] == 0.0
    assert report["answers"]["change_delays"]["missed"] == 2
    assert report["answers"]["in_time"]["accuracy"] < report["raw"]["in_time"]["accuracy"]


def test_ages_are_those_of_every_answer_and_the_node_is_measured(held):
    _, report, _, output = held

    assert report["age_ms"]["count"] == report["frames"]["answered"]
    assert 0 < report["age_ms"]["p50_ms"] <= report["age_ms"]["p95_ms"] <= report["age_ms"]["p99_ms"]
    assert report["node"]["cpu_s"] > 0
    assert report["node"]["peak_mb"] > 10
    assert {"decode", "inference", "age"} <= report["node"]["stages_ms"].keys()
    assert "active: waiting for images on /camera/image_raw" in (output / "node.log").read_text()


def test_the_page_holds_the_accounts_and_what_the_node_complained_of(held):
    _, report, _, output = held
    text = (output / "live.html").read_text()

    Page(text)
    assert "1 messages are no image of the topic" in text
    assert any("misspelt" in line for line in report["node"]["said"])
    assert "misspelt" in text


def test_labels_that_belong_to_no_frame_fail_what_is_required_of_a_node(tmp_path, model):
    messages = [("/camera/image_raw", START_NS + n * STEP_NS, raw(flat(RED), START_NS + n * STEP_NS)) for n in range(5)]
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,9,red\n50,60,blue\n")
    bag = write_bag(tmp_path / "bag", messages)

    code = cli.main(command(bag, model, tmp_path / "out", "--labels", labels, "--min-accuracy", 0.9))

    report = report_of(tmp_path / "out")
    assert (code, report["complete"], report["passed"]) == (2, False, True)
    assert report["remarks"] == [
        f"{labels}: no frame lies in 1 of 2 labelled intervals, such as 50 to 60 s; see --labels-start, or remove them"
    ]


def test_no_node_is_left_behind(held):
    assert nodes_of(os.getpid()) == []


# ---- as processes, with signals


class Replay:
    """`evaluate_bag --live` as a process of its own, and the number of its node once it plays."""

    def __init__(self, *arguments: str) -> None:
        words = [sys.executable, "-m", "cnn_perception.evaluation", *arguments]
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def node(self) -> int:
        """Waits until it plays; returns the number of the node's process."""
        return self.node_and_domain()[0]

    def node_and_domain(self) -> tuple[int, int]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.match(r"playing .* process (\d+), in ROS domain (\d+)", line):
                return int(found[1]), int(found[2])
        raise AssertionError("it never played")

    def end(self) -> tuple[int, str]:
        """Returns the exit code and what it still said."""
        _, said = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, said


@pytest.fixture
def replay() -> Iterator[type[Replay]]:
    started: list[Replay] = []

    def start(*arguments: str) -> Replay:
        started.append(Replay(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def nodes_of(pid: int) -> list[int]:
    """The children of a process that are perception nodes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    # A fork server of other tests in this process may name the module, too, among those that it has imported.
    words = (b"cnn_perception.perception_node", b"--ros-args")
    return [child for child, line in commands.items() if all(word in line for word in words)]


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z":
        assert time.monotonic() < deadline, f"the node {pid} is still there"
        time.sleep(0.05)


def test_a_node_that_dies_in_the_middle_is_told_with_its_exit_code_and_its_last_line(tmp_path, model, replay):
    one = replay(*command(long_bag(tmp_path / "bag"), model, tmp_path / "out"))
    os.kill(one.node(), signal.SIGKILL)

    code, said = one.end()

    assert code == 2
    assert re.search(r"error: after \d+ published images: perception_node was ended by signal 9 \(SIGKILL\)", said)
    assert "the last line of its log" in said
    report = report_of(tmp_path / "out")
    assert not report["complete"]
    frames = report["frames"]
    assert frames["published"] + frames["unplayed"] == frames["in_bag"] == 300


def test_ctrl_c_ends_the_node_and_leaves_a_report_of_what_was_done(tmp_path, model, replay):
    one = replay(*command(long_bag(tmp_path / "bag"), model, tmp_path / "out"))
    node = one.node()
    one.process.send_signal(signal.SIGINT)

    code, said = one.end()

    assert code == 130
    assert "Traceback" not in said
    wait_until_gone(node)
    report = report_of(tmp_path / "out")
    assert report["interrupted"]
    assert report["frames"]["unaccounted"] == 0


def test_the_node_goes_with_a_replay_that_is_killed_and_until_then_its_domain_is_seen_to_be_in_use(
    tmp_path, model, replay, monkeypatch
):
    one = replay(*command(long_bag(tmp_path / "bag"), model, tmp_path / "out"))
    node, number = one.node_and_domain()
    monkeypatch.setattr("cnn_perception.live_replay.domain._DOMAINS", range(number, number + 1))
    monkeypatch.setattr("cnn_perception.live_replay.domain.claim_address", lambda _: "\0a program that claims nothing")
    with pytest.raises(ConfigError, match="in use"), free_domain():
        pass

    one.process.kill()

    wait_until_gone(node)


def test_two_replays_beside_each_other_do_not_hear_each_other(tmp_path, model, replay):
    """One of compressed images without stamps, best effort, for numbers; the other of plain ones for classes."""
    steer = write_tiny_model(tmp_path / "steer.onnx", spec=regression_spec({"a": "rad", "b": "", "c": ""}))
    times = [START_NS + n * STEP_NS for n in range(20)]
    jpegs = [("/cam-1/jpegs of 2", time_ns, compressed(flat(GREEN), 0)) for time_ns in times]
    packed = write_bag(tmp_path / "packed", jpegs, storage=SQLITE)

    def as_best_effort(entries):
        entries[0]["topic_metadata"]["offered_qos_profiles"] = [{"reliability": "best_effort", "depth": 5}]
        return entries

    edit(packed, topics_with_message_count=as_best_effort)
    plain = write_bag(tmp_path / "plain", [("/image_raw", time_ns, raw(flat(RED), time_ns)) for time_ns in times])

    both = [
        replay(*command(packed, steer, tmp_path / "numbers")),
        replay(*command(plain, model, tmp_path / "classes")),
    ]
    ends = [one.end() for one in both]

    assert [code for code, _ in ends] == [0, 0], ends
    numbers, classes = (report_of(tmp_path / name) for name in ("numbers", "classes"))
    for report in (numbers, classes):
        assert report["frames"]["published"] == 20
        assert report["frames"]["unaccounted"] == report["answers"]["strangers"] == 0
    assert numbers["qos"] == "best effort"
    assert numbers["played_on"] == "/camera/image_raw/compressed"  # ROS 2 takes no such name as in the bag
    assert classes["played_on"] == "/image_raw"
    assert numbers["odd"] == {"stamp_zero": numbers["frames"]["answered"]}
    assert "20 of 20 frames have no stamp" in numbers["warnings"][0]
    assert classes["agreement"]["same"] == classes["frames"]["answered"]


def test_images_that_had_all_waited_for_the_recorder_are_accounted_for(tmp_path, model):
    """They are published at once, and most are overtaken before the node takes its first one."""
    times = [START_NS + n * 1000 for n in range(9)] + [START_NS + 10**9 + n * STEP_NS for n in range(6)]
    stamps = [START_NS + n * STEP_NS for n in range(15)]
    images = [
        ("/image_raw", time_ns, raw(flat(GREEN, 480, 640), stamp_ns))
        for time_ns, stamp_ns in zip(times, stamps, strict=True)
    ]

    code = cli.main(command(write_bag(tmp_path / "bag", images), model, tmp_path / "out"))

    report = report_of(tmp_path / "out")
    frames = report["frames"]
    assert (code, report["remarks"], frames["unaccounted"]) == (0, [], 0)
    assert frames["answered"] + frames["overtaken"] == frames["published"] == 15


def test_a_node_that_does_not_get_ready_in_time_is_told_with_its_log(tmp_path, model, capsys):
    bag = long_bag(tmp_path / "bag")

    assert cli.main(command(bag, model, tmp_path / "out", "--start-limit", "0.01")) == 2

    said = capsys.readouterr().err
    assert re.fullmatch(r"error: after 0\.01 s \(--start-limit\) there is still no active perception_node; .*\n", said)
    assert str(tmp_path / "out" / "node.log") in said
    assert nodes_of(os.getpid()) == []


def test_a_node_that_cannot_start_is_told_with_its_exit_code_and_its_reason(tmp_path, model, capsys):
    (tmp_path / "node.yaml").write_text("/**:\n  ros__parameters: {top_k: 0}\n")

    arguments = command(long_bag(tmp_path / "bag"), model, tmp_path / "out", "--params", tmp_path / "node.yaml")
    assert cli.main(arguments) == 2

    said = capsys.readouterr().err
    assert "perception_node ended with exit code 2; the last line of its log" in said
    assert "Parameter top_k out of range" in said


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rate", "0"], "--rate is 0.0; choose 0.01 to 100"),
        (["--rate", "nan"], "--rate is nan"),
        (["--start-limit", "-1"], "--start-limit is -1.0"),
        (["--params", "/nowhere.yaml"], "there is no such file"),
        (["--topic", "/nowhere"], "there is no topic /nowhere"),
        (["--max-mae", "1", "--labels", "/truth"], "is for numbers"),
        (["--min-accuracy", "0.5"], "needs --labels"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_node_is_started(tmp_path, model, capsys, arguments, text):
    bag = write_bag(
        tmp_path / "bag", [(CAMERA[0], START_NS, raw(flat(RED), START_NS)), ("/truth", START_NS, string("red"))]
    )

    assert cli.main(command(bag, model, tmp_path / "out", *arguments)) == 2

    assert text in capsys.readouterr().err
    assert not (tmp_path / "out" / "node.log").exists()
