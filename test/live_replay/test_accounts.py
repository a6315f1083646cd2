"""Owns: that what became of the frames adds up, or the rest is told; the rate, the clock and the domain of a replay.

Leaves to others: the replay itself, over real DDS (test_live_replay).
"""

from __future__ import annotations

import dataclasses
import itertools
import socket

import numpy as np
import pytest
from tiny_bag import RED, START_NS, TYPES, flat, header, raw, string, write_bag

from cnn_perception.answers.agreement import Agreement
from cnn_perception.bag.reader import Bag
from cnn_perception.live_replay.accounts import NodeCounts, account
from cnn_perception.live_replay.domain import free_domain, local_environment
from cnn_perception.live_replay.report import LiveReport
from cnn_perception.live_replay.timeline import PlayedFrame, Timeline, due_messages, pace

SECOND = 10**9

STATUS = {
    "topic": "/camera/image_raw",
    "received": "90",
    "answered": "80",
    "unknown": "3",
    "lost on the way": "5",
    "overtaken": "6",
    "dropped: truncated": "3",
    "dropped: too_old": "1",
    "odd: stamp_zero": "2",
    "decode p50/p95 (ms)": "1.00 / 2.00",
}


def test_counts_are_those_of_the_nodes_diagnostics():
    counts = NodeCounts.of_status(STATUS)

    assert counts == NodeCounts(90, 80, 5, 6, 3, {"truncated": 3, "too_old": 1}, {"stamp_zero": 2})
    assert counts.settled == 80 + 5 + 6 + 3 + 1


def test_accounts_that_add_up_have_no_problem():
    found = account(in_bag=98, unreadable=2, published=95, counts=NodeCounts.of_status(STATUS), heard=80)

    assert found.is_balanced
    assert found.problems() == []
    assert found.unplayed == 1


def test_a_frame_that_nobody_knows_of_is_told():
    found = account(in_bag=97, unreadable=0, published=97, counts=NodeCounts.of_status(STATUS), heard=80)

    assert (found.unaccounted, found.unheard) == (2, 0)
    assert found.problems() == ["2 of 97 published frames are unaccounted for: the node's counters tell of 95"]


@pytest.mark.parametrize(
    ("missing", "before_first", "overtaken", "unaccounted"), [(2, 4, 8, 0), (4, 4, 10, 0), (5, 4, 10, 1), (0, 4, 6, 0)]
)
def test_only_frames_before_the_first_answered_are_overtaken_though_the_node_cannot_count_them(
    missing, before_first, overtaken, unaccounted
):
    counts, published = NodeCounts.of_status(STATUS), 95 + missing

    found = account(published, 0, published, counts, heard=80, before_first=before_first)

    assert (found.overtaken, found.unaccounted) == (overtaken, unaccounted)


def test_an_answer_that_did_not_arrive_is_told():
    found = account(in_bag=95, unreadable=0, published=95, counts=NodeCounts.of_status(STATUS), heard=79)

    assert found.problems() == ["1 of the node's 80 answers did not arrive here"]


def test_answers_tell_of_their_frames_where_the_node_died_before_it_could_count_them():
    found = account(in_bag=10, unreadable=0, published=4, counts=NodeCounts(), heard=3)

    assert (found.answered, found.unaccounted, found.unheard, found.unplayed) == (3, 1, 0, 6)


def test_the_bags_clock_runs_at_the_rate_from_its_start():
    timeline = Timeline(START_NS, 2.0)
    assert timeline.at(123.0) == START_NS

    timeline.start(100.0)

    assert timeline.at(103.0) == START_NS + 6 * SECOND
    assert timeline.moment_of(START_NS + 6 * SECOND) == pytest.approx(103.0)


def test_a_long_pause_is_skipped_but_for_a_second_and_a_short_one_is_waited_for():
    timeline = Timeline(START_NS, 1.0)
    timeline.start(100.0)

    timeline.skip_pause(101.0, START_NS + 10 * SECOND)
    assert timeline.skipped_s == 0.0

    timeline.skip_pause(101.0, START_NS + 1000 * SECOND)
    assert timeline.skipped_s == pytest.approx(998.0)
    assert timeline.moment_of(START_NS + 1000 * SECOND) == pytest.approx(102.0)
    assert timeline.at(100.5) == START_NS + SECOND // 2  # what was before stays


def test_the_clock_waits_for_a_message_that_is_late_so_that_it_is_no_older_for_that():
    timeline = Timeline(START_NS, 1.0)
    timeline.start(100.0)

    timeline.slip(101.005, START_NS + SECOND)
    assert timeline.slipped_s == 0.0

    timeline.slip(102.5, START_NS + 2 * SECOND)
    assert timeline.at(102.5) == START_NS + 2 * SECOND
    assert timeline.slipped_s == pytest.approx(0.5)
    assert timeline.moment_of(START_NS + 3 * SECOND) == pytest.approx(103.5)


@pytest.mark.parametrize(
    ("late_s", "is_kept"),
    [([0.0] * 10, True), ([0.001] * 10, True), ([0.06] * 10, False), ([0.01 * n for n in range(10)], False)],
    ids=["in time", "a little late", "half an interval late", "ever later"],
)
def test_a_rate_is_kept_if_no_image_is_much_too_late(late_s, is_kept):
    played = [PlayedFrame(n, n, n / 10, n / 10 + late) for n, late in enumerate(late_s)]

    found = pace(played, 2.0)

    assert found.is_kept is is_kept
    assert found.interval_ms == pytest.approx(100.0)
    assert found.late_p95_ms == pytest.approx(max(late_s) * 1e3)


def test_the_rate_that_was_achieved_is_that_between_the_first_and_the_last_image():
    played = [PlayedFrame(n, n, n / 10, n / 5) for n in range(11)]

    assert pace(played, 2.0).achieved == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"passed": True}, 0),
        ({"passed": False}, 3),
        ({"agreement": Agreement(10, 10, 9, 1e-5, 0.1, ())}, 3),
        ({"complete": False, "passed": False}, 2),
        ({"complete": False, "interrupted": True}, 130),
    ],
    ids=["done", "reached", "missed", "another answer than offline", "incomplete", "interrupted"],
)
def test_the_exit_code_tells_what_is_wrong_first(changes, code):
    nothing = {item.name: None for item in dataclasses.fields(LiveReport)}
    whole = {"complete": True, "interrupted": False, "agreement": Agreement(10, 10, 10, 1e-5, 0.0, ())}

    assert LiveReport(**nothing | whole | changes).exit_code == code


def camera_info(stamp_ns):
    kind = TYPES.types["sensor_msgs/msg/CameraInfo"]
    region = TYPES.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return kind(header(stamp_ns), 30, 40, "", np.empty(0), np.zeros(9), np.zeros(9), np.zeros(12), 0, 0, region)


def test_messages_are_due_in_the_order_of_their_log_times_and_others_are_left_out(tmp_path):
    images = [("/camera/image_raw", START_NS + n * SECOND, raw(flat(RED), 7 + n)) for n in range(3)]
    infos = [(topic, START_NS + SECOND // 2, camera_info(9)) for topic in ("/camera/camera_info", "/other/camera_info")]
    bag_path = write_bag(tmp_path / "bag", [*images, *infos, ("/truth", START_NS, string("red"))])

    with Bag(bag_path) as bag:
        due = list(due_messages(bag, bag.image_topic(), "/camera/camera_info"))

    assert [(one.index, one.recorded.stamp_ns, one.recorded.log_time_ns - START_NS) for one in due] == [
        (0, 7, 0),
        (None, 9, SECOND // 2),
        (1, 8, SECOND),
        (2, 9, 2 * SECOND),
    ]


@pytest.fixture
def domains(monkeypatch):
    """Four domains that no program has, with ports that no other domain uses."""
    monkeypatch.setattr("cnn_perception.live_replay.domain._BASE_PORT", 7560 - 20 * 1000)
    monkeypatch.setattr("cnn_perception.live_replay.domain._PORTS_OF_DOMAIN", 20)
    monkeypatch.setattr("cnn_perception.live_replay.domain._DOMAINS", range(1000, 1004))


def test_no_two_replays_and_no_replay_and_another_program_share_a_domain(domains):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # a participant's, of the second domain
        other.bind(("", 7560 + 20 + 10))

        with free_domain() as first, free_domain() as second, free_domain() as third:
            found = {first, second, third}

    assert found == {1000, 1002, 1003}


def test_a_domain_is_free_again_after_its_replay(domains, monkeypatch):
    monkeypatch.setattr("cnn_perception.live_replay.domain._DOMAINS", range(1000, 1001))
    for _ in itertools.repeat(None, 2):
        with free_domain() as domain:
            assert domain == 1000


def test_nothing_in_the_environment_leads_to_another_machine_or_name(monkeypatch):
    for name in ("ROS_DISCOVERY_SERVER", "ROS_STATIC_PEERS", "ROS_NAMESPACE"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")

    found = local_environment(42)

    assert found["ROS_DOMAIN_ID"] == "42"
    assert found["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert "elsewhere" not in found.values()
