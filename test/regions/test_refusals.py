"""Owns: how refused boxes are counted, and which example is told. Leaves to others: why one is (test_cropping)."""

from __future__ import annotations

import pytest

from cnn_perception.errors import FrameError
from cnn_perception.regions.refusals import Refusals


def refused(*pairs: tuple[str, str]) -> Refusals:
    found = Refusals()
    for reason, text in pairs:
        found.add(FrameError(reason, text))
    return found


def test_reasons_are_counted_and_the_latest_example_of_the_most_frequent_one_is_told():
    found = refused(("outside", "a"), ("small", "b"), ("outside", "c"))
    assert (found.total, dict(found.counts)) == (3, {"outside": 2, "small": 1})
    assert found.in_words() == "(outside, small): c"
    assert (Refusals().total, Refusals().in_words()) == (0, "")


def test_what_came_since_a_copy_has_its_own_counts_and_examples():
    found = refused(("outside", "a"), ("outside", "b"), ("small", "c"))
    before = found.copy()
    for reason, text in (("small", "d"), ("turned", "e")):
        found.add(FrameError(reason, text))

    since = found.since(before)

    assert (dict(since.counts), since.examples) == ({"small": 1, "turned": 1}, {"small": "d", "turned": "e"})
    assert (before.total, before.examples["small"]) == (3, "c")
    assert found.since(found.copy()).total == 0


@pytest.mark.parametrize(("reasons", "left"), [({"outside"}, "(small): b"), (set(), "(outside, small): a")])
def test_other_reasons_can_be_left_out(reasons: set[str], left: str):
    found = refused(("outside", "a"), ("outside", "a"), ("small", "b"))
    assert found.without(reasons).in_words() == left
    assert found.total == 3
