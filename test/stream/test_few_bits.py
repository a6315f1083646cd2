"""Owns: when a camera's numbers of 16 bits are said to use few of them. Oracle: hand arithmetic."""

from __future__ import annotations

import pytest

from cnn_perception.image.messages import ImageOddity, Seen
from cnn_perception.stream.few_bits import FewBits, bits_in_use


def said(watch: FewBits, *brightest: int | None) -> list[bool]:
    return [bool(watch.observe(Seen(brightest=one))) for one in brightest]


@pytest.mark.parametrize(
    ("brightest", "bits"),
    [
        (0, 8),
        (255, 8),
        (256, 10),
        (1023, 10),
        (1024, 12),
        (4095, 12),
        (4096, 14),
        (16383, 14),
        (16384, None),
        (65535, None),
    ],
)
def test_bits_are_those_of_cameras(brightest: int, bits: int | None):
    assert bits_in_use(brightest) == bits


def test_nothing_is_said_before_some_frames_and_then_of_each():
    assert said(FewBits(3), 10, 20, 4000, 30, 40) == [False, False, True, True, True]


def test_one_bright_frame_tells_that_all_bits_are_used():
    watch = FewBits(2)
    assert said(watch, 900, 900, 20_000, 900) == [False, True, False, False]


def test_frames_of_8_bits_or_of_known_bits_are_not_looked_at():
    assert said(FewBits(1), None, None, 5) == [False, False, True]


def test_the_oddity_names_the_largest_number_the_bits_and_both_parameters():
    (oddity,) = FewBits(1).observe(Seen(brightest=3000))
    assert oddity.kind == "few_bits"
    assert not oddity.harmless
    assert "is above 3000" in oddity.text
    assert "has 12 bits" in oddity.text
    assert "parameter significant_bits (evaluate_bag: --significant-bits)" in oddity.text


def test_of_distances_nothing_is_said_but_that():
    watch = FewBits(1)
    assert watch.observe(Seen((ImageOddity("distances", "no picture"),), brightest=900)) == ()
    assert watch.observe(Seen(brightest=900)) != ()
