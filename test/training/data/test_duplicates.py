"""Owns: which images count as the same picture. Leaves to others: what is done about it (test_check, test_split)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paths import SHARED_DATA
from tiny_images import scene

from cnn_perception.image.messages import decode_file_bytes
from training.data.duplicates import MAX_PAIRS, difference_hashes, exact, near, thumbnail


def encoded(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_copies_are_paired_with_the_first():
    assert exact([b"x", b"y", b"x", b"z", b"x"]).tolist() == [[0, 2], [0, 4]]
    assert exact([b"x", b"y"]).shape == (0, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, 40),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda image: np.clip(image * 0.9 + 10, 0, 255).astype(np.uint8),
        lambda image: image[1:, 1:],
    ],
    ids=["re-encoded", "halved", "brightened", "cropped"],
)
def test_a_slightly_changed_picture_is_found_among_a_thousand(change):
    images = [scene(seed) for seed in range(1000)]
    images.append(change(images[400]))

    assert near([thumbnail(image) for image in images]).tolist() == [[400, 1000]]


def test_other_colours_and_flat_pictures_are_no_near_duplicates():
    image = scene(1)
    flat = [np.full((40, 40, 3), grey, np.uint8) for grey in (0, 0, 90, 91)]

    assert near([thumbnail(image), thumbnail(np.ascontiguousarray(image[..., ::-1]))]).shape == (0, 2)
    assert near([thumbnail(picture) for picture in flat]).shape == (0, 2)
    assert near([]).shape == (0, 2)


def test_the_blocked_search_finds_what_comparing_every_pair_finds():
    rng = np.random.default_rng(0)
    images = [scene(seed) for seed in range(700)]  # more than a block
    images += [
        np.clip(images[i] + rng.normal(0, 12, images[i].shape), 0, 255).astype(np.uint8) for i in range(0, 700, 7)
    ]
    thumbnails = np.stack([thumbnail(image) for image in images])
    hashes = np.unpackbits(difference_hashes(thumbnails), axis=1)
    correlation = np.corrcoef(thumbnails.reshape(len(thumbnails), -1).astype(np.float64))

    expected = {
        (i, j)
        for i, j in np.argwhere(np.triu(correlation >= 0.99, 1)).tolist()
        if (hashes[i] != hashes[j]).sum() <= 7
    }  # fmt: skip

    found = near(list(thumbnails)).tolist()
    assert len(found) == len(expected) >= 95
    assert set(map(tuple, found)) == expected


def test_a_hash_is_the_sign_of_the_difference_of_neighbours():
    cells = np.arange(9, dtype=np.uint8) * np.array([10, 10, 10, 10, 10, 10, 10, 20], np.uint8)[:, None]
    cells[1] = cells[1, ::-1]
    thumb = np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1)[..., None].repeat(3, axis=2)

    assert difference_hashes(thumb[None]).tolist() == [[255, 0, 255, 255, 255, 255, 255, 255]]


def test_a_camera_that_stands_still_does_not_fill_the_memory():
    pairs = near([thumbnail(scene(3))] * 600)

    # the n-th image has n - 1 before it, of which 10 are kept
    assert len(pairs) == sum(min(before, MAX_PAIRS) for before in range(600))


def test_different_photographs_are_told_apart_and_smaller_copies_found():
    paths = sorted((SHARED_DATA / "hymenoptera").rglob("*.jpg"))
    if not paths:
        pytest.skip("the hymenoptera data set is not here")
    images = [decode_file_bytes(path.read_bytes()) for path in paths]
    copies = [encoded(cv2.resize(image, None, fx=0.5, fy=0.5), 75) for image in images[:100]]
    thumbnails = [thumbnail(image) for image in (*images, *copies)]

    found = near(thumbnails).tolist()

    assert [pair for pair in found if pair[1] < len(images)] == []
    assert len(found) >= 95
    assert all(copy - len(images) == original for original, copy in found)
