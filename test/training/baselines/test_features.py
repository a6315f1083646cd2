"""Owns: pixels -> features of the baselines. Leaves to others: what learns from them (test_fitting), decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.spec import InputSpec
from cnn_perception.pipeline.preprocess import preprocess
from training.baselines import features, pictures
from training.baselines.hog import hog
from training.data.records import Sample

OF_SCIKIT_IMAGE = (
    0.2209, 0.0799, 0.1471, 0.104, 0.2209, 0.1314, 0.1796, 0.1284, 0.159, 0.2209, 0.1114, 0.1396, 0.1304, 0.174, 0.1927,
    0.2209, 0.0531, 0.1287, 0.2209, 0.178, 0.1602, 0.2054, 0.2209, 0.0257, 0.1118, 0.1361, 0.2209, 0.2195, 0.2136,
    0.1946, 0.108, 0.1387, 0.1415, 0.1625, 0.2209, 0.0583, 0.2237, 0.1118, 0.1402, 0.1309, 0.1746, 0.1934, 0.2237,
    0.0533, 0.1292, 0.2237, 0.2237, 0.1929, 0.1534, 0.1411, 0.1216, 0.169, 0.1053, 0.1656, 0.2203, 0.2145, 0.1953,
    0.1085, 0.1392, 0.142, 0.1631, 0.2237, 0.0585, 0.1747, 0.1035, 0.0979, 0.1471, 0.2237, 0.1879, 0.2237, 0.1488,
    0.0802,
)  # fmt: skip
"""skimage.feature.hog of scikit-image 0.26.0, of the picture below in [0, 1]: orientations=9, pixels_per_cell=(8, 8),
cells_per_block=(2, 2), block_norm="L2-Hys", channel_axis=-1."""

SPEC = InputSpec(224, 224, "crop", 0.875, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def as_pixels(*images):
    return np.stack([image.transpose(2, 0, 1) for image in images]).astype(np.float32) / 255


def test_histograms_of_gradients_are_those_of_scikit_image():
    picture = np.random.default_rng(7).integers(0, 256, (16, 24, 3), np.uint8)
    other = np.random.default_rng(8).integers(0, 256, (16, 24, 3), np.uint8)

    found = hog(as_pixels(other, picture), cell=8)

    assert found.shape == (2, 72)
    assert found[1] == pytest.approx(OF_SCIKIT_IMAGE, abs=1e-4)


def test_an_edge_counts_in_the_orientation_across_it_and_a_flat_picture_has_none():
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:, 12:] = 255
    flat = np.full((32, 32, 3), 77, np.uint8)

    edge, nothing = hog(as_pixels(upright, flat), cell=16)

    # its gradient points across, 0 degrees: the first of 9 bins, in the two cells of the left column
    assert set(np.flatnonzero(edge) % 9) == {0}
    assert sorted(np.flatnonzero(edge) // 9) == [0, 2]
    assert not nothing.any()


def test_a_colour_histogram_holds_the_root_of_each_colours_share_of_the_area():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:2] = (255, 0, 0)
    picture[2:] = (0, 32, 255)

    (found,) = features.colour_histogram(as_pixels(picture))

    assert found.shape == (512,)
    assert found[7 * 64] == pytest.approx(0.25**0.5)
    assert found[0 * 64 + 1 * 8 + 7] == pytest.approx(0.75**0.5)
    assert np.count_nonzero(found) == 2


@pytest.mark.parametrize(
    ("height", "width", "size"), [(224, 224, (128, 128)), (120, 160, (96, 128)), (8, 200, (32, 128))]
)
def test_small_pictures_keep_the_shape_of_the_networks_input_in_whole_cells(height, width, size):
    spec = InputSpec(height, width, "squash", 1.0, "bilinear", SPEC.mean, SPEC.std)

    small = features.HOG.spec(spec)

    assert (small.height, small.width) == size


def test_pictures_are_read_and_resized_as_the_robot_does_it_and_a_lost_one_is_left_out(tmp_path):
    samples = []
    for number in range(70):
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        samples.append(Sample(tmp_path / f"{number}.png", 0, "train"))
    (tmp_path / "3.png").unlink()
    spec = pictures.small(SPEC, 32)

    chunks = list(pictures.read(samples, [spec], "reading"))

    assert [len(chunk.samples) for chunk in chunks] == [pictures.CHUNK - 1, 70 - pictures.CHUNK]
    assert [sample for chunk in chunks for sample in chunk.samples] == samples[:3] + samples[4:]
    of_robot = preprocess(decode_file_bytes(Path(tmp_path / "4.png").read_bytes()), SPEC)
    restored = of_robot * np.array(SPEC.std)[:, None, None] + np.array(SPEC.mean)[:, None, None]
    # the same part of the image, in [0, 1]
    assert chunks[0].pixels[spec][3].mean(axis=(1, 2)) == pytest.approx(restored.mean(axis=(1, 2)), abs=0.02)
    assert (spec.resize_mode, spec.crop_fraction) == ("crop", 0.875)
