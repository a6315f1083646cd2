"""Owns: what a node hands to its black box, and which of its answers and diagnoses are causes. The node is a stub.

Leaves to others: what the black box does with it (test_black_box), DDS (test_node_black_box).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from boxes import settings

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_parts import SaidLogger
from paths import UNWRITABLE
from rosbags.rosbag2 import Reader
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from tiny_bag import TYPES
from vision_msgs.msg import Classification, ObjectHypothesis

from cnn_perception.perception_node.black_box import node_box
from cnn_perception.perception_node.black_box.node_box import NodeBox
from cnn_perception.ros.supervised_executor import WaitingGroup

IMAGE = "sensor_msgs/msg/Image"


class Inputs:
    """Subscriptions of which nothing ever comes."""

    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


class Bench:
    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.logger = SaidLogger()
        self.served = served = dict[str, Any]()
        context = SimpleNamespace(ok=lambda: True)
        node: Any = SimpleNamespace(
            get_logger=lambda: self.logger,
            get_fully_qualified_name=lambda: "/robot/node",
            context=context,
            create_service=lambda _, name, callback, callback_group: served.update(
                {name: callback, "group": callback_group}
            ),
            create_subscription=lambda _, name, callback, depth: served.update({name: callback}),
        )
        self.box = NodeBox(node, settings(folder, **changes))
        self.box.start([])

    def call(self) -> tuple[bool, str]:
        """Calls the service; returns what it answers."""
        answer = self.served["~/save_black_box"](Trigger.Request(), Trigger.Response())
        return answer.success, answer.message

    def receive(self, text: str) -> None:
        self.served["~/black_box_trigger"](String(data=text))

    def saved(self) -> list[tuple[str, int, Any]]:
        """Ends the black box; returns what was saved: topic, log time, message."""
        self.box.stop()
        self.box.close()
        found = []
        for bag in sorted(self.folder.glob("*_*")):
            with Reader(bag) as reader:
                found += [(c.topic, ns, TYPES.deserialize_cdr(data, c.msgtype)) for c, ns, data in reader.messages()]
        return found

    def causes(self) -> list[str]:
        return [message.data for topic, _, message in self.saved() if topic == "/robot/node/black_box"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(node_box, "EveryMessage", Inputs)
    one = Bench(tmp_path)
    yield one
    one.box.close()


def test_answers_and_diagnoses_are_saved_as_they_were_published_with_the_time(bench: Bench):
    header = Header(stamp=Time(sec=3, nanosec=5), frame_id="optical")
    answer = Classification(header=header, results=[ObjectHypothesis(class_id="bee", score=0.75)])
    before_ns = time.time_ns()
    bench.box.keep("/robot/node/classification", answer)
    bench.box.note_diagnoses(DiagnosticArray(status=[DiagnosticStatus(name="x", message="fine")]), [])
    success, message = bench.call()
    assert success
    assert message.startswith(str(bench.folder))
    found = {topic: (time_ns, message) for topic, time_ns, message in bench.saved()}

    time_ns, message = found["/robot/node/classification"]
    assert before_ns <= time_ns <= time.time_ns()
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (3, 5, "optical")
    assert [(one.class_id, one.score) for one in message.results] == [("bee", 0.75)]
    assert found["/diagnostics"][1].status[0].message == "fine"


def test_drift_that_diagnoses_find_is_a_cause_with_its_topic(bench: Bench):
    cameras: Any = [
        SimpleNamespace(topic="/front", drift=SimpleNamespace(warnings=("the images are darker",))),
        SimpleNamespace(topic="/rear", drift=SimpleNamespace(warnings=())),
        SimpleNamespace(topic="/idle", drift=None),
    ]
    bench.box.note_diagnoses(DiagnosticArray(), cameras)
    assert bench.causes() == ["drift: /front: the images are darker"]


def test_dispute_with_the_shadow_and_a_streak_of_unknowns_are_causes(bench: Bench):
    shadow: Any = SimpleNamespace(disputes=(0, ""))
    for count in (0, 1, 1):
        shadow.disputes = (count, "front 1.000: ant 99%, shadow bee 98%")
        bench.box.note_answer("/front", True, shadow)
    bench.box.note_answer("/front", False, None)
    assert bench.causes() == [
        "shadow_dispute: front 1.000: ant 99%, shadow bee 98%",
        "unknown_streak: 3 answers in a row to /front are unknown",
    ]


def test_text_of_a_trigger_is_one_short_line_and_an_empty_one_is_said_in_words(bench: Bench):
    bench.receive(" a\nperson\x1b[31m " + "!" * 1000)
    bench.receive("")
    first, second = bench.causes()
    assert first.startswith("topic: a person")
    assert len(first) < 230
    assert first.isprintable()
    assert second == "topic: asked for"


def test_trigger_of_a_node_at_rest_is_refused_and_said(bench: Bench):
    bench.box.stop()
    bench.receive("now")
    assert bench.call() == (
        False,
        "nothing is saved: the node is not active, or its black box has ended; see /diagnostics",
    )
    assert bench.logger.texts("warning") == ["black box: nothing is saved: the node is not active"]


def test_call_of_the_service_is_answered_with_what_is_wrong_in_a_group_that_nothing_else_waits_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(node_box, "EveryMessage", Inputs)
    bench = Bench(UNWRITABLE / "box")
    success, message = bench.call()
    assert not success
    assert message.startswith(f"{UNWRITABLE}/box: cannot be written (")
    assert message.endswith(": is not saved)")
    assert isinstance(bench.served["group"], WaitingGroup)
    bench.box.close()


def test_message_that_waited_is_of_the_time_it_was_received_at_and_a_clock_that_was_set_moves_none(bench: Bench):
    kept: list[Any] = []
    bench.box._box.keep = kept.append  # type: ignore[method-assign]
    first_s = time.monotonic()
    now_ns = time.time_ns()
    second_s = time.monotonic()
    for age_s in (0.5, 10_000.0, -10_000.0):
        bench.box._keep_as_it_came("/camera", IMAGE, now_ns - int(age_s * 1e9), b"")
    last_s = time.monotonic()

    received_s = [message.received_s for message in kept]
    assert first_s - 0.51 <= received_s[0] <= second_s - 0.49  # the two clocks differ a little
    assert second_s - node_box._LATEST_S <= received_s[1] <= last_s - node_box._LATEST_S
    assert second_s <= received_s[2] <= last_s
    assert kept[0].log_time_ns == now_ns - 5 * 10**8


def test_defect_of_the_inputs_ends_the_black_box_with_its_traceback_and_one_line(bench: Bench):
    bench.box._fail(KeyError("as planned"))
    trace, line = bench.logger.texts("error")
    assert (trace, line) == ("KeyError: 'as planned'", "the black box has ended (KeyError: 'as planned')")
    assert dataclasses.asdict(bench.box.report())["is_broken"]
