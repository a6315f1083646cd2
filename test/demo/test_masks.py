"""The demo's masks: what they say is where the picture shows it, and evaluation and training read them.

The oracle is geometry and colour: the projected corners of the sign, and the hue of what the mask says is a sign.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from cnn_perception.masks.folder import read_masks
from demo.draw import draw_dataset, draw_drive, draw_masks, draw_sample
from demo.masks import CONCEPTS, encode_mask, label
from demo.shots import CLASSES, Drive, DriveSettings, random_shot
from demo.signs import SIGNS

HEIGHT, WIDTH = 96, 128
SIZE = {"height": 48, "width": 64, "processes": 1}


@pytest.mark.parametrize("name", SIGNS)
def test_a_sign_is_where_its_projected_corners_are(name):
    inside = []
    covered = []
    for seed in range(8):
        shot = random_shot(name, np.random.default_rng(seed), HEIGHT, WIDTH)
        board = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.fillConvexPoly(board, np.rint(shot.view.project(shot.board.corners())).astype(np.int32), 1)
        found = label(shot) == CONCEPTS.index(name)
        grown = cv2.dilate(board, np.ones((3, 3), np.uint8))
        inside.append((found & (grown > 0)).sum() / found.sum())
        covered.append((found & (board > 0)).sum() / board.sum())

    assert min(inside) > 0.99
    # A triangle fills half of its square, a disc 0.79; a branch may hide a part.
    assert np.median(covered) > 0.4


def test_a_picture_shows_the_sign_of_its_class_and_no_other():
    for name in CLASSES:
        shown = set(np.unique(label(random_shot(name, np.random.default_rng(5), HEIGHT, WIDTH))).tolist())

        assert shown & {CONCEPTS.index(sign) for sign in SIGNS} == ({CONCEPTS.index(name)} if name in SIGNS else set())


def test_the_sky_is_bright_grass_is_green_and_asphalt_is_grey():
    colours = {name: [] for name in ("sky", "grass", "road")}
    for seed in range(12):
        shot = random_shot("clear_road", np.random.default_rng(seed), HEIGHT, WIDTH)
        image = draw_sample("clear_road", np.random.default_rng(seed), HEIGHT, WIDTH).astype(float)
        labels = label(shot)
        for name, found in colours.items():
            pixels = image[labels == CONCEPTS.index(name)]
            found += [pixels.mean(0)] if len(pixels) > 100 else []
    sky, grass, road = (np.mean(found, axis=0) for found in colours.values())

    assert sky.mean() > grass.mean() > 0
    assert sky.mean() > road.mean()
    assert grass[1] - grass[2] > 30
    assert np.ptp(road) < 0.6 * np.ptp(grass)


def test_the_masks_of_a_drive_show_the_sign_of_each_frame_and_it_grows():
    drive = Drive(DriveSettings(24.0, 10.0, 0, HEIGHT, WIDTH))
    stop = drive.stops[0]
    areas = [(label(drive.shot(frame)) == CONCEPTS.index(stop.name)).sum() for frame in range(stop.shown, stop.end)]

    assert areas[0] > 100
    assert areas[-2] > 4 * areas[1]
    assert (label(drive.shot(stop.start)) >= len(SIGNS)).all()


def test_every_drawn_image_has_its_mask(tmp_path):
    data = draw_dataset(tmp_path / "dataset", 2, 1, 3, **SIZE)
    masks = read_masks(draw_masks(tmp_path / "masks", 2, 1, 3, **SIZE))
    images = sorted(data.rglob("*.jpg"))

    pairs = masks.paired(images)

    assert masks.concepts == CONCEPTS
    assert set(masks.class_names) == set(CLASSES)
    assert [image for image, _ in pairs] == images
    for image, mask in pairs:
        labels = masks.labels(mask, 48, 64)
        shown = {masks.concepts[index] for index in np.unique(labels)} & set(SIGNS)
        assert shown == {image.parent.name} & set(SIGNS)


def test_a_mask_reads_back_as_it_was_drawn(tmp_path):
    drive = draw_drive(tmp_path / "drive", 4.0, 10.0, 0, **SIZE)
    masks = read_masks(drive / "masks")
    expected = label(Drive(DriveSettings(4.0, 10.0, 0, 48, 64)).shot(25))

    found = masks.labels(masks.path_of(drive / "frames" / "000025.jpg"), 48, 64)

    np.testing.assert_array_equal(found, expected)
    assert len(list((drive / "masks").glob("*.png"))) == len(list((drive / "frames").iterdir())) == 40


def test_two_concepts_never_share_a_colour(tmp_path):
    (tmp_path / "a.png").write_bytes(encode_mask(np.arange(len(CONCEPTS), dtype=np.uint8)[None]))

    with Image.open(tmp_path / "a.png") as image:
        colours = np.asarray(image.convert("RGB"))[0]

    assert len({tuple(colour) for colour in colours.tolist()}) == len(CONCEPTS) == 20
