"""Owns: driving to a class and, above all, standing still: the controller by tables and by chance, the node on DDS."""

from __future__ import annotations

import dataclasses
import math
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from cnn_perception.errors import ConfigError
from cnn_perception.follow_node.controller import (
    ControllerConfig,
    FollowController,
    Ray,
    StampedClassification,
    VelocityCommand,
)

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist, TwistStamped, Vector3, Vector3Stamped
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros import ENDS_WITHIN_S, Participant, Process, new_domain, participant, running
from std_msgs.msg import Header, String
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass

from cnn_perception.follow_node.node import FollowSettings
from cnn_perception.follow_node.standstill import LASTS_S

CONFIG = ControllerConfig(
    follow="dog",
    stop_classes=frozenset({"person"}),
    min_score=0.5,
    linear=0.3,
    gain=2.0,
    max_angular=0.6,
    forward_within=0.2,
    timeout_s=0.5,
)
STAMP_NS = 1_700_000_000_000_000_000
DOG = [("dog", 0.8), ("cat", 0.2)]
AHEAD = (0.0, 0.0, 1.0)


def towards(bearing: float) -> tuple[float, float, float]:
    """A level ray, `bearing` radians to the right."""
    return math.sin(bearing), 0.0, math.cos(bearing)


def command_for(
    results: list[tuple[str, float]] = DOG,
    ray: tuple[float, float, float] = AHEAD,
    *,
    arrived_ago_s: float = 0.1,
    stamp_age_s: float = 0.1,
    ray_lag_ns: int = 0,
    config: ControllerConfig = CONFIG,
) -> VelocityCommand:
    controller = FollowController()
    controller.update_classification(StampedClassification(STAMP_NS, results, arrived_s=100.0))
    controller.update_ray(Ray(STAMP_NS + ray_lag_ns, ray))
    return controller.compute_command(config, 100.0 + arrived_ago_s, STAMP_NS + round(stamp_age_s * 1e9))


@pytest.mark.parametrize(
    ("bearing", "linear", "angular"),
    [
        (0.0, 0.3, 0.0),
        (0.1, 0.3, -0.2),  # to the right is a negative rotation about the z axis that points up
        (-0.1, 0.3, 0.2),
        (0.19, 0.3, -0.38),
        (0.25, 0.0, -0.5),  # first turn, then drive
        (0.5, 0.0, -0.6),  # 1.0 rad/s is above the limit
        (-3.0, 0.0, 0.6),
    ],
)
def test_turns_towards_the_ray_and_drives_when_it_is_ahead(bearing: float, linear: float, angular: float):
    command = command_for(ray=towards(bearing))
    assert (command.linear, command.angular) == (linear, pytest.approx(angular))


def test_height_does_not_turn_the_robot():
    command = command_for(ray=(0.6 * math.sin(0.1), -0.8, 0.6 * math.cos(0.1)))
    assert command.angular == pytest.approx(-0.2)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        ({"results": []}, "nothing is recognised"),
        ({"results": [("unknown", 1.0)]}, "unknown is seen"),
        ({"results": [("dog", 0.8), ("unknown", 0.1)]}, "unknown is seen"),
        ({"results": [("cat", 0.9), ("dog", 0.1)]}, "cat is seen, not dog"),
        ({"results": [("dog", 0.49)]}, "dog has a score of 0.49 only"),
        ({"results": [("dog", 0.9), ("person", 0.5)]}, "person is seen"),
        ({"results": [("dog", NAN)]}, "not finite"),
        ({"results": [("dog", INF)]}, "not finite"),
        ({"results": [("dog", 0.9), ("cat", NAN)]}, "not finite"),
        ({"ray": (0.0, 0.0, 0.0)}, "no unit vector"),
        ({"ray": (0.0, NAN, 1.0)}, "no unit vector"),
        ({"ray": (INF, 0.0, 0.0)}, "no unit vector"),
        ({"ray": (0.0, 1.0, 0.0)}, "straight up or down"),
        ({"arrived_ago_s": 0.51}, "no answer for 0.51 s"),
        ({"stamp_age_s": 0.51}, "stamp is 0.51 s old"),
        ({"stamp_age_s": -0.51}, "stamp is -0.51 s old"),
        ({"stamp_age_s": 1.7e9}, "s old"),  # a driver that does not stamp
        ({"ray_lag_ns": 1}, "no ray with the stamp"),
        ({"ray_lag_ns": -1}, "no ray with the stamp"),
    ],
    ids=str,
)
def test_stands_still_and_says_why(situation: dict[str, Any], reason: str):
    command = command_for(**situation)
    assert (command.linear, command.angular, command.moves) == (0.0, 0.0, False)
    assert reason in command.reason


@pytest.mark.parametrize(
    ("stop_classes", "follow", "known", "reason"),
    [
        ({"persn"}, "dog", {"dog", "person", "perch"}, "stop_classes names 'persn', which the model does not know"),
        ({"person", "unknown"}, "dgo", {"dog", "person"}, "follow names 'dgo', which the model does not know"),
        ({"person"}, "dog", {"dog", "unknown"}, "stop_classes names 'person'"),  # as after a swap to another model
        ({"unknown"}, "dog", {"dog", "cat"}, ""),  # of a model without a rule for unknown
        ({"person", "unknown"}, "dog", {"dog", "person", "unknown"}, ""),
        ({"persn"}, "dog", set(), ""),  # no list has come
    ],
)
def test_it_stands_still_while_a_class_that_is_named_is_none_of_the_models(
    stop_classes: set[str], follow: str, known: set[str], reason: str
):
    config = dataclasses.replace(CONFIG, stop_classes=frozenset(stop_classes), follow=follow)
    controller = FollowController()
    controller.update_classification(StampedClassification(STAMP_NS, [(follow, 0.9)], arrived_s=100.0))
    controller.update_ray(Ray(STAMP_NS, AHEAD))
    controller.update_classes(frozenset(known))
    command = controller.compute_command(config, 100.0, STAMP_NS)
    assert command.moves == (not reason)
    assert reason in command.reason
    assert (command.cause == "classes") == bool(reason)
    if reason and "person" in known:
        assert {"persn": "person", "dgo": "dog"}[reason.split("'")[1]] in command.reason.partition("it knows")[2]


def test_a_class_to_stop_at_must_itself_be_seen_with_certainty():
    assert command_for([("dog", 0.9), ("person", 0.49)]).moves


def test_starts_with_standing_still():
    controller = FollowController()
    assert not controller.compute_command(CONFIG, 0.0, 0).moves
    controller.update_ray(Ray(0, AHEAD))
    assert not controller.compute_command(CONFIG, 0.0, 0).moves


def test_unknown_stops_before_its_ray_is_there_and_a_good_answer_does_not_interrupt():
    controller = FollowController()
    controller.update_classification(StampedClassification(1, DOG, 0.0))
    controller.update_ray(Ray(1, AHEAD))
    controller.update_classification(StampedClassification(2, DOG, 0.1))
    assert controller.compute_command(CONFIG, 0.1, 2).moves
    controller.update_classification(StampedClassification(3, [("unknown", 1.0)], 0.2))
    assert not controller.compute_command(CONFIG, 0.2, 3).moves


def test_answers_whose_rays_stay_away_stop_it_in_time():
    controller = FollowController()
    controller.update_classification(StampedClassification(0, DOG, 0.0))
    controller.update_ray(Ray(0, AHEAD))
    for tick in range(1, 8):
        controller.update_classification(StampedClassification(tick, DOG, tick / 10))
        command = controller.compute_command(CONFIG, tick / 10, tick)
        assert command.moves == (tick <= 5)
    assert "no ray with the stamp of an answer for 0.70 s" in command.reason


ANY = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.sampled_from(["dog", "cat", "person", "unknown", ""])
SCORES = st.one_of(ANY, st.floats(0.0, 1.0))
RESULTS = st.one_of(st.just(DOG), st.lists(st.tuples(NAMES, SCORES), max_size=4))
RAYS = st.one_of(st.floats(-4.0, 4.0).map(towards), st.tuples(ANY, ANY, ANY))
AGES = st.one_of(st.floats(-1.0, 1.0), st.floats(-1e9, 1e9))
CONFIGS = st.builds(
    ControllerConfig,
    follow=st.just("dog"),
    stop_classes=st.frozensets(st.sampled_from(["person", "cat"])),
    min_score=st.floats(0.0, 1.0),
    linear=st.floats(0.0, 5.0),
    gain=st.floats(0.0, 20.0),
    max_angular=st.floats(0.0, 10.0),
    forward_within=st.floats(0.0, 1.5),
    timeout_s=st.floats(0.05, 5.0),
)


@settings(deadline=None)
@given(CONFIGS, RESULTS, RAYS, AGES, AGES)
def test_whatever_arrives_it_never_moves_in_doubt_nor_faster_than_allowed(
    config: ControllerConfig, results: list, ray: tuple, arrived_ago_s: float, stamp_age_s: float
):
    command = command_for(results, ray, arrived_ago_s=arrived_ago_s, stamp_age_s=stamp_age_s, config=config)
    assert command.linear in (0.0, config.linear)
    assert abs(command.angular) <= config.max_angular
    if command.moves:
        names = [name for name, _ in results]
        assert names[0] == "dog"
        assert results[0][1] >= config.min_score
        assert "unknown" not in names
        assert all(math.isfinite(value) for value in [*ray, *(score for _, score in results)])
        assert abs(arrived_ago_s) <= config.timeout_s + 1e-6
        assert abs(stamp_age_s) <= config.timeout_s + 1e-6


EVENTS = st.lists(
    st.tuples(st.sampled_from(["dog", "unknown", "ray", "wait"]), st.integers(0, 3), st.floats(0.0, 0.3)), max_size=30
)


@settings(deadline=None)
@given(EVENTS)
def test_in_every_order_of_events_it_moves_only_on_a_fresh_pair_and_a_good_newest_answer(events: list):
    controller = FollowController()
    now_s = 0.0
    answers: list[tuple[int, str, float]] = []
    rays: list[tuple[int, float]] = []
    for kind, stamp, later_s in events:
        now_s += later_s
        if kind == "ray":
            controller.update_ray(Ray(stamp, AHEAD))
            rays.append((stamp, now_s))
        elif kind != "wait":
            controller.update_classification(StampedClassification(stamp, [(kind, 1.0)], now_s))
            answers.append((stamp, kind, now_s))
        if controller.compute_command(CONFIG, now_s, 0).moves:
            assert answers[-1][1] == "dog"
            fresh = {stamp for stamp, _, arrived_s in answers if now_s - arrived_s <= CONFIG.timeout_s}
            assert fresh & {stamp for stamp, _ in rays}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"follow": ""}, "follow is ''"), ({"follow": "unknown"}, "'unknown'"), ({"follow": "person"}, "stop_classes")],
)
def test_a_configuration_without_a_class_to_follow_is_refused(change: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(CONFIG, **change)


def test_the_parameter_file_holds_the_nodes_defaults():
    path = ROOT / "launch" / "follow.yaml"
    file = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    defaults = {field.name: field.default for field in dataclasses.fields(FollowSettings)}
    defaults["stop_classes"] = list(defaults["stop_classes"])
    assert file == {name: value for name, value in defaults.items() if name not in {"follow", "stamped"}}


# ---- the node


class Perception:
    """What a perception node would publish, and the velocities that follow from it."""

    def __init__(self, ros: Participant, kind: Any = Twist) -> None:
        self.ros = ros
        self.commands = ros.collect(kind, "cmd_vel", 100)
        self._answers = ros.publisher(Classification, "classification")
        self._rays = ros.publisher(Vector3Stamped, "ray")

    def show(self, name: str, bearing: float = 0.1, score: float = 0.9) -> None:
        now_ns = time.time_ns()
        header = Header(stamp=Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9))
        x, y, z = towards(bearing)
        self._rays.publish(Vector3Stamped(header=header, vector=Vector3(x=x, y=y, z=z)))
        results = [ObjectHypothesis(class_id=name, score=score)]
        self._answers.publish(Classification(header=header, results=results))

    def drive(self) -> None:
        """Shows a dog until the robot moves."""

        def moves() -> bool:
            self.show("dog")
            return bool(self.commands) and moving(self.commands[-1])

        self.ros.wait_for(moves, "a velocity")


def moving(message: Twist | TwistStamped) -> bool:
    twist = message if isinstance(message, Twist) else message.twist
    return twist != Twist()


def set_parameter(ros: Participant, name: str, new: float | str) -> Any:
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(new))
    if isinstance(new, float):
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=new)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    return ros.call(SetParameters, "/follow_node/set_parameters", request).results[0]


@pytest.fixture
def domain() -> int:
    return new_domain()


@pytest.fixture
def ros(domain: int) -> Iterator[Participant]:
    with participant(domain) as one:
        yield one


def test_node_drives_and_stops_at_unknown_at_silence_and_at_its_end(ros: Participant, domain: int, tmp_path: Path):
    settings = {"follow": "dog", "linear": 0.25, "gain": 2.0, "timeout_s": 5.0}
    with running("follow_node", domain, tmp_path / "log", **settings) as process:
        perception = Perception(ros)
        ros.wait_for(lambda: len(perception.commands) >= 3, "commands before there is anything to see")
        assert not any(moving(command) for command in perception.commands)

        perception.drive()
        twist = perception.commands[-1]
        assert (twist.linear.x, twist.angular.z) == (0.25, pytest.approx(-0.2))
        assert (twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y) == (0, 0, 0, 0)

        perception.show("unknown")
        ros.wait_for(lambda: not moving(perception.commands[-1]), "a stop at unknown")
        assert "stopped: unknown is seen" in process.log

        perception.drive()
        assert set_parameter(ros, "timeout_s", 0.5).successful
        ros.wait_for(lambda: not moving(perception.commands[-1]), "a stop at silence")
        assert re.search(r"stopped: (no answer for \d|the frame's stamp is \d)", process.log)
        assert set_parameter(ros, "timeout_s", 5.0).successful

        perception.drive()
        process.signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN_S) == 0
        ros.wait_for(lambda: not moving(perception.commands[-1]), "a stop at the end")
        assert "stopped: this node ends" in process.log


def test_a_class_that_the_model_does_not_know_stops_the_robot_until_it_is_another_one(
    ros: Participant, domain: int, tmp_path: Path
):
    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    lists = ros.node.create_publisher(LabelInfo, "/test/label_info", latched)  # the participant is called test

    def know(*names: str) -> None:
        lists.publish(
            LabelInfo(class_map=[VisionClass(class_id=id_, class_name=name) for id_, name in enumerate(names)])
        )

    know("cat", "dog", "person")
    settings = {"follow": "dog", "stop_classes": "[persn]", "timeout_s": 5.0}
    with running("follow_node", domain, tmp_path / "log", **settings) as process:
        perception = Perception(ros)

        def still() -> bool:
            perception.show("dog")
            return "names 'persn', which the model does not know; it knows person" in process.log

        ros.wait_for(still, "a warning")
        assert not moving(perception.commands[-1])
        know("dog", "persn")  # another model
        perception.drive()
        know("dog", "person")
        ros.wait_for(lambda: not moving(perception.commands[-1]), "a stop by the next model's list")
        assert process.running


def test_why_it_stands_still_is_said_when_that_lasts(ros: Participant, domain: int, tmp_path: Path):
    with running("follow_node", domain, tmp_path / "log", follow="dog", timeout_s=5.0) as process:

        def said(*words: str) -> None:
            def is_said() -> bool:
                return any(all(word in line for word in words) for line in process.log.splitlines())

            ros.wait_for(is_said, f"{words}")

        said("no answers come on /classification: nobody publishes it; check the remapping of classification")
        other = ros.node.create_publisher(String, "classification", 1)
        said("/test (std_msgs/msg/String", "this node wants vision_msgs/msg/Classification")
        ros.node.destroy_publisher(other)
        unfit = ros.node.create_publisher(
            Classification, "classification", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        said("no answers come on /classification: published by /test", "whose QoS does not fit: test: ERROR")
        ros.node.destroy_publisher(unfit)

        perception = Perception(ros, TwistStamped)
        said("/cmd_vel is subscribed by /test (geometry_msgs/msg/TwistStamped", "set stamped:=true")

        def shows(words: str) -> None:
            def is_said() -> bool:
                perception.show("dog", score=0.1)
                return words in process.log

            ros.wait_for(is_said, words)

        shows("answers come")
        shows("the robot stands still: dog has a score of 0.10 only")
        assert process.log.count("nobody publishes it") == 1
        assert process.log.count("set stamped:=true") == 1


def test_a_base_that_takes_the_commands_is_nothing_to_warn_of(ros: Participant, domain: int, tmp_path: Path):
    with running("follow_node", domain, tmp_path / "log", follow="dog", timeout_s=5.0) as process:
        perception = Perception(ros)
        perception.drive()
        began_s = time.monotonic()

        def has_looked() -> bool:
            perception.show("dog")
            return time.monotonic() - began_s > 2 * LASTS_S

        ros.wait_for(has_looked, "the node to have looked at who listens")
        assert "[WARN]" not in process.log


def test_node_ends_with_a_stop_at_sigterm_twice_in_stamped_commands(ros: Participant, domain: int, tmp_path: Path):
    settings = {"follow": "dog", "stamped": True, "frame_id": "base", "timeout_s": 5.0}
    with running("follow_node", domain, tmp_path / "log", **settings) as process:
        perception = Perception(ros, TwistStamped)
        perception.drive()
        header = perception.commands[-1].header
        assert header.frame_id == "base"
        assert abs(time.time() - header.stamp.sec) < 10
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN_S) == 0
        ros.wait_for(lambda: not moving(perception.commands[-1]), "a stop at the end")


def test_stopping_does_not_wait_for_the_timer(ros: Participant, domain: int, tmp_path: Path):
    settings = {"follow": "dog", "rate_hz": 1.0, "timeout_s": 5.0, "stamped": True}
    with running("follow_node", domain, tmp_path / "log", **settings):
        perception = Perception(ros, TwistStamped)
        waits_s = []
        while len(waits_s) < 10 and min(waits_s, default=1.0) > 0.9:  # ticks are 1 s apart; this process may be slow
            perception.drive()
            began = perception.commands[-1].header.stamp
            perception.show("cat")
            ros.wait_for(lambda: not moving(perception.commands[-1]), "a stop at another class")
            ended = perception.commands[-1].header.stamp
            waits_s.append(ended.sec - began.sec + (ended.nanosec - began.nanosec) / 1e9)
        assert min(waits_s) <= 0.9


def test_another_class_can_be_followed_at_run_time_but_not_none(ros: Participant, domain: int, tmp_path: Path):
    with running("follow_node", domain, tmp_path / "log", follow="cat"):
        perception = Perception(ros)
        refused = set_parameter(ros, "follow", "")
        assert (refused.successful, refused.reason[:12]) == (False, "follow is ''")
        assert set_parameter(ros, "follow", "dog").successful
        perception.drive()


def test_what_people_type_is_taken_or_told(ros: Participant, domain: int, tmp_path: Path):
    settings = {"follow": "dog", "linear": 1, "max_linear": 2.0}
    with running("follow_node", domain, tmp_path / "log", **settings) as process:
        request = GetParameters.Request(names=["linear"])
        (linear,) = ros.call(GetParameters, "/follow_node/get_parameters", request).values
        assert linear.double_value == 1.0
        assert "unknown: max_linear (linear?)" in process.log
        assert set_parameter(ros, "rate_hz", 200.0).reason.startswith("parameter rate_hz is read-only")
        assert "write 0.5" in set_parameter(ros, "linear", "0.5").reason
        assert "(linear?)" in set_parameter(ros, "liner", 0.5).reason


def test_a_node_without_a_class_to_follow_ends_with_one_line(domain: int, tmp_path: Path):
    process = Process("follow_node", domain, tmp_path / "log")
    assert process.wait() == 2
    assert "error: follow is ''; name the class" in process.log
    assert "Traceback" not in process.log
