"""Owns: the geometry and the colours of augmentation. Leaves to others: when it is applied (test_load)."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from cnn_perception.image.messages import RgbImage
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from cnn_perception.pipeline.preprocess import Region, input_region
from training.batches import policies
from training.batches.augment import (
    Augmentation,
    augment,
    classic_affine,
    color_affine,
    crop_region,
    mirroring_note,
    region_affine,
    warp,
)
from training.config import make

NOTHING = np.zeros(6)


def settings(*switches, height=5, width=5, mode="squash", **changes):
    fraction = 0.875 if mode == "crop" else 1.0
    spec = InputSpec(height, width, mode, fraction, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    values = {
        "crop_area": 0.35,
        "color_strength": 0.3,
        "rotation_deg": 360.0,
        "translate_px": 10.0,
        "scale_factor": 1.6,
        "shear_deg": 20.0,
        "stretch_factor": 1.3,
        "randaugment_operations": 2,
        "randaugment_magnitude": 9,
    }
    return Augmentation(frozenset(switches), spec, **{**values, **changes})


def moved(image, chosen, draw, mirrored=False):
    """The image, of the input's own size, with one classic change."""
    return warp(RgbImage(image), np.linalg.inv(classic_affine(chosen, np.asarray(draw, float), mirrored)), chosen.input)


def dot(height, width, row, column):
    image = np.zeros((height, width, 3), np.uint8)
    image[row, column] = (250, 120, 60)
    return image


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_quarter_turn_takes_the_top_to_the_right():
    turned = moved(dot(5, 5, 0, 2), settings("rotate", rotation_deg=90), [1, 0, 0, 0, 0, 0])

    assert np.array_equal(turned, dot(5, 5, 2, 4))


def test_a_shift_is_counted_in_pixels_of_the_input():
    shifted = moved(dot(6, 9, 0, 0), settings("translate", height=6, width=9, translate_px=4), [0, 0.75, 0.5, 0, 0, 0])

    assert np.array_equal(shifted, dot(6, 9, 2, 3))


def test_flip_exchanges_left_and_right():
    image = noise(6, 9)

    assert np.array_equal(moved(image, settings("flip", height=6, width=9), NOTHING, mirrored=True), image[:, ::-1])


def test_scale_shear_and_stretch_are_the_matrices_of_the_book():
    chosen = settings("scale", "shear", "stretch", scale_factor=1.6, shear_deg=20, stretch_factor=1.44)

    larger = classic_affine(chosen, np.array([0, 0, 0, 1.0, 0, 0]), mirrored=False)
    smaller = classic_affine(chosen, np.array([0, 0, 0, -1.0, 0, 0]), mirrored=False)
    sheared = classic_affine(chosen, np.array([0, 0, 0, 0, 1.0, 0]), mirrored=False)
    stretched = classic_affine(chosen, np.array([0, 0, 0, 0, 0, 1.0]), mirrored=False)

    assert larger[:2, :2] == pytest.approx(np.diag([1.6, 1.6]))
    assert smaller[:2, :2] == pytest.approx(np.diag([0.625, 0.625]))
    assert sheared[:2, :2] == pytest.approx(np.array([[1, math.tan(math.radians(20))], [0, 1]]))
    assert stretched[:2, :2] == pytest.approx(np.diag([1.2, 1 / 1.2]))
    for matrix in (larger, smaller, sheared, stretched):
        assert matrix @ [2, 2, 1] == pytest.approx([2, 2, 1])  # the centre of 5 x 5 stays


def test_a_switch_that_is_off_changes_nothing():
    everything = np.array([0.3, 0.7, -0.4, 0.9, 0.5, -0.8])

    assert np.array_equal(classic_affine(settings(), everything, mirrored=False), np.eye(3))


def test_a_variant_without_changes_shows_what_evaluation_shows():
    image = np.asarray(Image.fromarray(noise(6, 9)).resize((400, 300), Image.Resampling.BICUBIC))
    chosen = settings(height=56, width=64, mode="crop")
    region = input_region(300, 400, chosen.input)
    box = (region.left, region.top, region.right, region.bottom)
    expected = np.asarray(Image.fromarray(image).resize((64, 56), Image.Resampling.BILINEAR, box=box)).astype(int)

    variant = augment(RgbImage(image), chosen, np.random.default_rng(0)).astype(int)

    assert np.abs(variant - expected).mean() < 1.0  # half a pixel of displacement would be 3.5


def test_a_fine_pattern_is_averaged_and_not_aliased():
    checkerboard = np.tile((np.indices((240, 240)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None], 3)

    variant = augment(RgbImage(checkerboard), settings("rotate", height=24, width=24), np.random.default_rng(1))

    assert np.abs(variant.astype(int) - 127.5).max() < 10


def test_beyond_the_edge_lies_the_mirror_image_or_the_letterbox_padding():
    image = noise(4, 6)
    right = [0, 0.2, 0, 0, 0, 0]  # 2 pixels of 10

    mirrored = moved(image, settings("translate", height=4, width=6), right)
    padded = moved(image, settings("translate", height=4, width=6, mode="letterbox"), right)

    assert np.array_equal(mirrored[:, :2], image[:, 2:0:-1])
    assert np.array_equal(padded[:, :2], np.tile(np.array([124, 116, 104], np.uint8), (4, 2, 1)))
    assert np.array_equal(padded[:, 2:], image[:, :4])


def test_a_crop_lies_inside_and_keeps_the_area_and_the_aspect_asked_for():
    chosen, rng = settings("crop", height=30, width=60, mode="crop", crop_area=0.35), np.random.default_rng(0)
    shares, aspects = [], []
    for _ in range(500):
        region = crop_region(200, 400, chosen, rng.random(4))
        columns, rows = region.right - region.left, region.bottom - region.top
        assert region.left >= 0
        assert region.top >= 0
        assert region.right <= 400 + 1e-9
        assert region.bottom <= 200 + 1e-9
        shares.append(columns * rows / (200 * 400))
        aspects.append(columns / rows)

    assert min(shares) == pytest.approx(0.35, abs=0.01)
    assert max(shares) > 0.9
    assert min(aspects) == pytest.approx(2 * 3 / 4, abs=0.03)
    assert max(aspects) == pytest.approx(2 * 4 / 3, abs=0.05)


def test_a_region_maps_pixel_centres_to_pixel_centres():
    spec = settings(height=4, width=8).input

    matrix = region_affine(Region(left=10, top=20, right=26, bottom=32), spec)

    # 2 x 3 source pixels each: the first covers columns 10 and 11, rows 20 to 22
    assert matrix @ [0, 0, 1] == pytest.approx([10.5, 21, 1])
    assert matrix @ [7, 3, 1] == pytest.approx([24.5, 30, 1])


def test_brightness_contrast_and_saturation_do_what_their_names_say():
    pixel = np.array([200.0, 100, 50, 1])

    darker = color_affine(80, np.array([-0.5, 0, 0])) @ pixel
    flatter = color_affine(80, np.array([0, -0.5, 0])) @ pixel
    grey = color_affine(80, np.array([0, 0, -1])) @ pixel

    assert darker == pytest.approx([100, 50, 25])
    assert flatter == pytest.approx([140, 90, 65])
    assert grey == pytest.approx([0.299 * 200 + 0.587 * 100 + 0.114 * 50] * 3)


def test_one_switch_does_not_move_what_another_draws():
    image = RgbImage(noise(40, 60))
    plain = settings("crop", height=16, width=20)
    for seed in range(6):
        alone = augment(image, plain, np.random.default_rng(seed))
        with_flip = augment(image, settings("crop", "flip", height=16, width=20), np.random.default_rng(seed))
        same, mirrored = (np.abs(with_flip.astype(int) - other).max() <= 1 for other in (alone, alone[:, ::-1]))
        assert same or mirrored


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 300), (7, 3), (500, 2)])
def test_every_size_becomes_the_size_of_the_input(rows, columns):
    chosen = settings("crop", "flip", "color", "rotate", "scale", "shear", height=16, width=20, mode="crop")

    variant = augment(RgbImage(noise(rows, columns)), chosen, np.random.default_rng(0))

    assert variant.shape == (16, 20, 3)
    assert variant.dtype == np.uint8


def policy_image():
    return Image.fromarray(cv2.GaussianBlur(noise(64, 96), (9, 9), 3))


@pytest.mark.parametrize("name", [name for name in policies.TRIVIAL_AUGMENT_STRENGTHS if name != "rotate"])
@pytest.mark.parametrize("kind", ["rand", "trivial"])
def test_each_operation_is_torchvisions_at_every_strength(name, kind):
    oracle = v2.RandAugment() if kind == "rand" else v2.TrivialAugmentWide()
    table = policies.rand_augment_strengths(96, 64) if kind == "rand" else policies.TRIVIAL_AUGMENT_STRENGTHS
    theirs = "".join(part.capitalize() for part in name.split("_")).replace("Autocontrast", "AutoContrast")
    magnitudes, signed = oracle._AUGMENTATION_SPACE[theirs]
    expected_values, image, fill = magnitudes(31, 64, 96), policy_image(), [124, 116, 104]

    assert signed == (name in policies.SIGNED)
    for magnitude in range(0, 31, 5):
        value = policies.strength(name, table, magnitude)
        if expected_values is not None:
            top = 255 if name == "solarize" else 1
            rounded = round(value) if name == "posterize" else value
            assert rounded == pytest.approx(top * float(expected_values[magnitude]), rel=1e-5)
            value = rounded
        for sign in (1, -1) if signed else (1,):
            ours = np.asarray(policies.apply(image, name, sign * value, tuple(fill))).astype(int)
            expected = oracle._apply_image_or_video_transform(
                image,
                theirs,
                sign * value / (255 if name == "solarize" else 1),
                interpolation=v2.InterpolationMode.BILINEAR,
                fill={type(image): fill},
            )
            assert np.abs(ours - np.asarray(expected)).max() <= 1, (magnitude, sign)


def test_rotation_is_torchvisions_within_the_rounding_of_its_centre():
    image = policy_image()

    for degrees in (-90.0, 10.0, 135.0):
        ours = np.asarray(policies.apply(image, "rotate", degrees, (124, 116, 104))).astype(int)
        expected = v2.functional.rotate(image, degrees, v2.InterpolationMode.BILINEAR, fill=[124, 116, 104])
        assert np.abs(ours - np.asarray(expected)).mean() < 1.0


def test_tables_hold_all_operations_of_torchvision():
    assert len(policies.rand_augment_strengths(8, 8)) == len(v2.RandAugment._AUGMENTATION_SPACE)
    assert policies.TRIVIAL_AUGMENT_STRENGTHS.keys() == policies.rand_augment_strengths(8, 8).keys()


@pytest.mark.parametrize("switch", ["randaugment", "trivialaugment"])
def test_policies_are_drawn_from_the_given_generator_alone(switch):
    image, chosen = RgbImage(noise(40, 60)), settings(switch, height=32, width=32)

    variants = []
    for seed in (1, 1, 2, 3, 4, 5):
        torch.manual_seed(seed + len(variants))
        np.random.seed(len(variants))  # noqa: NPY002  (what must not matter)
        variants.append(augment(image, chosen, np.random.default_rng(seed)))

    assert np.array_equal(variants[0], variants[1])
    assert len({variant.tobytes() for variant in variants[1:]}) >= 4
    assert all(variant.shape == (32, 32, 3) and variant.dtype == np.uint8 for variant in variants)


def test_a_policy_moves_nothing_that_the_other_switches_draw():
    image = RgbImage(noise(40, 60))
    identity = settings("crop", "flip", "randaugment", height=16, width=20, randaugment_magnitude=0)
    plain = settings("crop", "flip", height=16, width=20)

    # at magnitude 0 only autocontrast, equalize and a solarised 255 differ from the identity
    same = [
        np.array_equal(*(augment(image, chosen, np.random.default_rng(seed)) for chosen in (identity, plain)))
        for seed in range(30)
    ]
    assert sum(same) > 10


def test_classes_that_are_left_and_right_are_not_mirrored_unless_asked_for_and_it_is_said():
    names = ("go", "turn_left", "turn_right")
    usual, asked, off = (make(data="d", output="o", augment=given) for given in (None, ("flip",), ("none",)))

    for task in ("multiclass", "multilabel"):
        assert Augmentation.of(usual, task, names).switches == {"crop", "color"}
        assert Augmentation.of(usual, task, ("go", "stop")).switches == {"crop", "flip", "color"}
        assert Augmentation.of(asked, task, names).switches == {"flip"}
        assert "not mirrored; --augment crop,flip,color" in mirroring_note(usual, task, names)
        assert mirroring_note(asked, task, names).startswith("warning: --augment flip")
        assert mirroring_note(off, task, names) == mirroring_note(usual, task, ("go", "stop")) == ""
    assert mirroring_note(usual, "regression", ("angle",)) == ""  # numbers are never mirrored by default
    assert mirroring_note(asked, "regression", ("angle",)).startswith("warning: --augment flip")


def test_where_none_is_asked_for_numbers_are_not_moved_or_mirrored():
    given = {"data": "d", "output": "o"}

    assert Augmentation.of(make(**given), "multiclass").switches == {"crop", "flip", "color"}
    assert Augmentation.of(make(**given), "regression").switches == {"color"}
    assert Augmentation.of(make(**given, augment=("light",)), "regression").switches == {"crop", "flip", "color"}
    assert Augmentation.of(make(**given, augment=("none",)), "multiclass") is None


def test_a_slice_of_the_photograph_is_resampled_like_the_whole(monkeypatch):
    image, chosen = RgbImage(noise(90, 120)), settings("crop", height=32, width=32, crop_area=0.1)
    rng = np.random.default_rng(3)
    for _ in range(50):
        region = crop_region(90, 120, chosen, rng.random(4))
        # without a step of 2 the grid of the averaged blocks does not matter, and results are equal up to rounding
        if max(region.right - region.left, region.bottom - region.top) >= 64:
            continue
        matrix = region_affine(region, chosen.input)
        sliced = warp(image, matrix, chosen.input).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr("training.batches.augment._needed", lambda image, matrix, spec: (image, matrix))
            whole = warp(image, matrix, chosen.input)
        assert np.abs(sliced - whole).max() <= 4
        assert np.abs(sliced - whole).mean() < 0.5


@pytest.mark.parametrize("step", [1.8, 2.5, 3.7, 6.0])
def test_shrinking_is_antialiased_as_pillow_does_it(step):
    image = cv2.GaussianBlur(noise(240, 240), (3, 3), 0.8)
    size = round(240 / step)
    expected = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)).astype(float)
    chosen = settings(height=size, width=size)
    matrix = region_affine(Region(left=0, top=0, right=240, bottom=240), chosen.input)

    ours = warp(RgbImage(image), matrix, chosen.input).astype(float)
    aliased = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(float)

    assert np.abs(ours - expected).mean() < 0.75 * np.abs(aliased - expected).mean()


def test_far_beyond_an_edge_lies_the_mirror_image_of_what_the_input_does_not_see():
    image, chosen = noise(60, 100), settings(height=20, width=20)
    matrix = np.array([[1.0, 0, -18], [0, 1, 30], [0, 0, 1]])

    seen = warp(RgbImage(image), matrix, chosen.input)

    assert np.array_equal(seen[:, :18], image[30:50, 18:0:-1])
    assert np.array_equal(seen[:, 18:], image[30:50, :2])
