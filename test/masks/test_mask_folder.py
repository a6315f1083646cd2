"""Owns: which mask belongs to which image, and what its pixels stand for. Leaves to others: the table's columns."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cnn_perception.errors import DataError
from cnn_perception.masks.class_table import BACKGROUND, VOID
from cnn_perception.masks.folder import read_masks

COLOURS = "name,r,g,b\nred,255,0,0\ngreen,0,255,0\nvoid,255,255,255\n"
PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 0]], [[255, 255, 255], [255, 0, 0], [0, 0, 0]]], np.uint8)
LABELS = [[0, 1, BACKGROUND], [VOID, 0, BACKGROUND]]


def folder(path, table, **masks):
    path.mkdir(parents=True, exist_ok=True)
    (path / "classes.csv").write_text(table)
    for name, image in masks.items():
        image.save(path / f"{name}.png")
    return read_masks(path)


def palette(indices, colours):
    image = Image.fromarray(np.array(indices, np.uint8))
    image.putpalette(bytes(np.array(colours, np.uint8)))
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        Image.fromarray(PIXELS).convert("RGBA"),
        palette([[1, 2, 0], [3, 1, 0]], [[0, 0, 0], [255, 0, 0], [0, 255, 0], [255, 255, 255]]),
    ],
    ids=["RGB", "RGBA", "palette"],
)
def test_colours_are_read_from_every_kind_of_png(tmp_path, image):
    masks = folder(tmp_path, COLOURS, a=image)

    assert masks.labels(tmp_path / "a.png", 2, 3).tolist() == LABELS


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[7, 2, 0], [255, 7, 0]], np.uint8)),
        Image.fromarray(np.array([[7, 2, 0], [255, 7, 0]], np.uint16)),
        Image.fromarray(np.array([[7, 2, 0], [255, 7, 0]], np.uint8)).convert("RGB"),
        palette([[7, 2, 0], [255, 7, 0]], np.random.default_rng(0).integers(0, 256, (256, 3))),
    ],
    ids=["grey", "16 bits", "grey as RGB", "palette"],
)
def test_indices_are_read_from_every_kind_of_png(tmp_path, image):
    masks = folder(tmp_path, "index,name\n7,red\n2,green\n", a=image)

    assert masks.labels(tmp_path / "a.png", 2, 3).tolist() == LABELS


def test_of_an_image_each_concept_has_its_pixels(tmp_path):
    masks = folder(tmp_path / "masks", COLOURS, a=Image.fromarray(PIXELS))

    shown = masks.of(tmp_path / "images" / "a.jpg", 2, 3)

    assert shown.tolist() == [
        [[True, False, False], [False, True, False]],
        [[False, True, False], [False, False, False]],
    ]
    assert masks.of(tmp_path / "images" / "b.jpg", 2, 3) is None


def test_the_mask_lies_in_as_many_of_the_images_folders_as_there_are(tmp_path):
    one = Image.new("RGB", (3, 2))
    root = tmp_path / "masks"
    for place in (root / "val" / "stop", root / "go"):
        place.mkdir(parents=True)
        one.save(place / "7.png")
    masks = folder(root, COLOURS, **{"8": one})
    images = [tmp_path / "data" / name for name in ("val/stop/7.jpg", "val/go/7.jpg", "x/8.jpeg", "val/stop/9.jpg")]

    assert [masks.path_of(image) for image in images] == [
        root / "val" / "stop" / "7.png",
        root / "go" / "7.png",
        root / "8.png",
        None,
    ]


def test_an_image_beside_the_masks_is_not_its_own_mask(tmp_path):
    masks = folder(tmp_path, COLOURS, a=Image.fromarray(PIXELS))

    assert masks.path_of(tmp_path / "a.png") is None
    assert masks.path_of(tmp_path / "a.jpg") == tmp_path / "a.png"


def test_one_mask_of_two_images_is_refused(tmp_path):
    masks = folder(tmp_path, COLOURS, a=Image.fromarray(PIXELS))
    images = [tmp_path / "x" / "a.jpg", tmp_path / "x" / "b.jpg", tmp_path / "y" / "a.jpg"]

    assert masks.paired(images[:2]) == [(images[0], tmp_path / "a.png")]
    with pytest.raises(DataError, match=r"is the mask of both .*x/a\.jpg and .*y/a\.jpg; put masks into folders as"):
        masks.paired(images)


def test_penn_fudans_instances_are_one_concept(tmp_path):
    for name in ("PNGImages", "PedMasks"):
        (tmp_path / name).mkdir()
    instances = Image.fromarray(np.array([[0, 1, 1], [2, 2, 0]], np.uint8))
    instances.save(tmp_path / "PedMasks" / "FudanPed00001_mask.png")
    masks = read_masks(tmp_path)
    image = tmp_path / "PNGImages" / "FudanPed00001.png"

    assert masks.concepts == ("pedestrian",)
    assert masks.of(image, 2, 3).tolist() == [[[False, True, True], [True, True, False]]]
    assert masks.labels(masks.path_of(image), 2, 3).tolist() == [[-1, 0, 0], [0, 0, -1]]
    assert masks.path_of(tmp_path / "PNGImages" / "FudanPed00002.png") is None


@pytest.mark.parametrize(
    ("table", "image", "words"),
    [
        (COLOURS, Image.new("RGB", (4, 2)), "has 4x2 pixels, its image 3x2; make them of one size"),
        (COLOURS, Image.new("RGB", (3, 2), (1, 2, 3)), "6 pixels have the colour 1,2,3, which the class table does"),
        (COLOURS, Image.fromarray(PIXELS // 255 * 254), "2 pixels have the colour 254,0,0, .* and 2 others another"),
        (COLOURS, Image.new("I;16", (3, 2)), "holds numbers of 16 bits, but the class table has colours"),
        ("index,name\n1,a\n", Image.new("L", (3, 2), 9), "6 pixels have the index 9, which the class table does not"),
        ("index,name\n1,a\n", Image.fromarray(PIXELS), "is in colour, but the class table has indices"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_in_one_line(tmp_path, table, image, words):
    masks = folder(tmp_path, table, a=image)

    with pytest.raises(DataError, match=rf"a\.png: {words}"):
        masks.labels(tmp_path / "a.png", 2, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is no PNG"), (b"\xff\xd8\xff\xe0", "is no PNG"), (b"\x89PNG\r\n\x1a\n\0\0", "cannot be read")],
)
def test_a_file_that_is_no_mask_is_refused_in_one_line(tmp_path, content, words):
    masks = folder(tmp_path, COLOURS)
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(DataError, match=rf"a\.png: {words}"):
        masks.labels(tmp_path / "a.png", 2, 3)


def test_a_truncated_mask_is_refused_or_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2, (20, 30)).astype(np.uint8)
    masks = folder(tmp_path, "index,name\n0,red\n1,green\n", a=Image.fromarray(pixels))
    whole = (tmp_path / "a.png").read_bytes()
    refused = 0
    for length in range(len(whole)):
        (tmp_path / "a.png").write_bytes(whole[:length])
        try:
            np.testing.assert_array_equal(masks.labels(tmp_path / "a.png", 20, 30), pixels)
        except DataError:
            refused += 1

    assert refused > len(whole) - 30  # without its checksums and its last chunk it is whole all the same


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no such folder of masks"):
        read_masks(tmp_path / "masks")
