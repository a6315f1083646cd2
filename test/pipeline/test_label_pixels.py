"""Owns: numbers of classes as pixels: none below the threshold, and the picture of them.

Leaves to others: the interpolation (test_label_map), the message (test_publishers).
"""

from __future__ import annotations

import numpy as np
import pytest
from tiny_model import as_multilabel, regression_spec, tiny_spec, with_score_map

from cnn_perception.pipeline.label_overlay import draw_labels, palette
from cnn_perception.pipeline.label_pixels import has_label_map, label_pixels
from cnn_perception.pipeline.score_map import Cells, ScoreMap

CELLS = Cells(stride=(4.0, 4.0), window=(8.0, 8.0), offset=(3.5, 3.5))


def map_of(logits):
    names = tuple(f"class {index}" for index in range(len(logits)))
    scores = np.exp(logits) / np.exp(logits).sum(0)
    return ScoreMap(names, np.float32(logits), np.float32(scores), CELLS)


def test_a_pixel_has_the_class_of_its_cell_and_none_where_its_score_is_not_above_the_threshold():
    odds = np.log([[[9.0, 1.0]], [[1.0, 1.5]]])  # scores: 0.9 and 0.1, 0.4 and 0.6
    found = map_of(odds)

    everything = label_pixels(found, 0.0, 8, 12)
    sure = label_pixels(found, 0.7, 8, 12)

    assert everything.dtype == sure.dtype == np.uint8
    assert set(everything[:, :4].ravel()) == {1}
    assert set(everything[:, 8:].ravel()) == {2}
    # Between the centres of the cells, at the columns 3.5 and 7.5, the larger score falls from 0.9 to 0.6.
    first = 0.9 + (0.4 - 0.9) * (np.clip(np.arange(12), 3.5, 7.5) - 3.5) / 4
    np.testing.assert_array_equal(sure[0], np.where(first > 0.7, 1, 0))
    assert not label_pixels(found, 1.0, 8, 12).any()


@pytest.mark.parametrize(("classes", "kind"), [(255, np.uint8), (256, np.uint16)])
def test_numbers_are_as_wide_as_the_last_class_needs(classes, kind):
    logits = np.zeros((classes, 2, 2))
    logits[-1] = 50.0
    found = label_pixels(map_of(logits), 0.5, 6, 6)
    assert found.dtype == kind
    assert set(found.ravel()) == {classes}


def test_only_classes_have_a_label_map():
    spec = with_score_map(tiny_spec())
    assert has_label_map(spec)
    assert has_label_map(as_multilabel(spec, 0.5, 0.5, 0.5))
    assert not has_label_map(tiny_spec())
    assert not has_label_map(with_score_map(regression_spec({"x": "", "y": "", "z": ""})))


def test_a_class_is_drawn_in_its_own_colour_as_opaque_as_is_wanted_and_none_leaves_the_image():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)  # too small for a legend
    labels = np.zeros((40, 40), np.uint8)
    labels[:20] = 2

    drawn = draw_labels(image, labels, ("a", "b"), 0.5)

    np.testing.assert_array_equal(drawn[20:], image[20:])
    np.testing.assert_allclose(drawn[:20], (image[:20].astype(float) + palette(2)[1]) / 2, atol=1)
    np.testing.assert_array_equal(draw_labels(image, labels, ("a", "b"), 1.0)[:20], np.full((20, 40, 3), palette(2)[1]))


def test_colours_stay_when_classes_are_added_and_differ():
    colours = palette(20)
    np.testing.assert_array_equal(colours[:3], palette(3))
    assert len({tuple(colour) for colour in colours.tolist()}) == 20


def test_the_legend_names_what_is_seen_with_its_colour_the_largest_first():
    labels = np.full((96, 160), 3, np.uint8)
    labels[60:] = 1
    black = np.zeros((96, 160, 3), np.uint8)
    drawn = draw_labels(black, labels, ("a", "b", "c"), 0.0)  # nothing but the legend
    colours = [tuple(colour) for colour in drawn[:48, 6:16].reshape(-1, 3).tolist()]
    seen = [colour for index, colour in enumerate(colours) if colour not in colours[:index]]
    chips = [tuple(colour) for colour in palette(3).tolist()]
    assert [colour for colour in seen if colour in chips] == [chips[2], chips[0]]
