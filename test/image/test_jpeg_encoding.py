"""Owns: pictures as JPEG files. Leaves to others: what reads JPEGs, and the messages and pages that hold them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cnn_perception.errors import FrameError
from cnn_perception.image.jpeg_encoding import encode_jpeg, encode_png


def test_another_decoder_finds_the_channels_and_axes_where_they_were():
    picture = np.zeros((24, 40, 3), np.uint8)
    picture[:, :, 0] = 200
    picture[:8] = (0, 0, 250)

    found = Image.open(io.BytesIO(encode_jpeg(picture, 90)))

    assert (found.format, found.size) == ("JPEG", (40, 24))
    assert np.asarray(found)[2, 20] == pytest.approx([0, 0, 250], abs=6)
    assert np.asarray(found)[20, 20] == pytest.approx([200, 0, 0], abs=6)


def test_a_lower_quality_takes_fewer_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)

    assert len(encode_jpeg(noise, 60)) < len(encode_jpeg(noise, 90))


@pytest.mark.parametrize(("encode", "largest"), [(lambda image: encode_jpeg(image, 90), 65_500), (encode_png, 10**6)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_picture_as_large_as_its_format_holds_is_written_and_a_larger_one_refused(encode, largest, axis):
    line = np.zeros((largest, 1, 3), np.uint8).swapaxes(0, axis)

    assert Image.open(io.BytesIO(encode(line))).size == (line.shape[1], line.shape[0])
    with pytest.raises(FrameError, match="pixels are more than a"):
        encode(np.concatenate([line, line[:1, :1]], axis=axis))
