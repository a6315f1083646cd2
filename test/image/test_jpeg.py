"""Owns: which trouble in a JPEG costs the picture and which does not, and which kinds of JPEG are not read.

Oracles: pixels of the undamaged file, OpenCV.

Leaves to others: colours, sizes and EXIF of JPEGs (test_compressed).
"""

from __future__ import annotations

import io
import itertools
import random
import re
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image.jpeg import is_jpeg
from cnn_perception.image.messages import decode_content

HEIGHT, WIDTH = 96, 128


def scene(seed: int = 1) -> np.ndarray:
    """Smooth noise, as a photograph has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def by_pillow(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def by_opencv(pixels: np.ndarray, interval: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_RST_INTERVAL, interval]
    return cv2.imencode(".jpg", pixels[..., ::-1], options)[1].tobytes()


FILES = {
    "4:2:0": by_pillow(scene()),
    "4:4:4": by_pillow(scene(), subsampling=0, quality=95),
    "grey": by_pillow(scene()[..., 0]),
    "progressive": by_pillow(scene(), progressive=True),
    "optimised": by_pillow(scene(), optimize=True, quality=60),
    "flat": by_pillow(np.full((HEIGHT, WIDTH, 3), (30, 60, 220), np.uint8)),
    "restarts of 1": by_opencv(scene(), 1),
    "restarts of 5": by_opencv(scene(), 5),
    "restarts of 8": by_opencv(scene(), 8),
}
WITH_RESTARTS = [name for name in FILES if name.startswith("restarts")]


def start_of_code(data: bytes) -> int:
    return data.index(b"\xff\xda") + 14


def markers(data: bytes, pattern: bytes = rb"\xff[\xd0-\xd7\xd9]") -> list[int]:
    """Places of the markers in and after the code."""
    return [found.start() for found in re.finditer(pattern, data) if found.start() > start_of_code(data)]


def inserted(data: bytes, place: int, stray: bytes) -> bytes:
    return data[:place] + stray + data[place:]


def kinds(data: bytes) -> list[str]:
    return [oddity.kind for oddity in decode_content(data).seen.oddities]


def is_refused(data: bytes) -> bool:
    try:
        decode_content(data)
    except FrameError as error:
        return error.reason == "corrupt"
    return False


def warns(data: bytes) -> bool:
    """Whether libjpeg warns of a file, as Pillow's and OpenCV's users never learn."""
    simplejpeg = pytest.importorskip("simplejpeg")
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("stray", [b"\x5a" * 4, b"\0", b"\x12\x34", b"\x01\x80\x7f", bytes(1000), b"\x5a" * 100])
@pytest.mark.parametrize("name", FILES)
def test_stray_bytes_before_the_end_marker_cost_nothing(name: str, stray: bytes):
    data = FILES[name]
    found = decode_content(inserted(data, len(data) - 2, stray))
    np.testing.assert_array_equal(found.image, decode_content(data).image)


@pytest.mark.parametrize("name", WITH_RESTARTS)
@pytest.mark.parametrize("stray", [b"\x5a" * 4, b"\0", b"\x12\x34\x56", bytes(100)])
def test_stray_bytes_before_a_restart_marker_cost_nothing_wherever_it_is(name: str, stray: bytes):
    data = FILES[name]
    intact = decode_content(data).image
    for place in markers(data)[:12]:
        np.testing.assert_array_equal(decode_content(inserted(data, place, stray)).image, intact)


@pytest.mark.parametrize("name", WITH_RESTARTS)
def test_stray_bytes_before_every_restart_marker_cost_nothing(name: str):
    data = FILES[name]
    stray = data
    for place in reversed(markers(data)):
        stray = inserted(stray, place, b"\x5a\x5a\x11\x00")
    np.testing.assert_array_equal(decode_content(stray).image, decode_content(data).image)
    assert kinds(stray) == ["jpeg_warning"]


@pytest.mark.parametrize("name", ["4:2:0", "progressive", "restarts of 8"])
def test_stray_bytes_between_the_tables_cost_nothing(name: str):
    data = FILES[name]
    for found in itertools.islice(re.finditer(rb"\xff[\xdb\xc0\xc2\xc4]", data[: start_of_code(data)]), 4):
        stray = inserted(data, found.start(), b"\x01\x02")
        np.testing.assert_array_equal(decode_content(stray).image, decode_content(data).image)
        assert kinds(stray) == ["jpeg_warning"]


def test_the_oddity_is_harmless_and_carries_libjpegs_words():
    data = FILES["4:2:0"]
    (oddity,) = decode_content(inserted(data, 20, b"\x01\x02")).seen.oddities
    assert oddity.harmless
    assert "2 extraneous bytes before marker" in oddity.text
    assert decode_content(data).seen.oddities == ()


def test_an_unknown_revision_of_jfif_costs_nothing():
    data = bytearray(FILES["4:2:0"])
    assert data[6:11] == b"JFIF\0"
    data[11] = 9
    np.testing.assert_array_equal(decode_content(bytes(data)).image, decode_content(FILES["4:2:0"]).image)
    assert kinds(bytes(data)) == ["jpeg_warning"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "progressive"])
def test_numbers_of_a_scan_that_no_decoder_uses_cost_nothing(name: str):
    data = FILES[name]
    place = data.index(b"\xff\xda")
    end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    odd = data[: end - 3] + b"\x00\x00\x00" + data[end:]
    np.testing.assert_array_equal(decode_content(odd).image, decode_content(data).image)
    assert kinds(odd) == ["jpeg_warning"]


@pytest.mark.parametrize("name", FILES)
def test_code_that_ends_too_early_or_is_missing_is_refused(name: str):
    data = FILES[name]
    middle = (start_of_code(data) + len(data)) // 2
    for damaged in (data[:middle], data[:middle] + data[-2:], data[:middle] + bytes(4096)):
        assert is_refused(damaged)


MANY_CUTS = [*range(1, 60), 100, 200, 500]
WITHOUT_SCANS = [name for name in FILES if name != "progressive"]


@pytest.mark.parametrize("name", WITHOUT_SCANS)
@pytest.mark.parametrize("padding", [0, 1, 2, 100, 4096])
def test_a_missing_end_marker_costs_nothing_and_a_missing_byte_of_the_picture_all(name: str, padding: int):
    data = FILES[name]
    intact = decode_content(data).image
    for cut in [cut for cut in MANY_CUTS if cut < len(data) - start_of_code(data)]:
        ended = data[:-cut] + bytes(padding)
        if cut != 2 and is_refused(ended):
            continue
        found = decode_content(ended)  # of a byte that is cut, too, no bit may have been one of the picture's
        np.testing.assert_array_equal(found.image, intact)
        assert [(one.kind, one.harmless) for one in found.seen.oddities] == [("jpeg_without_end", True)]


@pytest.mark.parametrize("side", range(8, 200, 8))
def test_zeros_of_a_buffer_never_stand_for_the_blocks_of_a_picture(side: int):
    # A flat colour's blocks are zeros, too: those that fill a byte at the end may be the picture's or the buffer's.
    data = by_pillow(np.full((16, side, 3), 90, np.uint8))
    assert is_refused(data[:-2]) == (data[-3] == 0)
    for padding in (1, 2, 100):
        assert is_refused(data[:-4] + bytes(padding))


@pytest.mark.parametrize("padding", [0, 1, 100])
def test_the_zero_behind_a_last_byte_of_ones_is_the_codes_own(padding: int):
    chance = np.random.default_rng(1)
    made = [by_pillow(chance.integers(0, 256, (16, 32, 3), np.uint8), quality=95) for _ in range(200)]
    ending_so = [data for data in made if data.endswith(b"\xff\0\xff\xd9")]
    assert len(ending_so) > 3
    for data in ending_so:
        ended = data[:-2] + bytes(padding)
        np.testing.assert_array_equal(decode_content(ended).image, decode_content(data).image)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    level=st.sampled_from([2, 16, 128]),
    restarts=st.sampled_from([0, 1, 3]),
    cut=st.integers(1, 400),
    padding=st.sampled_from([0, 1, 2, 3, 64, 5000]),
)
def test_no_cut_is_ever_taken_for_a_whole_picture(seed: int, level: int, restarts: int, cut: int, padding: int):
    pixels = (scene(seed) // level).astype(np.uint8)  # dark ones have zeros in their code, too
    data = by_opencv(pixels, restarts) if restarts else by_pillow(pixels)
    ended = data[: max(len(data) - cut, start_of_code(data))] + bytes(padding)
    if not is_refused(ended):
        np.testing.assert_array_equal(decode_content(ended).image, decode_content(data).image)


def test_without_an_end_marker_a_picture_of_several_scans_is_refused_for_the_last_may_be_missing():
    data = FILES["progressive"]
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    for end in (*scans[1:], len(data) - 2):
        assert is_refused(data[:end])


UNREAD = {
    "lossless": (b"\xc3", 8, "is lossless"),
    "of 12 bits": (b"\xc1", 12, "is of 12 bits"),
    "of 12 bits, progressive": (b"\xc2", 12, "is of 12 bits"),
    "arithmetic": (b"\xc9", 8, "is arithmetic-coded"),
    "arithmetic, progressive": (b"\xca", 8, "is arithmetic-coded"),
    "hierarchical": (b"\xc5", 8, "is hierarchical"),
    "JPEG-LS": (b"\xf7", 8, "is a JPEG-LS"),
}
"""Marker and bits of a frame, which alone say what kind of code follows, and what is said of it."""


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_kind_of_jpeg_that_is_not_read_is_refused_by_what_it_is_and_not_as_damage(name: str, end: bytes):
    marker, bits, said = UNREAD[name]
    data = FILES["grey"]
    place = data.index(b"\xff\xc0") + 1
    other = data[:place] + marker + data[place + 1 : place + 3] + bytes([bits]) + data[place + 4 : -2] + end
    with pytest.raises(FrameError, match=f"the JPEG {said}.*publish or save it as a baseline JPEG or PNG") as refusal:
        decode_content(other)
    assert refusal.value.reason == "unsupported"


def sampled(factors: tuple[int, ...], height: int, width: int) -> bytes:
    """A whole 4:2:0 JPEG, its blocks put elsewhere: as if the components were sampled so, in a picture of this size."""
    data = bytearray(by_pillow(scene(), quality=90, subsampling="4:2:0"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    for number, both in enumerate(factors):
        data[place + 11 + 3 * number] = both
    return bytes(data)


@pytest.mark.parametrize(
    ("factors", "height", "width"),
    [((0x22, 0x11, 0x11), HEIGHT, WIDTH), ((0x41, 0x11, 0x11), 48, 256), ((0x14, 0x11, 0x11), 192, 64)],
)
def test_colours_sampled_at_four_blocks_are_those_of_opencv(factors: tuple[int, ...], height: int, width: int):
    """4:2:0, 4:1:1, and 4:4:1, as which a 4:1:1 comes out of jpegtran once it is turned."""
    data = sampled(factors, height, width)
    decoded = decode_content(data)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert decoded.image.shape == (height, width, 3)
    assert np.abs(decoded.image.astype(int) - expected).mean() < 1
    assert decoded.seen.oddities == ()
    assert is_refused(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("factors", "said"), [((0x42, 0x11, 0x11), "4x2, 1x1, 1x1"), ((0x21, 0x11, 0x21), "2x1, 1x1, 2x1")]
)
def test_a_sampling_of_colours_that_is_not_read_is_no_damage(factors: tuple[int, ...], said: str):
    with pytest.raises(FrameError, match=f"of a sampling of its colours .{said}. that is not read") as refusal:
        decode_content(sampled(factors, HEIGHT, WIDTH))
    assert refusal.value.reason == "unsupported"


@pytest.mark.parametrize("factors", [(0x05, 0x11, 0x11), (0x44, 0x44, 0x44), (0x00, 0x00, 0x00)])
def test_a_sampling_that_no_jpeg_has_is_damage(factors: tuple[int, ...]):
    assert is_refused(sampled(factors, HEIGHT, WIDTH))


@pytest.mark.parametrize("name", WITH_RESTARTS)
def test_restart_markers_that_are_missing_doubled_or_exchanged_are_refused(name: str):
    data = FILES[name]
    first, second, third = markers(data)[:3]
    for damaged in (
        data[:first] + data[second:],
        data[:second] + data[first:],
        data[: first + 1] + b"\xd3" + data[first + 2 :],
        data[:first] + data[second:third] + data[first:second] + data[third:],
    ):
        assert is_refused(damaged)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_that_libjpeg_warns_of_and_that_spoil_the_picture_are_refused(name: str):
    data = FILES[name]
    intact = decode_content(data).image.astype(int)
    chance = random.Random(7)
    spoiled = passed = 0
    for _ in range(250):
        damaged = bytearray(data)
        damaged[chance.randrange(start_of_code(data), len(data) - 2)] ^= 1 << chance.randrange(8)
        shown = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR_RGB)
        if shown is None or (np.abs(shown - intact).max(axis=2) > 8).mean() < 0.01 or not warns(bytes(damaged)):
            continue
        spoiled += 1
        passed += not is_refused(bytes(damaged))
    assert spoiled > 20
    assert passed <= 0.1 * spoiled  # of an interval of one block, ten stray bytes and ten lost ones can be alike


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"quality": 40}], ids=str)
def test_the_last_blocks_of_the_picture_are_not_taken_for_stray_bytes(options: dict[str, int]):
    # The header is changed to a narrower picture: what is left over are whole blocks, as after a place that was lost.
    warned = 0
    for seed in range(40):
        ramp = np.linspace(seed, 200 - seed, 64 * 3).reshape(64, 3).astype(np.uint8)
        data = bytearray(by_pillow(np.broadcast_to(ramp, (8, 64, 3)), **options))
        place = data.index(b"\xff\xc0") + 7
        struct.pack_into(">H", data, place, 48)
        warned += warns(bytes(data))  # of a few bytes, libjpeg says nothing
        assert is_refused(bytes(data)) == warns(bytes(data))
    assert warned > 20


FILLINGS: list[Callable[[int], bytes]] = [bytes, lambda count: b"\x5a" * count, random.Random(3).randbytes]


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(FILES)),
    where=st.integers(0, 10_000),
    count=st.integers(1, 5),
    filling=st.sampled_from(FILLINGS),
)
def test_stray_bytes_anywhere_before_a_marker_give_the_same_pixels_or_a_refusal(name, where, count, filling):
    data = FILES[name]
    places = markers(data)
    stray = filling(count).replace(b"\xff", b"\xfe")
    damaged = inserted(data, places[where % len(places)], stray)
    if not is_refused(damaged):
        np.testing.assert_array_equal(decode_content(damaged).image, decode_content(data).image)


def test_a_jpeg_is_known_by_its_segments_not_by_its_first_bytes():
    for data in FILES.values():
        assert is_jpeg(data)
        assert is_jpeg(data[: start_of_code(data) + 40])
    for pixels in (
        b"\xff\xd8\xff" * 1000,
        b"\xff\xd8\xff\xe0" + bytes(1000),
        b"\xff\xd8\xff\xda" * 50,
        b"\xff\xd8\xff",
    ):
        assert not is_jpeg(pixels)
