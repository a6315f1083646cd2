"""Owns: RGB image -> input tensor. Oracles: torchvision's reference transform, hand arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, Interpolation
from cnn_perception.pipeline.preprocess import Region, input_region, preprocess
from cnn_perception.pipeline.resample import Side, resample

IDENTITY = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def spec(height: int, width: int, mode: str, fraction: float = 1.0, interpolation: str = "bilinear") -> InputSpec:
    return InputSpec(height, width, mode, fraction, interpolation, IMAGENET_MEAN, IMAGENET_STD)  # type: ignore[arg-type]


def photo(height: int, width: int) -> RgbImage:
    """Smooth structure plus fine noise: what resampling without antialiasing gets wrong."""
    rng = np.random.default_rng(height * 10_000 + width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.stack([np.sin(rows / 9), np.cos(columns / 13), np.sin((rows + columns) / 5)], axis=-1)
    return RgbImage(np.clip(127 + 70 * waves + rng.normal(0, 40, waves.shape), 0, 255).astype(np.uint8))


def grey_levels(tensor: np.ndarray) -> np.ndarray:
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (tensor * std + mean) * 255


@pytest.mark.parametrize("size", [(480, 640), (500, 375), (224, 224), (100, 60), (720, 1280), (333, 777), (257, 256)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_is_within_one_grey_level_of_torchvision(size: tuple[int, int], interpolation: str):
    transforms = pytest.importorskip("torchvision.transforms", reason="the oracle is torchvision")
    image = photo(*size)
    mode = transforms.InterpolationMode(interpolation)
    reference = transforms.Compose(
        [
            transforms.Resize(256, interpolation=mode),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    expected = reference(Image.fromarray(image)).numpy()

    tensor = preprocess(image, spec(224, 224, "crop", 0.875, interpolation))

    assert np.abs(grey_levels(tensor) - grey_levels(expected)).max() <= 1.01


SIZES = [(480, 640), (640, 480), (720, 1280), (333, 777), (150, 200), (60, 31), (3000, 4000)]


@pytest.mark.parametrize("size", SIZES)
def test_pillow_in_floating_point_gives_the_same_pixels(size: tuple[int, int]):
    image = photo(*size)
    wanted = spec(224, 200, "crop", 0.7)
    region = input_region(*size, wanted)
    box = (region.left, region.top, region.right, region.bottom)
    channels = [Image.fromarray(image[..., channel].astype(np.float32)) for channel in range(3)]
    expected = [np.asarray(channel.resize((200, 224), Image.Resampling.BILINEAR, box=box)) for channel in channels]

    # Pillow takes the box in float32
    assert np.abs(grey_levels(preprocess(image, wanted)) - expected).max() < 0.02


@pytest.mark.parametrize("size", SIZES)
def test_cubic_resize_overshoots_and_is_cut_off_as_pillow_does_it(size: tuple[int, int]):
    image = photo(*size)
    wanted = spec(224, 200, "crop", 0.7, "bicubic")
    region = input_region(*size, wanted)
    box = (region.left, region.top, region.right, region.bottom)
    whole = np.asarray(Image.fromarray(image).resize((200, 224), Image.Resampling.BICUBIC, box=box), np.float32)

    difference = np.abs(grey_levels(preprocess(image, wanted)) - np.moveaxis(whole, 2, 0))

    # where a value lies half-way between two levels, Pillow's fixed-point weights may round it to the other one
    assert difference.max() < 1.01
    assert np.mean(difference > 0.5) < 0.005


def test_cubic_resize_goes_across_first_and_then_down_as_pillow_does():
    """Cut off in between, the passes do not commute: black and white squares tell which came first."""
    squares = np.indices((40, 52)).sum(axis=0) // 3 % 2 * 255
    image = RgbImage(np.repeat(squares[:, :, None], 3, axis=2).astype(np.uint8))
    picture = Image.fromarray(image)
    together = np.asarray(picture.resize((31, 23), Image.Resampling.BICUBIC), np.float32)
    across_first = picture.resize((31, 40), Image.Resampling.BICUBIC).resize((31, 23), Image.Resampling.BICUBIC)
    down_first = picture.resize((52, 23), Image.Resampling.BICUBIC).resize((31, 23), Image.Resampling.BICUBIC)

    found = np.moveaxis(grey_levels(preprocess(image, spec(23, 31, "squash", 1.0, "bicubic"))), 0, 2)

    assert np.array_equal(together, np.asarray(across_first, np.float32))
    assert np.abs(found - together).max() < 1.01
    assert np.abs(found - np.asarray(down_first, np.float32)).max() > 3  # else the order could not be told


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(480, 640), (211, 97), (9, 400), (1, 1)])
def test_an_image_that_is_cast_band_by_band_gives_the_same_bits(size: tuple[int, int], interpolation: Interpolation):
    image = photo(*size)
    down, across = (Side((0.1 * side, 0.9 * side), steps, side) for side, steps in zip(size, (64, 48), strict=True))

    in_bands = np.concatenate(list(resample(image, down, across, interpolation)), axis=1)

    floats: Any = image.astype(np.float32)
    at_once = np.concatenate(list(resample(floats, down, across, interpolation)), axis=1)
    np.testing.assert_array_equal(in_bands, at_once)
    assert in_bands.shape == (3, 64, 48)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_part_of_an_image_is_read_where_it_lies(interpolation: Interpolation):
    """Rows with others beside them, channels in the other order: views, of which nothing says so but the strides."""
    image = photo(60, 80)
    view = RgbImage(image[5:-7, 9:-3, ::-1])

    found = preprocess(view, spec(32, 40, "squash", 1.0, interpolation))

    np.testing.assert_array_equal(found, preprocess(RgbImage(view.copy()), spec(32, 40, "squash", 1.0, interpolation)))


def test_image_of_the_right_size_is_only_normalised():
    image = RgbImage(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14)
    exact = InputSpec(2, 3, "squash", 1.0, "bilinear", (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))

    tensor = preprocess(image, exact)

    # hand arithmetic: the red pixel 0 -> (0 - 0.5) / 0.5; the blue pixel at (1, 2) is 17 * 14 = 238
    assert tensor[0, 0, 0] == pytest.approx(-1.0)
    assert tensor[1, 0, 0] == pytest.approx((14 / 255 - 0.25) / 0.25)
    assert tensor[2, 1, 2] == pytest.approx(238 / 255)


def test_channels_stay_red_green_blue():
    image = RgbImage(np.zeros((40, 60, 3), np.uint8))
    image[..., 0] = 255
    tensor = preprocess(image, InputSpec(8, 8, "squash", 1.0, "bilinear", *IDENTITY))
    assert tensor[:, 4, 4] == pytest.approx([1.0, 0.0, 0.0])


def test_squash_keeps_the_edges_of_a_wide_image():
    image = RgbImage(np.zeros((100, 400, 3), np.uint8))
    image[:, :40] = 255
    tensor = preprocess(image, InputSpec(50, 50, "squash", 1.0, "bilinear", *IDENTITY))
    assert tensor[:, :, :4].min() == 1.0
    assert tensor[:, :, 6:].max() == 0.0


def test_crop_loses_the_edges_of_a_wide_image():
    image = RgbImage(np.zeros((100, 400, 3), np.uint8))
    image[:, :40] = 255
    tensor = preprocess(image, InputSpec(50, 50, "crop", 1.0, "bilinear", *IDENTITY))
    assert tensor.max() == 0.0


def test_letterbox_pads_with_the_mean_colour():
    image = RgbImage(np.full((50, 100, 3), 255, np.uint8))
    tensor = preprocess(image, spec(80, 80, "letterbox"))
    white = (1.0 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    # 100 columns become 80, 50 rows become 40: 20 rows of padding above and below
    assert np.abs(tensor[:, :20]).max() == 0.0
    assert np.abs(tensor[:, 60:]).max() == 0.0
    assert tensor[:, 20:60].min(axis=(1, 2)) == pytest.approx(white, abs=1e-5)


def test_result_is_written_into_the_slot_of_a_batch():
    batch = np.full((2, 3, 32, 32), np.nan, np.float32)
    image = photo(20, 64)
    preprocess(image, spec(32, 32, "letterbox"), out=batch[1])
    np.testing.assert_array_equal(batch[1], preprocess(image, spec(32, 32, "letterbox")))
    assert np.isnan(batch[0]).all()


@pytest.mark.parametrize("mode", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_tiny_images_are_resized(mode: str, size: tuple[int, int]):
    tensor = preprocess(photo(*size), spec(24, 40, mode))
    assert tensor.shape == (3, 24, 40)
    assert np.isfinite(tensor).all()


def test_region_of_squash_is_the_whole_image():
    assert input_region(480, 640, spec(224, 224, "squash")) == Region(0, 0, 640, 480)


def test_region_of_crop_is_the_centre():
    # torchvision: 480x640 -> 256x341, crop at row 16 and column round(58.5) = 58
    region = input_region(480, 640, spec(224, 224, "crop", 0.875))
    assert (region.top, region.bottom) == (pytest.approx(16 * 480 / 256), pytest.approx(240 * 480 / 256))
    assert (region.left, region.right) == (pytest.approx(58 * 640 / 341), pytest.approx(282 * 640 / 341))


def test_region_of_letterbox_exceeds_the_image():
    region = input_region(50, 100, spec(80, 80, "letterbox"))
    assert region == Region(0, -25, 100, 75)


def test_crop_shows_exactly_its_region():
    """A mark drawn at a source position appears in the input where `input_region` says."""
    image = RgbImage(np.zeros((480, 640, 3), np.uint8))
    image[100:108, 400:408] = 255
    crop = InputSpec(224, 224, "crop", 0.875, "bilinear", *IDENTITY)

    rows, columns = np.nonzero(preprocess(image, crop)[0] > 0.5)

    region = input_region(480, 640, crop)
    row = region.top + (rows.mean() + 0.5) * (region.bottom - region.top) / 224
    column = region.left + (columns.mean() + 0.5) * (region.right - region.left) / 224
    assert (row, column) == (pytest.approx(104, abs=1), pytest.approx(404, abs=1))
