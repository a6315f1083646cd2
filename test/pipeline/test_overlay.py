"""What is drawn where: pixels checked against hand arithmetic on flat pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import ImageDraw
from tiny_model import TINY_INPUT

from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.tasks.prediction import Prediction

GREY = 128


def picture(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def prediction(activation, scores=(0.7, 0.2, 0.1), names=("ant", "bee", "fly")) -> Prediction:
    values = None if activation is None else np.array(activation, np.float32)
    return Prediction(
        tuple(names), np.array(scores, np.float32), int(np.argmax(scores)), values, np.zeros(2, np.float32)
    )


def corner_map(row: int, column: int) -> np.ndarray:
    activation = np.zeros((3, 4), np.float32)
    activation[row, column] = 5.0
    return activation


def changed(drawn: np.ndarray) -> np.ndarray:
    return np.abs(drawn.astype(int) - GREY).max(axis=2) > 8


def test_only_the_part_of_the_image_under_an_active_cell_is_coloured():
    drawn = draw_overlay(picture(), prediction(corner_map(0, 3)), TINY_INPUT, top_k=1)

    assert changed(drawn)[:40, 280:].all()
    assert not changed(drawn)[:160, :160].any()


def test_the_strongest_place_is_red_and_weak_places_are_not():
    drawn = draw_overlay(picture(), prediction([[10, 10, 0, 0], [10, 10, 0, 0], [3, 3, 0, 0]]), TINY_INPUT)

    red, green, blue = (int(v) for v in drawn[40, 60])
    assert red > green + 60
    assert red > blue + 60
    weak = drawn[205, 140]
    assert weak[2] > weak[0]


def test_alpha_is_the_opacity_at_the_strongest_place():
    activation = np.ones((3, 4))

    half = draw_overlay(picture(), prediction(activation), TINY_INPUT, alpha=0.5)[20, 20].astype(int)
    full = draw_overlay(picture(), prediction(activation), TINY_INPUT, alpha=1.0)[20, 20].astype(int)
    none = draw_overlay(picture(), prediction(activation), TINY_INPUT, alpha=0.0)[20, 20].astype(int)

    np.testing.assert_array_equal(none, GREY)
    np.testing.assert_allclose(half, (full + GREY) / 2, atol=1)


def test_colours_are_relative_to_the_frame_and_negative_parts_are_left_alone():
    strong = draw_overlay(picture(), prediction(corner_map(1, 1) - 1), TINY_INPUT)
    weak = draw_overlay(picture(), prediction((corner_map(1, 1) - 1) * 0.001), TINY_INPUT)
    negative = draw_overlay(picture(), prediction(-np.ones((3, 4))), TINY_INPUT, top_k=1)

    np.testing.assert_allclose(strong, weak, atol=1)
    assert not changed(negative)[:160].any()


def test_what_a_centre_crop_loses_is_dimmed_and_never_coloured():
    crop = dataclasses.replace(TINY_INPUT, height=24, width=24, resize_mode="crop")

    drawn = draw_overlay(picture(120, 320), prediction(np.ones((3, 3))), crop, top_k=1)

    # the crop keeps the middle square: columns 100 to 220
    np.testing.assert_array_equal(drawn[10, 95], round(GREY * 0.6))
    assert drawn[10, 105].max() - drawn[10, 105].min() > 60
    assert drawn[10, 215].max() - drawn[10, 215].min() > 60
    np.testing.assert_array_equal(drawn[10, 225], round(GREY * 0.6))


def test_the_padding_of_a_letterbox_does_not_move_the_map():
    letterbox = dataclasses.replace(TINY_INPUT, height=32, width=32, resize_mode="letterbox")
    activation = np.zeros((8, 8), np.float32)
    activation[2, :] = 1.0  # input rows 8 to 12; the 4:1 image covers the rows 12 to 20
    activation[3, :4] = 1.0  # input rows 12 to 16: the upper half of the image, left side

    drawn = draw_overlay(picture(80, 320), prediction(activation), letterbox, top_k=1)

    assert changed(drawn)[5:35, 10:130].all()
    assert not changed(drawn)[60:, 200:].any()


def test_without_a_map_only_the_labels_are_drawn():
    drawn = draw_overlay(picture(), prediction(None), TINY_INPUT)

    assert not changed(drawn)[:140].any()
    assert changed(drawn)[200:, :100].any()


def test_the_bar_of_the_best_class_is_as_long_as_its_score():
    def accent_pixels(score: float) -> int:
        scores = (score, 1 - score)
        drawn = draw_overlay(picture(480, 640), prediction(None, scores, ("a", "b")), TINY_INPUT, top_k=1)
        return int((np.abs(drawn.astype(int) - (255, 193, 7)).max(axis=2) < 40).sum())

    assert accent_pixels(0.9) / accent_pixels(0.6) == pytest.approx(1.5, rel=0.08)


def test_a_known_class_frames_the_image_green_or_red():
    right = draw_overlay(picture(), prediction(None), TINY_INPUT, truth="ant", is_right=True)
    wrong = draw_overlay(picture(), prediction(None), TINY_INPUT, truth="bee", is_right=False)

    for edge in ((0, 319), (239, 319), (120, 319)):
        assert right[edge][1] > right[edge][0]
        assert wrong[edge][0] > wrong[edge][1]


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 640), (47, 64), (48, 48), (120, 160), (1080, 1920), (400, 60)]
)
@pytest.mark.parametrize("mode", ["crop", "letterbox", "squash"])
def test_every_size_can_be_drawn(height, width, mode):
    spec = dataclasses.replace(TINY_INPUT, resize_mode=mode)
    names = ("a very long class name that no small image has room for", "bée 蜂", "c")

    drawn = draw_overlay(picture(height, width), prediction(corner_map(2, 0), names=names), spec, truth=names[0])

    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8


def test_the_image_itself_is_not_changed_even_if_read_only():
    image = picture()
    image.flags.writeable = False

    draw_overlay(image, prediction(corner_map(0, 0)), TINY_INPUT, truth="ant")

    assert (image == GREY).all()


def regression(*values: float, names=("speed",), units=("m/s",)) -> Prediction:
    return dataclasses.replace(
        prediction(None, np.ones(len(values)), names),
        scores=np.empty(0, np.float32),
        task="regression",
        values=np.array(values, np.float32),
        units=tuple(units),
    )


def texts_of(monkeypatch: pytest.MonkeyPatch, answer: Prediction, **options: object) -> list[str]:
    """What is written on the picture, from left to right and line by line."""
    written: list[str] = []
    write = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *a, **k: (written.append(a[2]), write(*a, **k))[1])
    draw_overlay(picture(480, 640), answer, TINY_INPUT, **options)
    return [text for text in written if text]


def test_numbers_are_written_with_their_units(monkeypatch):
    answer = regression(-0.12345, 3.0, names=("steering", "speed"), units=("", "m/s"))
    assert texts_of(monkeypatch, answer) == ["steering", "-0.123", "speed", "3 m/s"]


def test_of_an_unknown_image_nothing_else_is_written(monkeypatch):
    assert texts_of(monkeypatch, dataclasses.replace(prediction(None), unknown=True)) == ["unknown"]


def test_every_class_that_was_seen_is_written_and_no_other(monkeypatch):
    several = dataclasses.replace(
        prediction(None, (0.6, 0.3, 0.8)), task="multilabel", thresholds=np.array([0.5, 0.5, 0.5], np.float32)
    )
    assert texts_of(monkeypatch, several) == ["fly", "80%", "ant", "60%"]
    none = dataclasses.replace(several, thresholds=np.ones(3, np.float32))
    assert texts_of(monkeypatch, none) == ["nothing"]


@pytest.mark.parametrize(
    ("answered", "options", "names_map"),
    [
        ({}, {}, False),
        ({"held": (0,)}, {}, False),
        ({"held": (2,)}, {}, True),
        ({"unknown": True}, {}, True),
        ({}, {"threshold": 0.8}, True),
        ({"task": "multilabel", "thresholds": np.array([0.5, 0.1, 0.5], np.float32)}, {}, False),
        ({"task": "multilabel", "thresholds": np.array([0.9, 0.1, 0.5], np.float32)}, {}, True),
        ({"task": "multilabel", "thresholds": np.ones(3, np.float32)}, {}, True),
    ],
)
def test_the_class_of_the_map_is_named_unless_the_answer_begins_with_it(
    monkeypatch: pytest.MonkeyPatch, answered: dict[str, Any], options: dict[str, Any], names_map: bool
):
    found = dataclasses.replace(prediction(corner_map(0, 0)), **answered)
    mapless = dataclasses.replace(found, activation=None)

    assert ("map: ant" in texts_of(monkeypatch, found, **options)) == names_map
    assert "map: ant" in texts_of(monkeypatch, found, truth="bee", **options) or not names_map
    assert "map: ant" not in texts_of(monkeypatch, mapless, **options)


def test_the_class_of_the_map_is_named_below_the_known_one():
    unknown = dataclasses.replace(prediction(corner_map(2, 3)), unknown=True)
    of_none = dataclasses.replace(unknown, activation=None)

    with_truth = draw_overlay(picture(), unknown, TINY_INPUT, truth="bee", is_right=False)
    only_truth = draw_overlay(picture(), of_none, TINY_INPUT, truth="bee", is_right=False)

    text_px = 11
    np.testing.assert_array_equal(with_truth[: round(1.6 * text_px), :60], only_truth[: round(1.6 * text_px), :60])
    below = slice(round(1.6 * text_px), 2 * round(1.6 * text_px))
    assert changed(with_truth)[below, 5:40].mean() > changed(only_truth)[below, 5:40].mean() + 0.5


def test_known_numbers_are_framed_neither_green_nor_red():
    drawn = draw_overlay(picture(), regression(1.0), TINY_INPUT, truth="0.5")

    assert (drawn[120, 319] == drawn[0, 319]).all()
    assert np.ptp(drawn[120, 319].astype(int)) < 30


@pytest.mark.parametrize(("height", "width"), [(1, 1), (48, 48), (48, 640), (400, 60), (480, 640)])
def test_numbers_fit_every_size(height, width):
    answer = regression(1e30, names=("a very long name that no small image has room for",), units=("furlongs",))

    assert draw_overlay(picture(height, width), answer, TINY_INPUT, truth="1").shape == (height, width, 3)
