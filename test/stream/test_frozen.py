"""Owns: when a camera's pictures are said to stand still, alone and among what is odd about a recording.

Oracle: hand arithmetic on stamps; pictures of noise that are the same or differ in places chosen here. Leaves to
others: what the node counts and how loudly (test_frame_processor).
"""

from __future__ import annotations

import numpy as np
import pytest

from cnn_perception.image.messages import RgbImage, Seen
from cnn_perception.stream.frozen import AFTER_S, LEAST_PICTURES, LONGEST_GAP_S, FrozenPicture, PictureSample
from cnn_perception.stream.odd_pictures import OddPictures

SECOND = 10**9
_RNG = np.random.default_rng(8)


def noise(height: int = 480, width: int = 640) -> RgbImage:
    return RgbImage(_RNG.integers(0, 256, (height, width, 3), np.uint8))


STILL = noise()


def told(stamps_s: list[float], pictures: list[RgbImage] | None = None) -> list[bool]:
    """Of each picture, whether it is told; the same one by default."""
    watch = FrozenPicture()
    shown = pictures or [STILL] * len(stamps_s)
    samples = (PictureSample.of(image, round(at * SECOND)) for image, at in zip(shown, stamps_s, strict=True))
    return [bool(watch.observe(sample)) for sample in samples]


def test_pictures_that_stand_still_are_told_from_two_seconds_on_and_each_of_them():
    stamps = [100 + place / 10 for place in range(25)]
    assert told(stamps) == [at - 100 >= AFTER_S for at in stamps]
    assert AFTER_S == 2.0


def test_just_below_two_seconds_nothing_is_said():
    stamps = [0.0, 0.5, 1.0, 1.5]
    assert told([*stamps, 1.999]) == [False] * 5
    assert told([*stamps, 2.0]) == [False] * 4 + [True]


def test_of_a_slow_camera_a_few_pictures_are_awaited():
    assert told([0.0, 5.0, 10.0, 15.0, 20.0]) == [False] * (LEAST_PICTURES - 1) + [True]


def test_a_change_begins_anew():
    changed = STILL.copy()
    changed[0, 0] ^= 1
    pictures = [STILL] * 5 + [RgbImage(changed)] + [STILL] * 5
    assert told([place * 0.6 for place in range(11)], pictures) == [place in (4, 10) for place in range(11)]


def test_a_live_camera_is_never_told():
    pictures = [noise(24, 32) for _ in range(100)]
    assert not any(told([place / 10 for place in range(100)], pictures))


def test_the_same_message_again_is_no_new_picture():
    assert not any(told([7.0] * 100))
    assert told([0.0, 0.5, 0.5, 0.5, 1.0, 1.5, 1.5, 2.0]) == [False] * 7 + [True]


def test_pictures_without_a_stamp_tell_nothing():
    assert not any(told([0.0] * 100))


@pytest.mark.parametrize("step_s", [-0.1, -3600.0, LONGEST_GAP_S + 0.1])
def test_where_time_jumps_it_begins_anew(step_s: float):
    first = [1000 + place * 0.6 for place in range(4)]
    then = [first[-1] + step_s + place * 0.6 for place in range(5)]
    assert told([*first, *then]) == [False] * 8 + [True]


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 10, 20)])
@pytest.mark.parametrize("size", [(480, 640), (10, 12)])
def test_pictures_of_one_colour_tell_nothing(colour: tuple[int, int, int], size: tuple[int, int]):
    flat = RgbImage(np.full((*size, 3), colour, np.uint8))
    assert not any(told([place / 5 for place in range(50)], [flat] * 50))


@pytest.mark.parametrize("size", [(480, 640), (512, 512), (1080, 1920), (97, 1031), (1, 99_000), (3, 5)])
def test_a_change_of_one_row_or_column_in_forty_is_seen_wherever_it_is(size: tuple[int, int]):
    image = noise(*size)
    known = PictureSample.of(image, 0).checksum
    for axis, side in enumerate(size):
        wide = max(1, side // 40)
        for begin in range(0, side - wide + 1, max(1, side // 60)):
            changed = image.copy()
            place = [slice(None), slice(None)]
            place[axis] = slice(begin, begin + wide)
            changed[tuple(place)] ^= 1
            assert PictureSample.of(RgbImage(changed), 0).checksum != known


def test_every_pixel_of_a_small_picture_counts():
    image = noise(48, 64)
    known = PictureSample.of(image, 0).checksum
    for row, column in np.ndindex(48, 64):
        changed = image.copy()
        changed[row, column, 2] ^= 1
        assert PictureSample.of(RgbImage(changed), 0).checksum != known


def test_the_size_counts():
    image = noise(10, 12)
    assert PictureSample.of(image, 0).checksum != PictureSample.of(RgbImage(image.reshape(12, 10, 3)), 0).checksum


def test_the_oddity_says_for_how_long_and_what_to_do():
    watch = FrozenPicture()
    for place in range(31):
        found = watch.observe(PictureSample.of(STILL, place * SECOND // 10))
    (oddity,) = found
    assert (oddity.kind, oddity.harmless) == ("picture_frozen", True)
    assert "has not changed for 3.0 s in one bit of what is looked at of it, 31 pictures" in oddity.text
    assert "restart it, unless the scene is simulated" in oddity.text


def test_of_a_recording_each_camera_is_judged_by_itself():
    odd = OddPictures()
    for place in range(31):
        odd.add(Seen(brightest=3000), PictureSample.of(STILL, place * SECOND // 10), "front")
        odd.add(Seen(brightest=60_000), PictureSample.of(noise(24, 32), place * SECOND // 10), "rear")
    few_bits, frozen = odd.warnings("images")
    assert few_bits.startswith("29 images: few_bits: ")
    assert frozen.startswith("11 images: picture_frozen: the picture has not changed for 3.0 s")


def test_files_which_have_no_time_are_not_judged():
    odd = OddPictures()
    for _ in range(100):
        odd.add(Seen(), None)
    assert odd.warnings() == ()
