"""Owns: a mask lies where the network's preprocessing puts its image."""

from __future__ import annotations

import numpy as np
import pytest

from cnn_perception.masks.class_table import VOID
from cnn_perception.masks.placing import placed
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.preprocess import preprocess


def spec(mode, fraction=1.0, height=48, width=64):
    return InputSpec(height, width, mode, fraction, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("size", [(48, 64), (120, 180), (180, 120), (31, 200), (20, 20)])
@pytest.mark.parametrize(("mode", "fraction"), [("squash", 1.0), ("crop", 1.0), ("crop", 0.875), ("letterbox", 1.0)])
def test_the_mask_is_where_the_networks_picture_shows_what_it_masks(mode, fraction, size):
    """A picture of three pure colours, one for each label; where the network's own is still pure, it is judged."""
    labels = np.zeros(size, np.int32)
    labels[:, size[1] // 2 :] = 2
    labels[: size[0] // 5] = 1
    image = (labels[..., None] == np.arange(3)).astype(np.uint8) * 255
    seen = preprocess(image, spec(mode, fraction))

    found = placed(labels, spec(mode, fraction))

    certain = seen.max(0) > 0.999
    assert certain.mean() > (0.15 if mode == "letterbox" else 0.75)
    np.testing.assert_array_equal(found[certain], seen.argmax(0)[certain])
    np.testing.assert_array_equal(found == VOID, seen.max(0) == 0)


def test_a_coarser_grid_has_the_label_at_the_centre_of_each_cell():
    labels = np.arange(48 * 64, dtype=np.int32).reshape(48, 64)

    found = placed(labels, spec("squash"), 12, 16)

    np.testing.assert_array_equal(found, labels[2::4, 2::4])


def test_the_mask_itself_is_left_as_it_is():
    labels = np.zeros((10, 40), np.int32)

    placed(labels, spec("letterbox"))

    assert (labels == 0).all()
