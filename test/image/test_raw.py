"""Raw camera frames: every encoding is converted right, or refused by name. The frames themselves are in frames.py."""

import array
import sys
import tracemalloc
import types

import numpy as np
import pytest
from frames import (
    BAD_IMAGES,
    GOOD_IMAGES,
    HEIGHT,
    LUMA,
    REFUSED_ENCODINGS,
    RGB,
    WIDTH,
    assert_refused_as,
    assert_shown,
    image_fields,
    names,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_perception.errors import FrameError
from cnn_perception.image import raw
from cnn_perception.image.messages import EncodedImage, decode, encoded_from_message

CONVERTED = {good.fields["encoding"] for good in GOOD_IMAGES}


def image(fields):
    return encoded_from_message(types.SimpleNamespace(**fields))


@pytest.mark.parametrize("good", GOOD_IMAGES, ids=names(GOOD_IMAGES))
def test_an_encoding_is_converted_to_the_scenes_rgb(good):
    assert_shown(decode(image(good.fields)), good)


@pytest.mark.parametrize("bad", BAD_IMAGES, ids=names(BAD_IMAGES))
def test_a_bad_image_is_refused_with_its_reason_in_one_short_line(bad):
    with pytest.raises(FrameError) as refusal:
        decode(image(bad.fields))
    assert_refused_as(bad, refusal.value)


def test_every_ros_encoding_is_either_converted_or_refused():
    generic = {f"{depth}C{n}" for depth in ("8U", "8S", "16U", "16S", "32S", "32F", "64F") for n in (1, 2, 3, 4)}
    colours = {f"{c}{bits}" for c in ("rgb", "rgba", "bgr", "bgra", "mono") for bits in (8, 16)}
    bayer = {f"bayer_{p}{bits}" for p in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)}
    yuv = {"uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21", "nv24"}
    assert CONVERTED | set(REFUSED_ENCODINGS) >= generic | colours | bayer | yuv
    assert not CONVERTED & set(REFUSED_ENCODINGS)


def test_the_refusal_of_8uc3_says_what_to_publish():
    with pytest.raises(FrameError, match=r"8UC3.*publish rgb8, bgr8"):
        decode(image(image_fields("8UC3", RGB)))


def test_a_long_encoding_is_cut_in_the_message():
    with pytest.raises(FrameError, match=r"'x{40}\.\.\.'"):
        decode(image(image_fields("x" * 10_000, RGB)))


@pytest.mark.parametrize(
    "buffer",
    [
        bytes,
        bytearray,
        lambda data: array.array("B", data),
        lambda data: np.frombuffer(data, np.uint8),
        lambda data: np.frombuffer(b"x" + data, np.uint8)[1:],
    ],
    ids=["bytes", "bytearray", "array", "readonly_numpy", "unaligned_numpy"],
)
@pytest.mark.parametrize("name", ["rgb8", "bgr8", "mono16_<u2", "32FC1_<", "nv12_None"])
def test_every_kind_of_buffer_gives_the_same_pixels(buffer, name):
    good = next(good for good in GOOD_IMAGES if good.name == name)
    rgb = decode(image(good.fields | {"data": buffer(good.fields["data"])}))
    assert np.abs(rgb.astype(int) - good.rgb.astype(int)).max() <= good.tolerance


def test_rgb8_without_padding_is_not_copied():
    data = array.array("B", RGB.tobytes())
    rgb = decode(image(image_fields("rgb8", RGB) | {"data": data}))
    assert np.shares_memory(rgb, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (128, 0), (129, 1), (385, 1), (386, 2), (65406, 254), (65407, 255)]
)
def test_16_bits_are_scaled_by_257_and_rounded(value, expected):
    rgb = decode(image(image_fields("mono16", np.full((HEIGHT, WIDTH), value, "<u2"))))
    assert (rgb == expected).all()


def test_16_bit_scaling_is_exact_for_every_value():
    values = np.arange(65536, dtype=np.uint16).reshape(128, 512)
    rgb = decode(image(image_fields("mono16", values, height=128, width=512)))
    assert np.array_equal(rgb[..., 1], (values.astype(np.int64) * 2 + 257) // 514)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0), (0.5 / 255 + 1e-6, 1), (0.5, 128), (1.0, 255)])
def test_float_intensities_are_scaled_by_255_and_rounded(value, expected):
    rgb = decode(image(image_fields("32FC1", np.full((HEIGHT, WIDTH), value, "<f4"))))
    assert (rgb == expected).all()


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("colour", ["r", "g", "b"])
def test_a_mosaic_of_one_lit_colour_shows_that_colour_alone(pattern, colour):
    lit = np.array([255 if letter == colour else 0 for letter in pattern], np.uint8).reshape(2, 2)
    rgb = decode(image(image_fields(f"bayer_{pattern}8", np.tile(lit, (HEIGHT // 2, WIDTH // 2)))))
    assert (rgb == [255 * (letter == colour) for letter in "rgb"]).all()


def test_bayer_of_odd_size_is_converted():
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint8), (3, 4))[:5, :7]
    rgb = decode(image(image_fields("bayer_rggb8", mosaic, height=5, width=7)))
    assert (rgb == (200, 100, 50)).all()


@pytest.mark.parametrize(("luma", "expected"), [(16, 0), (235, 255), (126, 128)])
def test_yuv_is_read_as_limited_range(luma, expected):
    rows = np.tile(np.array([luma, 128], np.uint8), (HEIGHT, WIDTH))
    rgb = decode(image(image_fields("yuyv", rows)))
    assert np.abs(rgb.astype(int) - expected).max() <= 1


def test_nv24_agrees_with_yuyv_to_the_bit():
    chroma = np.tile(np.array([100, 170], np.uint8), (HEIGHT, WIDTH))
    nv24 = decode(image(image_fields("nv24", np.concatenate([LUMA, chroma.reshape(-1, WIDTH)]))))
    packed = np.stack([LUMA, np.tile(np.array([100, 170], np.uint8), (HEIGHT, WIDTH // 2))], axis=-1)
    yuyv = decode(image(image_fields("yuyv", packed)))
    assert np.array_equal(nv24, yuyv)


ORACLE = [
    good
    for good in GOOD_IMAGES
    if not good.fields["encoding"].startswith(("nv", "NV", "i4", "yv", "yuv420", "yuv422p", "8U", "16U", "32F", "64F"))
    and not good.fields["encoding"].endswith(("10", "12", "14"))
    and not good.name.endswith("_padded")
    and "trailing" not in good.name
]


@pytest.mark.parametrize("good", ORACLE, ids=names(ORACLE))
def test_rosbags_image_agrees(good):
    oracle = pytest.importorskip("rosbags.image", reason="rosbags-image is not installed")
    message = types.SimpleNamespace(**good.fields)
    expected = oracle.image_to_cvimage(message, "rgb8").astype(int)  # it truncates 16 bits where this package rounds
    assert np.abs(decode(image(good.fields)).astype(int) - expected).max() <= (1 if "16" in good.name else 0)


BRIDGED = [g for g in GOOD_IMAGES if g.name in {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuv422", "yuv422_yuy2"}]
BRIDGED += [g for g in GOOD_IMAGES if g.name.startswith("bayer") and g.name.endswith("8")]


@pytest.mark.parametrize("good", BRIDGED, ids=names(BRIDGED))
def test_cv_bridge_agrees(good):
    bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed (it comes with an apt ROS 2)")
    try:
        expected = bridge.CvBridge().imgmsg_to_cv2(types.SimpleNamespace(**good.fields), "rgb8")
    except bridge.CvBridgeError as error:  # Debian's is older than ROS 2's newest encodings
        pytest.skip(str(error))
    assert np.array_equal(decode(image(good.fields)), expected)


@pytest.fixture
def fake_bridge(monkeypatch):
    """A cv_bridge that knows the encoding `inverted8`."""

    class CvBridgeError(TypeError):
        pass

    class CvBridge:
        def imgmsg_to_cv2(self, message, desired):
            if message.encoding != "inverted8":
                raise CvBridgeError(f"unrecognised encoding {message.encoding}")
            assert desired == "rgb8"
            return 255 - np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)

    bridge = types.SimpleNamespace(CvBridge=CvBridge, CvBridgeError=CvBridgeError)
    monkeypatch.setitem(sys.modules, "cv_bridge", bridge)
    raw._cv_bridge.cache_clear()
    yield bridge
    raw._cv_bridge.cache_clear()


@pytest.mark.usefixtures("fake_bridge")
def test_an_encoding_outside_the_table_goes_through_cv_bridge():
    assert np.array_equal(decode(image(image_fields("inverted8", RGB))), 255 - RGB)


@pytest.mark.usefixtures("fake_bridge")
@pytest.mark.parametrize(
    ("change", "reason"),
    [({"encoding": "other"}, "encoding"), ({"data": b""}, "truncated"), ({"height": 2**31, "width": 2**31}, "size")],
)
def test_what_cv_bridge_cannot_take_is_refused(change, reason):
    with pytest.raises(FrameError) as refusal:
        decode(image(image_fields("inverted8", RGB) | change))
    assert refusal.value.reason == reason


@pytest.mark.usefixtures("fake_bridge")
def test_an_encoding_refused_by_name_never_reaches_cv_bridge():
    with pytest.raises(FrameError, match="is refused"):
        decode(image(image_fields("8UC3", RGB)))


@pytest.mark.parametrize("encoding", sorted(CONVERTED))
def test_a_lying_header_allocates_nothing(encoding):
    tracemalloc.start()
    with pytest.raises(FrameError):
        decode(EncodedImage(bytes(4096), encoding, 8192, 8192, 8192 * 8, is_bigendian=False))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


SIDES = st.one_of(st.integers(0, 9), st.sampled_from([2**13, 2**16, 2**31, 2**32 - 1]))


@settings(max_examples=1500, deadline=None)
@given(
    encoding=st.one_of(st.sampled_from(sorted(CONVERTED | set(REFUSED_ENCODINGS))), st.text(max_size=60)),
    height=SIDES,
    width=SIDES,
    step=st.one_of(st.integers(0, 80), st.sampled_from([2**16, 2**32 - 1])),
    big=st.booleans(),
    data=st.one_of(st.binary(max_size=64), st.integers(0, 2**31).map(lambda seed: noise(seed))),
)
def test_any_message_is_a_picture_or_a_refusal(encoding, height, width, step, big, data):
    try:
        rgb = decode(EncodedImage(data, encoding, height, width, step, big))
    except FrameError as error:
        refusal = error
    else:
        assert rgb.shape == (height, width, 3)
        assert rgb.dtype == np.uint8
        assert rgb.flags.c_contiguous
        return
    reasons = {"encoding", "size", "step", "truncated", "padding", "not_finite", "range"}
    assert refusal.reason in reasons | {"corrupt", "depth", "format"}  # the latter of what begins as a file
    assert len(str(refusal)) < 400


def noise(seed):
    return np.random.default_rng(seed).bytes(9 * 80 * 3)
