"""Owns: the label map: the class of each pixel, interpolated from the cells of a score map.

Leaves to others: the score map itself (test_score_map), the masks that it is compared with (test_mask_scores).
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_perception.pipeline.label_map import upsampled_labels
from cnn_perception.pipeline.score_map import Cells


def by_hand(scores: np.ndarray, cells: Cells, v: int, u: int) -> np.ndarray:
    """(K,) logits at a pixel, by the textbook's formula in float64."""
    row, column = cells.cell(v, u)
    row = min(max(row, 0.0), scores.shape[1] - 1.0)
    column = min(max(column, 0.0), scores.shape[2] - 1.0)
    top, left = int(row), int(column)
    bottom, right = min(top + 1, scores.shape[1] - 1), min(left + 1, scores.shape[2] - 1)
    y, x = row - top, column - left
    above = (1 - x) * scores[:, top, left] + x * scores[:, top, right]
    below = (1 - x) * scores[:, bottom, left] + x * scores[:, bottom, right]
    return (1 - y) * above + y * below


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0.5, 9.0),
    st.floats(-3.0, 12.0),
)
def test_each_pixel_has_the_class_of_the_largest_interpolated_logit(seed, classes, rows, columns, stride, offset):
    scores = np.random.default_rng(seed).normal(size=(classes, rows, columns)).astype(np.float32)
    cells = Cells((stride, stride * 1.5), (24, 32), (offset, offset + 1))

    found = upsampled_labels(scores, cells, 13, 17)

    assert found.shape == (13, 17)
    assert found.dtype == np.int32
    for v, u in np.ndindex(13, 17):
        logits = by_hand(scores.astype(np.float64), cells, v, u)
        assert logits[found[v, u]] == pytest.approx(logits.max(), abs=1e-5)


def test_it_is_opencvs_bilinear_enlargement_where_cells_tile_the_image():
    scores = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
    enlarged = cv2.resize(np.ascontiguousarray(scores.transpose(1, 2, 0)), (40, 32), interpolation=cv2.INTER_LINEAR)

    found = upsampled_labels(scores, Cells((8, 8), (8, 8), (3.5, 3.5)), 32, 40)

    np.testing.assert_array_equal(found, enlarged.argmax(2))


def test_a_class_that_is_largest_at_no_cell_wins_where_it_is_largest_between_them():
    scores = np.array([[[10.0, -10.0]], [[-10.0, 10.0]], [[4.0, 4.0]], [[-11.0, 3.0]]], np.float32)

    found = upsampled_labels(scores, Cells((10, 10), (1, 1), (0, 0)), 1, 11)

    # 10 - 2 u is below 4 from u = 3 on, and -10 + 2 u above 4 from u = 7 on; at both they are equal.
    assert found[0].tolist() == [0, 0, 0, 0, 2, 2, 2, 1, 1, 1, 1]


def test_many_classes_at_an_images_size_take_the_memory_of_a_few_images():
    scores = np.random.default_rng(0).normal(size=(1000, 3, 4)).astype(np.float32)
    scores[7] += 20.0

    found = upsampled_labels(scores, Cells((32, 32), (224, 224), (111.5, 111.5)), 2000, 3000)

    assert (found == 7).all()  # all upsampled logits together would be 24 GB
