"""Owns: which recording is learned from and which is held out. Leaves to others: which frames are chosen of it."""

from __future__ import annotations

from collections import Counter

import pytest

from cnn_perception.errors import ConfigError
from training.collect.parts import Division, by_groups, ends_of, whole_bags

SECOND = 10**9
FIFTH = Division(0.2, 0.0, 1.0, 0)


def test_recordings_stay_whole_and_fill_their_shares() -> None:
    parts = whole_bags({f"bag{number}": 10 for number in range(10)}, {}, FIFTH)

    assert Counter(parts.values()) == {"train": 8, "val": 2}


def test_no_part_stays_empty_and_the_longest_recording_is_learned_from() -> None:
    assert whole_bags({"long": 900, "short": 20}, {}, FIFTH) == {"long": "train", "short": "val"}
    three = whole_bags({"a": 10, "b": 900, "c": 10}, {}, Division(0.2, 0.1, 1.0, 0))
    assert three["b"] == "train"
    assert {three["a"], three["c"]} == {"val", "test"}


def test_recordings_of_the_data_set_stay_in_their_parts() -> None:
    known = {"old": "val", "older": "train"}
    parts = whole_bags({"old": 50, "older": 50, "new": 20}, known, FIFTH)

    assert parts == {**known, "new": "train"}  # which lacks more than val, with 50 of 24 wanted


def test_seed_decides_among_equals_and_the_same_one_alike() -> None:
    counts = {f"bag{number}": 10 for number in range(6)}
    divided = [whole_bags(counts, {}, Division(0.2, 0.0, 1.0, seed)) for seed in range(8)]

    assert whole_bags(dict(reversed(counts.items())), {}, Division(0.2, 0.0, 1.0, 3)) == divided[3]
    assert len({tuple(sorted(parts.items())) for parts in divided}) > 1


def test_end_of_the_only_recording_is_held_out_after_a_gap() -> None:
    times_ns = [second * SECOND for second in range(100)]
    ends = ends_of("drive", times_ns, Division(0.2, 0.0, 2.0, 0))
    places = [ends.place(time_ns) for time_ns in times_ns]

    assert {(one.part, one.bag) for one in places[:78] if one} == {("train", "drive")}
    assert places[78:80] == [None, None]
    assert {(one.part, one.bag) for one in places[80:] if one} == {("val", "drive_val")}
    assert None not in places[80:]


def test_three_parts_follow_each_other_in_time() -> None:
    times_ns = [second * SECOND for second in range(100)]
    ends = ends_of("drive", times_ns, Division(0.2, 0.1, 0.0, 0))

    assert Counter(ends.place(time_ns).part for time_ns in times_ns) == {"train": 70, "val": 20, "test": 10}


def test_gap_is_at_most_a_twentieth_of_the_recording() -> None:
    times_ns = [tenth * SECOND // 10 for tenth in range(101)]
    ends = ends_of("drive", times_ns, Division(0.2, 0.0, 60.0, 0))

    assert sum(ends.place(time_ns) is None for time_ns in times_ns) == 5  # half a second of ten


@pytest.mark.parametrize("times_ns", [[7], [7, 7, 7]])
def test_recording_of_one_moment_is_learned_from(times_ns: list[int]) -> None:
    assert ends_of("drive", times_ns, FIFTH).place(7).part == "train"


def test_pictures_without_times_are_drawn_by_groups_of_look_alikes() -> None:
    groups = [number // 4 for number in range(80)]
    parts = by_groups(groups, FIFTH)

    assert all(len(set(parts[first : first + 4])) == 1 for first in range(0, 80, 4))
    assert Counter(parts) == {"train": 64, "val": 16}


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ((-0.1, 0.0, 1.0, 0), "--val-fraction is -0.1"),
        ((0.2, 1.0, 1.0, 0), "--test-fraction is 1.0"),
        ((0.5, 0.5, 1.0, 0), "leave less than a tenth"),
        ((0.2, 0.0, float("nan"), 0), "--gap is nan"),
        ((0.2, 0.0, 1.0, -1), "--seed is -1"),
    ],
)
def test_shares_that_cannot_be_are_refused(values: tuple[float, float, float, int], option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        Division(*values)
