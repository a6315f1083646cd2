"""Owns: which boxes are taken to belong to which image, and which to none. Time is the test's own."""

from __future__ import annotations

import pytest

from cnn_perception.errors import FrameError
from cnn_perception.regions.matching import Matcher, Pair

WAIT_S = 0.5


def pair(found: Pair[str, str] | FrameError | None) -> tuple[int, object, str]:
    assert isinstance(found, Pair)
    return found.stamp_ns, found.image, found.boxes


def reason(found: object) -> str:
    assert isinstance(found, FrameError)
    return found.reason


@pytest.fixture
def matcher() -> Matcher[str, str]:
    return Matcher(most_bytes=100)


def test_boxes_find_the_image_that_came_before_them(matcher: Matcher[str, str]):
    assert matcher.add_image(7, "a", 10, 0.0) is None
    assert matcher.add_image(8, "b", 10, 0.1) is None
    assert pair(matcher.add_boxes(7, "boxes", 0.2)) == (7, "a", "boxes")
    assert pair(matcher.add_boxes(8, "others", 0.2)) == (8, "b", "others")


def test_boxes_that_come_first_wait_for_their_image(matcher: Matcher[str, str]):
    assert matcher.add_boxes(7, "boxes", 0.0) is None
    assert matcher.add_image(8, "b", 10, 0.1) is None
    assert pair(matcher.add_image(7, "a", 10, 0.2)) == (7, "a", "boxes")


def test_nanosecond_apart_is_another_image(matcher: Matcher[str, str]):
    matcher.add_image(1_000_000_007, "a", 10, 0.0)
    assert matcher.add_boxes(1_000_000_008, "boxes", 0.0) is None
    assert [one.reason for one in matcher.expire(1.0, WAIT_S)] == ["rois_unmatched"]


def test_what_waits_too_long_is_given_up_and_boxes_are_told_of(matcher: Matcher[str, str]):
    matcher.add_image(7, "a", 10, 0.0)
    matcher.add_boxes(9, "early", 0.0)
    assert matcher.expire(0.4, WAIT_S) == []
    assert [one.reason for one in matcher.expire(0.5, WAIT_S)] == ["rois_unmatched"]
    assert matcher.lonely_images == 1
    assert matcher.add_boxes(7, "late", 0.6) is None
    assert matcher.add_image(9, "late", 10, 0.6) is None


def test_second_boxes_for_an_image_are_refused_whether_it_was_there_or_not(matcher: Matcher[str, str]):
    matcher.add_image(7, "a", 10, 0.0)
    matcher.add_boxes(7, "first", 0.0)
    assert reason(matcher.add_boxes(7, "second", 0.1)) == "rois_duplicate"
    matcher.add_boxes(8, "first", 0.1)
    assert reason(matcher.add_boxes(8, "second", 0.1)) == "rois_duplicate"
    assert pair(matcher.add_image(8, "b", 10, 0.2)) == (8, "b", "first")


def test_recording_that_is_looped_is_answered_again(matcher: Matcher[str, str]):
    for start_s in (0.0, 1.0):
        matcher.expire(start_s, WAIT_S)
        matcher.add_image(7, "a", 10, start_s)
        assert pair(matcher.add_boxes(7, "boxes", start_s)) == (7, "a", "boxes")


def test_stamp_of_two_different_images_is_nobodys_and_of_the_same_twice_is_one(matcher: Matcher[str, str]):
    matcher.add_image(7, "a", 10, 0.0)
    matcher.add_image(7, "a", 10, 0.1)
    assert pair(matcher.add_boxes(7, "boxes", 0.2)) == (7, "a", "boxes")
    matcher.add_image(8, "a", 10, 0.0)
    matcher.add_image(8, "b", 10, 0.1)
    found = matcher.add_boxes(8, "boxes", 0.2)
    assert isinstance(found, Pair)
    assert reason(found.image) == "rois_ambiguous"


def test_image_that_must_not_be_answered_says_so_to_its_boxes(matcher: Matcher[str, str]):
    matcher.add_image(7, FrameError("too_old", "as planned"), 0, 0.0)
    found = matcher.add_boxes(7, "boxes", 0.1)
    assert isinstance(found, Pair)
    assert reason(found.image) == "too_old"


@pytest.mark.parametrize("stamp_ns", [0, -1])
def test_without_a_stamp_nothing_is_matched(matcher: Matcher[str, str], stamp_ns: int):
    assert matcher.add_image(stamp_ns, "a", 10, 0.0) is None
    assert reason(matcher.add_boxes(stamp_ns, "boxes", 0.0)) == "stamp_zero"


def test_images_beyond_the_memory_go_oldest_first(matcher: Matcher[str, str]):
    for stamp_ns in (1, 2, 3):
        matcher.add_image(stamp_ns, f"image {stamp_ns}", 40, 0.0)
    assert matcher.lonely_images == 1
    assert matcher.add_boxes(1, "boxes", 0.1) is None
    assert pair(matcher.add_boxes(2, "boxes", 0.1))[1] == "image 2"
    assert "; 1 images went before that, for want of room" in str(matcher.expire(0.7, WAIT_S)[0])
    assert matcher.add_image(4, "more than all memory", 1000, 0.7) is None
    assert pair(matcher.add_boxes(4, "boxes", 0.8))[1] == "more than all memory"


def test_boxes_that_match_nothing_are_bounded(matcher: Matcher[str, str]):
    for stamp_ns in range(1, 1001):
        matcher.add_boxes(stamp_ns, "boxes", 0.0)
    assert len(matcher.expire(0.1, WAIT_S)) == 1000 - 256


def test_boxes_that_match_nothing_are_bounded_in_bytes_too(matcher: Matcher[str, str]):
    for stamp_ns in range(1, 11):
        matcher.add_boxes(stamp_ns, f"boxes {stamp_ns}", 0.0, 2**24)
    assert len(matcher.expire(0.1, WAIT_S)) == 6
    assert pair(matcher.add_image(7, "image", 10, 0.1))[2] == "boxes 7"
    assert matcher.add_image(6, "image", 10, 0.1) is None
    matcher.add_boxes(20, "more", 0.1, 2**24)
    assert matcher.expire(0.2, WAIT_S) == []  # what found its image counts no more
