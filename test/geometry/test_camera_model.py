"""Owns: pixel of a camera -> ray, and which calibrations are none. Oracle: OpenCV's projections, hand arithmetic."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_images import blob

from cnn_perception.errors import ConfigError
from cnn_perception.geometry.camera_model import CameraModel, differs_once_rectified, doubt_of_size

WIDTH, HEIGHT = 640, 480
K = (500.0, 0.0, 330.0, 0.0, 480.0, 235.0, 0.0, 0.0, 1.0)
P = (420.0, 0.0, 310.0, -30.0, 0.0, 430.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
STILL = np.zeros(3)

LENSES = {
    "ideal": ("", (), K),
    "ideal, zeros": ("plumb_bob", (0.0,) * 5, K),
    "plumb_bob": ("plumb_bob", (-0.28, 0.07, 2e-3, -1e-3, 0.01), K),
    "plumb_bob of four": ("plumb_bob", (-0.28, 0.07, 2e-3, -1e-3), K),
    "pincushion": ("plumb_bob", (0.3, 0.1, 0.0, 0.0, 0.0), K),
    "rational": ("rational_polynomial", (0.4, -2.5, 7e-4, -2e-4, 1.4, 0.28, -2.3, 1.37), K),
    "wide": ("rational_polynomial", (8.0, 5.0, 1e-4, 1e-4, 0.3, 8.3, 7.2, 1.3), (300.0, *K[1:4], 300.0, *K[5:])),
    "thin prism": ("rational_polynomial", (-0.2, 0.05, 1e-3, 1e-3, 0.0, 0, 0, 0, 0.01, 2e-3, -0.01, 3e-3), K),
    "equidistant": ("equidistant", (0.01, -0.02, 5e-3, -1e-3), (190.0, *K[1:4], 195.0, *K[5:])),
    "fisheye": ("fisheye", (-0.05, 0.01, 0.0, 0.0), (190.0, *K[1:4], 195.0, *K[5:])),
    "fisheye without D": ("equidistant", (), (190.0, *K[1:4], 195.0, *K[5:])),
}


def camera_info(model="plumb_bob", d=(), k=K, *, r=STRAIGHT, p=P, binning=(0, 0), roi=(0, 0, 0, 0), **more):
    window = SimpleNamespace(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3], do_rectify=any(roi))
    fields = {"width": WIDTH, "height": HEIGHT, "distortion_model": model, "d": d, "k": k, "r": r, "p": p}
    return SimpleNamespace(**(fields | more), binning_x=binning[0], binning_y=binning[1], roi=window)


def camera(*values, rectified=False, **more) -> CameraModel:
    return CameraModel.from_message(camera_info(*values, **more), "front/camera_info", rectified)


def direction(right_deg: float, down_deg: float) -> np.ndarray:
    found = np.array([math.tan(math.radians(right_deg)), math.tan(math.radians(down_deg)), 1.0])
    return found / np.linalg.norm(found)


def projected(towards: np.ndarray, model: str, d, k) -> tuple[float, float]:
    """The pixel that a direction is seen at, as OpenCV says."""
    matrix = np.array(k).reshape(3, 3)
    coefficients = np.array(d, np.float64)
    if model in ("equidistant", "fisheye"):
        coefficients = coefficients if len(coefficients) else np.zeros(4)
        found, _ = cv2.fisheye.projectPoints(towards.reshape(1, 1, 3), STILL, STILL, matrix, coefficients)
    else:
        found, _ = cv2.projectPoints(towards.reshape(1, 1, 3), STILL, STILL, matrix, coefficients)
    return tuple(found.ravel())


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.atan2(np.linalg.norm(np.cross(a, b)), a @ b))


# ---- rays


@pytest.mark.parametrize(("model", "d", "k"), LENSES.values(), ids=LENSES.keys())
def test_a_direction_that_is_projected_into_the_image_comes_back(model, d, k):
    found = camera(model, d, k)
    widest = 70 if "equidistant" in model or model == "fisheye" else 30
    for right_deg in np.linspace(-widest, widest, 7):
        for down_deg in np.linspace(-0.75 * widest, 0.75 * widest, 7):
            towards = direction(right_deg, down_deg)
            ray = found.ray(*projected(towards, model, d, k))
            assert (ray.shape, ray.dtype) == ((3,), np.float64)
            assert np.linalg.norm(ray) == pytest.approx(1.0)
            assert angle_deg(ray, towards) < 1e-4


def test_the_optical_frame_is_that_of_rep_103():
    found = camera()
    assert found.ray(330.0, 235.0) == pytest.approx([0.0, 0.0, 1.0])  # the principal point: straight ahead
    assert found.ray(830.0, 235.0) == pytest.approx([math.sqrt(0.5), 0.0, math.sqrt(0.5)])  # 45 degrees to the right
    assert found.ray(330.0, 715.0) == pytest.approx([0.0, math.sqrt(0.5), math.sqrt(0.5)])  # 45 degrees down


@pytest.mark.parametrize("theta_deg", [0.0, 89.0, 90.0, 100.0, 110.0])
def test_a_fisheye_also_sees_what_is_behind_it(theta_deg):
    k1 = -0.02
    theta = math.radians(theta_deg)
    phi = 0.6
    radius = 190.0 * theta * (1 + k1 * theta**2)
    found = camera("equidistant", (k1, 0.0, 0.0, 0.0), (190.0, 0.0, 330.0, 0.0, 190.0, 235.0, 0.0, 0.0, 1.0))
    ray = found.ray(330.0 + radius * math.cos(phi), 235.0 + radius * math.sin(phi))
    expected = [math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)]
    assert angle_deg(ray, np.array(expected)) < 1e-3


@pytest.mark.parametrize(
    ("model", "d", "largest"),
    [
        # r (1 - 0.4 r^2) is largest at r = 1 / sqrt(1.2), where it is 0.6086
        ("plumb_bob", (-0.4, 0.0, 0.0, 0.0, 0.0), 0.6086),
        # theta (1 - 0.3 theta^2) is largest at theta = 1 / sqrt(0.9), where it is 0.7027
        ("equidistant", (-0.3, 0.0, 0.0, 0.0), 0.7027),
    ],
)
def test_where_a_lens_model_turns_back_there_is_no_ray(model, d, largest):
    found = camera(model, d)
    assert found.ray(330.0 + 500.0 * (largest - 0.001), 235.0) is not None
    for beyond in (0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0):
        assert found.ray(330.0 + 500.0 * (largest + beyond), 235.0) is None


def test_rectified_images_have_no_distortion_and_the_matrix_p():
    found = camera("plumb_bob", (-0.28, 0.07, 0.0, 0.0, 0.0), rectified=True)
    towards = direction(12.0, -7.0)
    u, v, w = np.array(P).reshape(3, 4)[:, :3] @ towards
    assert angle_deg(found.ray(u / w, v / w), towards) < 1e-6


def test_raw_and_rectified_images_of_a_stereo_camera_agree():
    """The optical frame is that of the rectified images; R turns the camera's own into it."""
    rotation, _ = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))
    _, d, k = LENSES["plumb_bob"]
    info = camera_info("plumb_bob", d, k, r=tuple(rotation.ravel()))
    raw, rectified = (CameraModel.from_message(info, "left", flag) for flag in (False, True))
    towards = direction(12.0, -7.0)
    u, v, w = np.array(P).reshape(3, 4)[:, :3] @ towards
    pixel = projected(rotation.T @ towards, "plumb_bob", d, k)
    matrices = {"R": rotation, "P": np.array(P).reshape(3, 4)[:, :3]}
    corrected = cv2.undistortPoints(np.array([[pixel]]), np.array(k).reshape(3, 3), np.array(d), **matrices)
    assert corrected.ravel() == pytest.approx((u / w, v / w), abs=0.1)  # OpenCV turns the same way
    assert angle_deg(raw.ray(*pixel), towards) < 1e-4
    assert angle_deg(rectified.ray(u / w, v / w), towards) < 1e-4


TURNED = tuple(cv2.Rodrigues(np.array([0.0, 0.01, 0.0]))[0].ravel())
OWN_P = (*K[:3], 0.0, *K[3:6], 0.0, *K[6:], 0.0)
NOTHING = (0.0,) * 12


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("r", [STRAIGHT, (0.0,) * 9, TURNED], ids=["alone", "unset", "stereo"])
@pytest.mark.parametrize("p", ["K", "another"])
def test_raw_and_rectified_differ_where_a_pixel_has_two_rays(lens, r, p):
    """Oracle: the rays themselves, at the middle and near the corners."""
    model, d, k = LENSES[lens]
    info = camera_info(model, d, k, r=r, p=(*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0) if p == "K" else P)
    raw, rectified = (CameraModel.from_message(info, "camera", flag) for flag in (False, True))
    pairs = [(raw.ray(*pixel), rectified.ray(*pixel)) for pixel in ((320, 240), (60, 50), (580, 430), (60, 430))]
    differ = any(ours is None or angle_deg(ours, theirs) > 0.1 for ours, theirs in pairs)
    assert differs_once_rectified(info) == differ


@pytest.mark.parametrize("more", [{"p": NOTHING}, {"k": (0.0,) * 9, "d": (0.1,) * 5}, {"p": OWN_P}])
def test_of_a_calibration_that_says_nothing_of_rectified_images_no_difference_is_known(more):
    assert not differs_once_rectified(camera_info(**more))


def test_distortion_differs_without_a_p():
    assert differs_once_rectified(camera_info(d=(0.0, 0.0, 0.0, 0.0, 1e-3), p=NOTHING))


def centre_of(picture: np.ndarray) -> tuple[float, float]:
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return (columns * picture).sum() / picture.sum(), (rows * picture).sum() / picture.sum()


@pytest.mark.parametrize("binning", [(0, 0), (1, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("roi", [(0, 0, 0, 0), (320, 96, 240, 200)])
def test_binning_and_regions_of_interest_do_not_turn_the_ray(binning, roi):
    """A spot on the sensor is read out whole, and as the driver crops and bins it: the same direction."""
    _, d, k = LENSES["plumb_bob"]
    sensor = blob(451.3, 187.8, HEIGHT, WIDTH, 9.0)
    x, y, width, height = roi if any(roi) else (0, 0, WIDTH, HEIGHT)
    across, down = max(binning[0], 1), max(binning[1], 1)
    image = sensor[y : y + height, x : x + width].reshape(height // down, down, width // across, across).mean((1, 3))
    found = camera("plumb_bob", d, k, binning=binning, roi=roi)
    found.check_size(*image.shape)
    whole = camera("plumb_bob", d, k).ray(*centre_of(sensor))
    assert angle_deg(found.ray(*centre_of(image)), whole) < 1e-4


@pytest.mark.parametrize(
    ("binning", "roi", "size", "fits"),
    [
        ((0, 0), (0, 0, 0, 0), (480, 640), True),
        ((0, 0), (0, 0, 0, 0), (240, 320), False),
        ((0, 0), (0, 0, 0, 0), (640, 480), False),
        ((2, 2), (0, 0, 0, 0), (240, 320), True),
        ((2, 2), (0, 0, 0, 0), (480, 640), False),
        ((2, 2), (0, 0, 0, 0), (240, 321), False),
        ((0, 0), (9, 9, 100, 50), (50, 100), True),
        ((0, 0), (9, 9, 100, 50), (480, 640), False),
        ((2, 4), (9, 9, 101, 51), (12, 50), True),  # the rest is dropped,
        ((2, 4), (9, 9, 101, 51), (13, 51), True),  # or filled up
        ((2, 4), (9, 9, 101, 51), (14, 51), False),
    ],
)
def test_images_of_another_size_than_calibrated_are_refused(binning, roi, size, fits):
    found = camera(binning=binning, roi=roi)
    if fits:
        found.check_size(*size)
    else:
        with pytest.raises(ConfigError, match=rf"front/camera_info .*{size[1]}x{size[0]}"):
            found.check_size(*size)


SKEWED = (500.0, 9.0, 330.0, 0.0, 480.0, 235.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("right_deg", [-25.0, 0.0, 25.0])
@pytest.mark.parametrize("down_deg", [-20.0, 0.0, 20.0])
def test_a_skewed_matrix_gives_the_rays_of_its_inverse(right_deg, down_deg):
    """Oracle: the matrix times the direction, of K with a distortion by OpenCV before it, and of P."""
    towards = direction(right_deg, down_deg)
    u, v, _ = np.array(SKEWED).reshape(3, 3) @ (towards / towards[2])
    assert angle_deg(camera(k=SKEWED).ray(u, v), towards) < 1e-6
    p = (*SKEWED[:3], 0.0, *SKEWED[3:6], 0.0, *SKEWED[6:], 0.0)
    assert angle_deg(camera(k=K, p=p, rectified=True).ray(u, v), towards) < 1e-6

    for name in ("plumb_bob", "equidistant"):
        _, d, _ = LENSES[name]
        x, y = projected(towards, name, d, STRAIGHT)
        u, v, _ = np.array(SKEWED).reshape(3, 3) @ (x, y, 1.0)
        assert angle_deg(camera(name, d, SKEWED).ray(u, v), towards) < 1e-4


@pytest.mark.parametrize(
    ("roi", "binning", "fits"),
    [
        ((0, 0, WIDTH, HEIGHT), (0, 0), True),
        ((320, 240, 320, 240), (0, 0), True),
        ((320, 240, 320, 240), (2, 2), True),  # the region is of the sensor, not of the binned image
        ((0, 0, 0, 0), (4, 4), True),
        ((600, 0, 0, 0), (0, 0), True),
        ((400, 0, 320, 240), (0, 0), False),
        ((0, 250, 320, 240), (0, 0), False),
        ((0, 250, 320, 240), (2, 2), False),
        ((0, 0, WIDTH + 1, HEIGHT), (0, 0), False),
        ((WIDTH, 0, 0, 0), (0, 0), False),
        ((0, HEIGHT + 5, 0, 0), (0, 0), False),
        ((2**32 - 1, 0, 2**32 - 1, 10), (0, 0), False),
    ],
)
def test_a_region_of_interest_that_leaves_its_image_is_refused(roi, binning, fits):
    if fits:
        assert camera(roi=roi, binning=binning).ray(10.0, 10.0) is not None
        return
    x, y, width, height = roi
    with pytest.raises(ConfigError) as caught:
        camera(roi=roi, binning=binning)
    assert f"region of interest ({width}x{height} at {x},{y}) leaves the image of 640x480" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "d", "room"),
    [
        ("equidistant", (), 5),
        ("equidistant", (0.01, -0.02, 5e-3, -1e-3), 5),
        ("fisheye", (-0.05, 0.01, 0.0, 0.0), 14),
        ("plumb_bob", (-0.28, 0.07, 2e-3, -1e-3), 6),
        ("plumb_bob", (-0.28, 0.07, 2e-3, -1e-3, 0.01), 10),
        ("rational_polynomial", (0.4, -2.5, 7e-4, -2e-4, 1.4, 0.28, -2.3, 1.37), 20),
    ],
)
def test_coefficients_in_a_field_with_room_for_more_are_read(model, d, room):
    k = LENSES["fisheye" if model != "plumb_bob" else "plumb_bob"][2] if model != "rational_polynomial" else K
    padded = camera(model, (*d, *[0.0] * (room - len(d))), k)
    assert padded.ray(100.0, 120.0) == pytest.approx(camera(model, d, k).ray(100.0, 120.0))


UNUSABLE = {
    "never calibrated": ({"k": (0.0,) * 9}, "uncalibrated (K is zero): run camera_calibration"),
    "NaN": ({"k": (math.nan, *K[1:])}, "K is no camera matrix"),
    "infinite centre": ({"k": (*K[:2], math.inf, *K[3:])}, "K is no camera matrix"),
    "negative focal length": ({"k": (*K[:4], -480.0, *K[5:])}, "K is no camera matrix"),
    "memory that was never set": (
        {"k": (772.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 6.9e-310, 2.5e-323)},
        "K is no camera matrix",
    ),
    "a last row of zeros": ({"k": (*K[:8], 0.0)}, "K is no camera matrix"),
    "a matrix written by columns": ({"k": (500.0, 0.0, 0.0, 0.0, 480.0, 0.0, 330.0, 235.0, 1.0)}, "K is no camera"),
    "one focal length of another unit": ({"k": (*K[:4], 0.48, *K[5:])}, "K is no camera matrix"),
    "millimetres": ({"k": (3.6, 0.0, 330.0, 0.0, 3.6, 235.0, 0.0, 0.0, 1.0)}, "focal lengths of 3.6 and 3.6 pixels"),
    "K of images six times as large": ({"k": (3000.0, 0.0, 1980.0, 0.0, 2880.0, 1410.0, 0, 0, 1)}, "publish it for"),
    "K of images twice as large": ({"k": (1000.0, 0.0, 631.0, 0.0, 960.0, 471.0, 0.0, 0.0, 1.0)}, "principal point"),
    "K of images half as large": (
        {"k": (250.0, 0.0, 165.0, 0.0, 240.0, 117.0, 0.0, 0.0, 1.0)},
        "principal point at (165, 117) in images of 640x480: it is of smaller ones",
    ),
    "K of images binned by four": (
        {"k": (125.0, 0.0, 82.0, 0.0, 120.0, 58.0, 0.0, 0.0, 1.0), "binning": (4, 4)},
        "of smaller ones, perhaps by binning",
    ),
    "K of images 1.5 times as large": (
        {"k": (750.0, 0.0, 480.0, 0.0, 720.0, 355.0, 0.0, 0.0, 1.0)},
        "it is of larger ones",
    ),
    "column and row of the centre exchanged": (
        {"k": (500.0, 0.0, 235.0, 0.0, 480.0, 330.0, 0.0, 0.0, 1.0)},
        "principal point at (235, 330) in images of 640x480: its column and row are exchanged",
    ),
    "the same of a wide image": (
        {"k": (900.0, 0.0, 352.0, 0.0, 900.0, 655.0, 0.0, 0.0, 1.0), "width": 1280, "height": 720},
        "its column and row are exchanged",
    ),
    "K of normalised pixels": ({"k": (0.78, 0.0, 0.51, 0.0, 0.96, 0.49, 0.0, 0.0, 1.0)}, "principal point"),
    "a centre of zero": ({"k": (500.0, 0.0, 0.0, 0.0, 480.0, 0.0, 0.0, 0.0, 1.0)}, "principal point at (0, 0)"),
    "P of another size": ({"p": (*P[:2], 930.0, *P[3:]), "rectified": True}, "P has its principal point"),
    "a size that was never set": ({"width": 0, "height": 0}, "images of 0x0"),
    "a fisheye by another name, without D": ({"model": "Kannala Brandt4", "d": (0.0,) * 4}, "is not known"),
    "an omnidirectional camera without D": ({"model": "omnidirectional"}, "is not known"),
    "NaN in D": ({"d": (math.nan,) * 5}, "D has NaN"),
    "three coefficients": ({"d": (0.1, 0.1, 0.1)}, "D has 3 numbers"),
    "five for a fisheye": ({"model": "equidistant", "d": (0.1,) * 5}, "equidistant has 4"),
    "no model named": ({"model": "", "d": (0.1,) * 5}, "distortion_model ''"),
    "another model": ({"model": "mei" * 5000, "d": (0.1,) * 4}, "is not known"),
    "R is no rotation": ({"r": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, "R is no rotation"),
    "skewed by seven degrees": ({"k": (500.0, 60.0, *K[2:])}, "K is no camera matrix"),
    "six coefficients": ({"d": (0.1,) * 6}, "D has 6 numbers"),
    "rectified without P": ({"p": (0.0,) * 12, "rectified": True}, "uncalibrated (P is zero)"),
    "rectified region": ({"roi": (1, 1, 9, 9), "rectified": True}, "use the raw one"),
}


@pytest.mark.parametrize(("fields", "text"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_camera_info_that_is_no_use_is_refused_in_one_line(fields, text):
    with pytest.raises(ConfigError) as caught:
        camera(**fields)
    message = str(caught.value)
    assert text in message
    assert message.startswith("front/camera_info")
    assert len(message) < 400
    assert "\n" not in message


# Of common sizes, those whose matrix another one may be published with: resized, or cut to another shape.
@pytest.mark.parametrize(
    ("calibrated", "published"),
    [
        ((640, 480), (800, 600)),
        ((1600, 900), (1920, 1080)),
        ((1600, 900), (1280, 720)),
        ((640, 480), (640, 360)),
        ((1280, 720), (1280, 960)),
        ((1280, 720), (960, 720)),
    ],
)
def test_a_matrix_of_images_nearly_as_large_is_told_and_the_right_one_is_not(calibrated, published):
    focal = 0.8 * calibrated[0]
    k = (focal, 0.0, calibrated[0] / 2.0 + 3.0, 0.0, focal, calibrated[1] / 2.0 - 2.0, 0.0, 0.0, 1.0)
    told = doubt_of_size(camera_info(k=k, width=published[0], height=published[1]), "front/camera_info")
    assert told.startswith("front/camera_info: K has its principal point at (")
    assert f"images of about {calibrated[0] + 6}x{calibrated[1] - 4}, but" in told
    assert f"said to be of {published[0]}x{published[1]}: " in told
    assert doubt_of_size(camera_info(k=k, width=calibrated[0], height=calibrated[1]), "front/camera_info") == ""


# Of 640x480: centres that lenses of real cameras have, as published calibrations show.
@pytest.mark.parametrize("centre", [(320.5, 240.5), (303.0, 215.0), (355.0, 281.0), (339.0, 260.0), (256.0, 250.0)])
def test_a_lens_that_is_a_little_beside_the_middle_raises_no_doubt(centre):
    k = (500.0, 0.0, centre[0], 0.0, 500.0, centre[1], 0.0, 0.0, 1.0)
    assert doubt_of_size(camera_info(k=k), "front/camera_info") == ""


def test_square_images_have_rays_though_the_column_and_row_of_the_centre_could_be_exchanged():
    k = (500.0, 0.0, 262.0, 0.0, 500.0, 248.0, 0.0, 0.0, 1.0)
    assert camera(k=k, width=512, height=512).ray(262.0, 248.0) == pytest.approx((0.0, 0.0, 1.0))


@pytest.mark.parametrize("model", ["none", "None", "pinhole", "Brown-Conrady", "brown_conrady", "perspective"])
@pytest.mark.parametrize("d", [(), (0.0,) * 5])
def test_without_distortion_the_name_of_its_model_does_not_matter(model, d):
    expected = camera("plumb_bob", (0.0,) * 5).ray(12.0, 345.0)
    assert camera(model, d).ray(12.0, 345.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    "model",
    ["double_sphere", "kannala_brandt", "equirectangular", "spherical", "cylindrical", "fisheyePolynomial", "ftheta",
     "fisheyeEquisolid", "opencv_fisheye", "Fisheye624", "equidistant4", "orthographic", "panoramic"],
)  # fmt: skip
def test_a_projection_that_is_no_pinholes_gives_no_ray_where_d_is_zero(model):
    """Its pixels are elsewhere all the same: of the ideal fisheye, f * theta from the centre and not f * tan(theta)."""
    with pytest.raises(ConfigError, match=f"distortion_model '{model}' is not known; use the rectified image"):
        camera(model, (0.0,) * 4)


@pytest.mark.parametrize("k", [lens[2] for lens in LENSES.values()], ids=LENSES.keys())
def test_the_matrix_of_a_real_camera_is_taken(k):
    assert camera("plumb_bob", (), k).ray(100.0, 100.0) is not None


def test_what_drivers_leave_empty_is_harmless():
    assert camera(r=(0.0,) * 9).ray(330.0, 235.0) == pytest.approx([0.0, 0.0, 1.0])
    assert camera("", (0.0,) * 5).distortion == "none"
    assert camera(k=(0.0,) * 9, rectified=True).ray(310.0, 250.0) == pytest.approx([0.0, 0.0, 1.0])


def test_the_message_of_ros_is_read():
    messages = pytest.importorskip("sensor_msgs.msg")
    _, d, k = LENSES["rational"]
    message = messages.CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="rational_polynomial", binning_x=2)
    message.d = list(d)
    message.k = list(k)
    message.r = list(STRAIGHT)
    message.p = list(P)
    message.roi.x_offset = 20
    found = CameraModel.from_message(message, "camera_info")
    expected = camera("rational_polynomial", d, k).ray(20 + 2 * 100 + 0.5, 77.0)
    assert found.ray(100.0, 77.0) == pytest.approx(expected)
    found.check_size(480, 310)


NUMBER = st.one_of(st.floats(), st.floats(-10, 10), st.sampled_from([0.0, 1.0, 500.0]))


@settings(max_examples=200, deadline=None)
@given(
    model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", ""]),
    d=st.one_of(st.lists(NUMBER, max_size=15), st.lists(st.floats(-3, 3), min_size=4, max_size=8)),
    k=st.one_of(st.just(K), st.tuples(*[NUMBER] * 9)),
    r=st.one_of(st.just(STRAIGHT), st.tuples(*[NUMBER] * 9)),
    pixel=st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_whatever_a_camera_info_says_rays_are_unit_vectors_or_none(model, d, k, r, pixel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            ray = camera(model, d, k, r=r).ray(*pixel)
        except ConfigError:
            return
    assert ray is None or np.linalg.norm(ray) == pytest.approx(1.0, abs=2e-3)
