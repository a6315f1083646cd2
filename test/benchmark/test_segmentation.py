"""Owns: score map and sliding windows compared as segmentations. Leaves to others: masks, and what a score map is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_spec, with_score_map, write_tiny_model

from benchmark import segmentation
from benchmark.segmentation import by_score_map, by_windows
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.model.onnx_model import OnnxModel

COLOURS = np.array(((200, 10, 10), (10, 200, 10), (10, 10, 200)), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    spec = with_score_map(tiny_spec())
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", spec=spec)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Pictures of three upright stripes, the middle one twice as wide, and their masks."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "photos").mkdir()
    (root / "masks").mkdir()
    (root / "masks" / "classes.csv").write_text("index,name\n1,red\n2,green\n3,blue\n")
    for index in range(3):
        classes = np.repeat((np.array([0, 1, 1, 2]) + index) % 3, 40)[None].repeat(72, 0)
        Image.fromarray(COLOURS[classes]).save(root / "photos" / f"{index}.png")
        Image.fromarray((classes + 1).astype(np.uint8)).save(root / "masks" / f"{index}.png")
    return root


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_network_without_padding_segments_alike_by_score_map_and_by_windows(model, drawn, scale):
    image = np.array(Image.open(drawn / "photos" / "1.png"))
    own = OnnxModel(model)

    found = by_score_map(own, scale, image)

    assert set(np.unique(found)) == {0, 1, 2}
    assert (found != by_windows(own, scale, image)).mean() < 0.01  # of equal classes at a border either may be taken


def test_the_table_has_the_figures_of_a_hand_count(model, drawn, capsys):
    words = ["--model", str(model), "--images", str(drawn / "photos"), "--masks", str(drawn / "masks")]

    assert segmentation.main(words) == EXIT_OK

    head, _, whole, score_map, windows = capsys.readouterr().out.splitlines()
    assert head == "3 images with masks"
    # the class of half of each picture is answered everywhere: of each class half a picture of one and a half is right
    assert whole.split() == ["whole", "image", "8x8", "50.0%", "0.333"]
    assert score_map.split()[-2:] == windows.split()[-2:]
    assert float(score_map.split()[-2].rstrip("%")) > 95


def test_images_without_masks_are_refused_in_one_line(model, drawn, photos_elsewhere, capsys):
    words = ["--model", str(model), "--images", str(photos_elsewhere), "--masks", str(drawn / "masks")]

    assert segmentation.main(words) == EXIT_BAD_INPUT
    assert "has no mask of any image" in capsys.readouterr().err


@pytest.fixture
def photos_elsewhere(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "other.png")
    return tmp_path
