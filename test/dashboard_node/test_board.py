"""Owns: what the dashboard keeps of a node's answers, pictures and diagnoses, and who counts as somebody that looks."""

from __future__ import annotations

import itertools
import json
import math
import threading

import pytest

from cnn_perception.dashboard_node.board import MOST_CAMERAS, MOST_STATUSES, PRESENCE_S, Board, Status
from cnn_perception.dashboard_node.camera_history import (
    NO_STAMP,
    SHARED_STAMP,
    UNSURE_KEPT,
    CameraHistory,
    Picture,
)

NODE = "/robot/perception_node"


class Hand:
    """A clock that is set by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def board(clock: Hand) -> Board:
    one = Board(NODE, 60.0, clock)
    one.diagnosed([status("camera front", 1), status("camera rear"), status("model", task="multiclass", sha256="ab")])
    return one


def status(name: str, level: int = 0, node: str = NODE, **values: str) -> Status:
    return Status(f"{node}: {name}", level, f"about {name}", values)


def answer(
    history: CameraHistory, time_s: float, stamp_ns: int, score: float = 0.9, *, is_unsure: bool = False
) -> None:
    history.answer(time_s, stamp_ns, 12.0, [("dog", score)], is_unsure=is_unsure)


def test_answers_are_given_once_in_order_and_of_too_many_the_latest():
    history = CameraHistory(60.0)
    for number in range(1, 8):
        answer(history, number, number)

    assert [one.number for one in history.answers_after(0, 100)] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.number for one in history.answers_after(5, 100)] == [6, 7]
    assert [one.stamp_ns for one in history.answers_after(0, 3)] == [5, 6, 7]
    assert history.answers_after(7, 100) == []
    assert history.answers_after(99, 100) == []


def test_what_is_older_than_the_history_is_forgotten_with_its_pictures():
    history = CameraHistory(10.0)
    answer(history, 0.0, 1, is_unsure=True)
    history.picture(1, b"old", "image/jpeg")
    answer(history, 5.0, 2)
    assert [one.stamp_ns for one in history.unsure()] == [1]

    answer(history, 11.0, 3)

    assert [one.stamp_ns for one in history.answers_after(0, 10)] == [2, 3]
    assert history.unsure() == []
    assert history.unsure_picture(1) is None


def test_an_unsure_answer_is_kept_with_the_picture_of_its_own_stamp_and_no_other():
    history = CameraHistory(60.0)
    answer(history, 0.0, 10, is_unsure=True)
    history.picture(9, b"before", "image/jpeg")
    assert history.unsure() == []
    answer(history, 0.1, 11)
    history.picture(10, b"its own", "image/png")

    (kept,) = history.unsure()
    picture = history.unsure_picture(kept.number)
    assert (kept.stamp_ns, picture and (picture.content, picture.media_type)) == (10, (b"its own", "image/png"))


def test_of_unsure_neighbours_one_a_second_is_kept_and_of_all_the_latest():
    history = CameraHistory(3600.0)
    for tenth in range(20 * UNSURE_KEPT):
        answer(history, tenth / 10, tenth, is_unsure=True)
        history.picture(tenth, b"", "image/jpeg")

    stamps = [one.stamp_ns for one in history.unsure()]
    assert len(stamps) == UNSURE_KEPT
    assert all(later - earlier >= 10 for later, earlier in itertools.pairwise(stamps))
    assert stamps[0] >= 20 * UNSURE_KEPT - 11


def test_who_waits_for_a_picture_gets_the_next_one_and_nobody_waits_for_ever():
    history = CameraHistory(60.0)
    assert history.picture_after(0, 0.01) is None
    answer(history, 0.0, 1)
    found = []
    waiting = threading.Thread(target=lambda: found.append(history.picture_after(0, 30.0)))
    waiting.start()

    history.picture(1, b"first", "image/jpeg")
    waiting.join(30.0)

    assert [one.content for one in found if one] == [b"first"]
    assert history.picture_after(found[0].number, 0.01) is None
    assert history.picture_after(0, 0.0) == found[0]


def shown(history: CameraHistory, after: int = 0) -> tuple[bytes, int | str] | None:
    """What is in the picture that somebody gets, and of which frame the answer beside it is, or why there is none."""
    one = history.picture_after(after, 0.0)
    return one and (one.content, one.doubt or (one.answer.stamp_ns if one.answer else ""))


def test_a_picture_has_the_answer_of_its_own_stamp_however_many_have_come_since():
    history = CameraHistory(60.0)
    for stamp_ns in range(1, 100):
        answer(history, stamp_ns / 100, stamp_ns)

    history.picture(7, b"seventh", "image/jpeg")

    assert shown(history) == (b"seventh", 7)


def test_a_picture_that_overtakes_its_answer_is_given_with_it_and_one_that_has_none_never():
    history = CameraHistory(60.0)
    answer(history, 0.0, 1)
    history.picture(2, b"second", "image/jpeg")
    assert shown(history) is None
    waited: list[Picture | None] = []
    waiting = threading.Thread(target=lambda: waited.append(history.picture_after(0, 30.0)))
    waiting.start()

    answer(history, 0.1, 2, is_unsure=True)
    waiting.join(30.0)

    assert [one.content for one in waited if one] == [b"second"]
    assert [one.stamp_ns for one in history.unsure()] == [2]
    history.picture(3, b"answer lost", "image/jpeg")
    answer(history, 0.2, 4)
    assert shown(history) == (b"second", 2)
    history.picture(4, b"fourth", "image/jpeg")
    answer(history, 0.3, 3)  # too late: nobody is shown an earlier frame after a later one
    assert shown(history) == (b"fourth", 4)


@pytest.mark.parametrize("stamp_ns", [0, -1])
@pytest.mark.parametrize("answers", [0, 1, 2])
def test_a_picture_whose_stamp_is_not_set_has_no_answer_however_many_there_are(stamp_ns: int, answers: int):
    history = CameraHistory(60.0)
    for number in range(answers):
        answer(history, 10.0 * number, stamp_ns, is_unsure=True)

    history.picture(stamp_ns, b"without a clock", "image/jpeg")

    assert shown(history) == (b"without a clock", NO_STAMP)
    assert history.unsure() == []


@pytest.mark.parametrize("order", itertools.permutations(["answer 1", "answer 2", "picture"]))
def test_whatever_comes_first_a_picture_of_two_frames_stamp_ends_without_an_answer(order: tuple[str, ...]):
    history = CameraHistory(60.0)
    answer(history, 0.0, 6)
    for number, what in enumerate(order):
        if what == "picture":
            history.picture(7, b"of either", "image/jpeg")
        else:
            answer(history, 0.01 * number, 7, is_unsure=True)

    assert shown(history) == (b"of either", SHARED_STAMP)
    assert history.unsure() == []


def test_a_camera_that_repeats_one_stamp_has_pictures_without_answers_until_it_goes_on():
    history = CameraHistory(60.0)
    for number in range(1, 30):
        answer(history, number / 10, 7, number / 100)
        if number > 1:
            history.picture(7, b"%d" % number, "image/jpeg")
            assert shown(history) == (b"%d" % number, SHARED_STAMP)
    answer(history, 3.0, 8)
    history.picture(8, b"next", "image/jpeg")
    assert shown(history) == (b"next", 8)


def test_a_recording_that_begins_anew_is_shown_with_the_answers_of_its_latest_round():
    history = CameraHistory(60.0)
    for time_s in range(30):
        answer(history, time_s, 1 + time_s % 10, time_s / 100)
        history.picture(1 + time_s % 10, b"%d" % time_s, "image/jpeg")
        one = history.picture_after(0, 0.0)
        assert one is not None
        assert one.answer is not None
        assert (one.content, one.answer.values) == (b"%d" % time_s, (("dog", time_s / 100),))


def test_answers_of_one_stamp_do_not_forget_each_other():
    history = CameraHistory(10.0)
    for time_s in (0.0, 6.0):
        answer(history, time_s, 5, time_s / 10)
    answer(history, 11.0, 1)  # the first of the three is forgotten

    history.picture(5, b"of the second", "image/jpeg")

    one = history.picture_after(0, 0.0)
    assert one is not None
    assert one.answer is not None
    assert one.answer.values == (("dog", 0.6),)


def test_no_picture_is_kept_for_answers_that_have_none():
    history = CameraHistory(10.0)
    for number in range(1, 30_000):
        answer(history, number / 1000, 30_000 + number, is_unsure=True)
        if not number % 100:
            history.picture(10_000 + number, bytes(1000), "image/jpeg")  # of a frame that is forgotten

    assert len(history.answers_after(0, 100_000)) == len(history._by_stamp) == 10_001
    assert not history._shared
    assert history.unsure() == []
    assert shown(history) is None


def test_an_unsure_frame_is_found_among_those_that_are_drawn_where_few_are():
    history = CameraHistory(60.0)
    for number in range(1, 61):
        answer(history, number / 60, number, is_unsure=True)
        if number % 4 == 0:
            history.picture(number, b"drawn", "image/jpeg")

    assert [one.stamp_ns for one in history.unsure()] == [4]
    answer(history, 4 / 60 + 1.0, 64, is_unsure=True)
    history.picture(64, b"drawn", "image/jpeg")
    assert [one.stamp_ns for one in history.unsure()] == [64, 4]


def test_only_the_node_that_is_shown_is_heard(board: Board):
    board.diagnosed([status("camera", node="/perception_node"), status("camera", node=NODE + "_2")])

    state = board.state("front", 0)

    assert state["cameras"] == ["front", "rear"]
    assert [(one["name"], one["level"]) for one in state["statuses"]] == [
        ("camera front", 1), ("camera rear", 0), ("model", 0)
    ]  # fmt: skip
    assert board.model["sha256"] == "ab"


def test_a_node_with_one_camera_has_one_without_a_name_and_a_stranger_cannot_make_up_any_number(board: Board):
    board.diagnosed([status("camera"), status("model")])
    assert board.cameras == [""]

    board.diagnosed([status(f"camera c{number}") for number in range(1000)])
    assert len(board.cameras) == MOST_CAMERAS


def test_a_camera_is_watched_while_it_is_asked_for_and_one_that_is_not_there_never(board: Board, clock: Hand):
    assert board.watched() == set()
    board.look("front")
    board.look("../etc")
    assert board.watched() == {"front"}
    clock.now_s += PRESENCE_S / 2
    board.look("rear")
    clock.now_s += PRESENCE_S / 2 + 0.1
    assert board.watched() == {"rear"}


def test_the_state_is_json_whatever_a_message_holds_and_keeps_every_nanosecond(board: Board):
    history = board.history("front")
    assert history is not None
    values = [("nan", math.nan), ("inf", -math.inf), ("fine", 0.5)]
    history.answer(100.0, 1_700_000_000_123_456_789, 3.0, values, is_unsure=False)
    history.answer(100.1, 0, None, values, is_unsure=False)

    state = json.loads(json.dumps(board.state("front", 0), allow_nan=False))

    one, without_stamp = state["answers"]
    assert (one["age_ms"], without_stamp["age_ms"]) == (3.0, None)
    assert one["values"] == [["nan", None], ["inf", None], ["fine", 0.5]]
    assert one["stamp_ns"] == "1700000000123456789"
    assert board.state("rear", 0)["answers"] == []


def test_silence_is_told(board: Board, clock: Hand):
    assert Board(NODE, 60.0, clock).state("", 0)["silence_s"] is None
    clock.now_s += 7.0
    assert board.state("", 0)["silence_s"] == 7.0


def test_a_node_that_was_never_heard_is_told_with_the_nodes_that_were(clock: Hand):
    board = Board("/nobody", 60.0, clock)
    assert board.state("", 0)["silence"] == "nothing heard of /nobody; check ROS_DOMAIN_ID"
    for name in ("/robot/b", "/a", "no name", "/" + "x" * 300, "/c", "/d", "/e", "/f"):
        board.heard_of_another(name)
    assert board.silence.endswith("perception_node may be meant to be /a, /c, /d, /robot/b")
    board.diagnosed([Status("/nobody: camera", 0, "", {})])
    assert board.state("", 0)["silence"] == ""


@pytest.mark.parametrize("period_s", [0.05, 1.0, 1.3, 5.0, 60.0])
def test_a_node_is_silent_after_three_seconds_or_two_and_a_half_gaps_and_never_between_two_diagnoses(clock, period_s):
    board = Board(NODE, 60.0, clock)
    assert board.state("", 0)["is_silent"]
    for number in range(50):
        board.diagnosed([status("camera")])
        for _ in range(3):
            assert number < 1 or not board.state("", 0)["is_silent"]
            clock.now_s += period_s / 3
    clock.now_s += max(3.0, 2.5 * period_s) - period_s - 0.01
    assert not board.state("", 0)["is_silent"]
    clock.now_s += 0.02
    assert board.state("", 0)["is_silent"]


def test_a_node_that_was_away_is_not_waited_for_as_long_again(board: Board, clock: Hand):
    for gap_s in (1.0, 1.0, 600.0):
        clock.now_s += gap_s
        board.diagnosed([status("camera")])
    clock.now_s += 3.1
    assert board.state("", 0)["is_silent"]


@pytest.mark.parametrize("name", ["a b", "../other", "front/x", "1st", "\u00e9t\u00e9", "front\n", "x" * 190])
def test_a_camera_whose_topics_cannot_be_named_is_none(board: Board, name: str):
    board.diagnosed([status(f"camera {name}"), status("camera rear")])

    board.look(name)

    assert board.cameras == ["rear"]
    assert board.watched() == set()


def test_a_stranger_cannot_make_the_page_of_any_size(board: Board):
    board.diagnosed([status(f"about {number}") for number in range(5000)] + [status("x" * 100_000)])
    assert len(board.state("", 0)["statuses"]) == MOST_STATUSES
    board.diagnosed([status("camera front"), status("camera front"), status("x" * 100_000)])
    assert len(board.state("", 0)["statuses"]) == 2
    assert board.cameras == ["front"]


def test_of_cameras_that_come_and_go_no_number_is_remembered(board: Board):
    first = board.history("front")
    for number in range(1000):
        board.diagnosed([status("camera front"), status(f"camera c{number}")])
        board.look(f"c{number}")

    assert board.history("front") is first
    assert sum(board.history(f"c{number}") is not None for number in range(1000)) <= MOST_CAMERAS
    assert len(board.watched()) <= MOST_CAMERAS


def test_many_values_and_large_pictures_are_kept_for_a_shorter_time():
    history = CameraHistory(3600.0)
    for number in range(1, 2101):
        history.answer(number, number, 0.0, [("class", 0.5)] * 100, is_unsure=False)
    kept = history.answers_after(0, 10_000)
    assert (len(kept), kept[-1].number) == (2000, 2100)

    for number in range(1, 6):
        answer(history, 3000.0 + 2 * number, number, is_unsure=True)
        history.picture(number, bytes(2**24 + 1), "image/jpeg")
    assert [one.stamp_ns for one in history.unsure()] == [5, 4, 3]
