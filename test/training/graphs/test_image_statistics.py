"""Owns: what a model file says of its training images. Oracles: hand arithmetic, Pillow, scipy.

Leaves to others: what the robot concludes from it (test_drift).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from checkpoints import MADE
from PIL import Image, ImageStat
from scipy.stats import entropy as shannon
from tiny_model import GAIN, TINY_INPUT, as_multilabel, regression_spec, tiny_spec, write_tiny_model

from cnn_perception.errors import DataError
from cnn_perception.model.spec import ModelSpec
from training import checkpoint
from training.graphs import image_statistics

COLORS = ((255, 0, 0), (0, 102, 0), (51, 51, 51))
TARGETS = ((0,), (0,), (0,), (2,))


def written(folder, pictures, spec=None, targets=TARGETS):
    """The tiny model, its description, and a checkpoint whose validation images are the pictures."""
    spec = spec or tiny_spec()
    proto = onnx.load(write_tiny_model(folder / "tiny.onnx", spec=spec))
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(str(folder / f"{number}.png"))
        picture.save(paths[-1])
    made = dataclasses.replace(
        MADE, task=spec.task, class_names=spec.class_names, val_images=tuple(paths), train_targets=targets
    )
    return proto, made, spec


def plain(color):
    return Image.new("RGB", (50, 40), color)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def test_moments_of_plain_pictures_are_those_of_hand_arithmetic(tmp_path):
    spec = dataclasses.replace(tiny_spec(), temperature=4.0)
    found = image_statistics.measure(*written(tmp_path, map(plain, COLORS), spec))

    # brightness: 255 / 3 = 85, 34 and 51 of 255; logits: ten times each channel in [0, 1]
    light = np.array([1 / 3, 0.4 / 3, 0.2])
    assert found.brightness.mean == pytest.approx(light.sum() / 3, abs=1e-6)
    assert found.brightness.std == pytest.approx(np.sqrt(((light - light.mean()) ** 2).sum() / 3), abs=1e-6)
    unsure = [shannon(softmax(GAIN * np.array(color) / 255 / 4)) for color in COLORS]
    assert unsure[2] == pytest.approx(np.log(3))
    assert found.entropy.mean == pytest.approx(np.mean(unsure), abs=1e-6)
    assert found.entropy.std == pytest.approx(np.std(unsure), abs=1e-6)
    assert (found.images, found.class_shares) == (3, (0.75, 0.0, 0.25))


def test_brightness_is_that_of_the_picture_before_the_normalisation(tmp_path):
    size = dataclasses.replace(TINY_INPUT, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    noise = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), np.uint8)
    picture = Image.fromarray(noise)  # as large as the input: nothing is resized

    found = image_statistics.measure(*written(tmp_path, [picture], tiny_spec(input=size)))

    assert found.brightness.mean == pytest.approx(np.mean(ImageStat.Stat(picture).mean) / 255, abs=1e-6)
    assert found.brightness.std == 0


def test_of_several_classes_each_has_its_share_and_there_is_no_entropy(tmp_path):
    targets = ((1, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 0))
    spec = as_multilabel(tiny_spec(), 0.5, 0.5, 0.5)

    found = image_statistics.measure(*written(tmp_path, [plain(COLORS[0])], spec, targets))

    assert (found.class_shares, found.entropy) == ((0.25, 0.0, 0.75), None)


def test_numbers_have_no_shares_and_no_entropy(tmp_path):
    spec = regression_spec({"a": "m", "b": "", "c": ""})

    found = image_statistics.measure(*written(tmp_path, [plain(COLORS[2])], spec, ((0.1, 0.2, -3.0),)))

    assert (found.class_shares, found.entropy) == ((), None)
    assert found.brightness.mean == pytest.approx(0.2, abs=1e-6)


def test_large_sets_are_looked_at_from_one_end_to_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(image_statistics, "MOST_IMAGES", 3)
    pictures = [plain((grey, grey, grey)) for grey in (0, 90, 100, 90, 200)]

    found = image_statistics.measure(*written(tmp_path, pictures))

    assert (found.images, found.brightness.mean) == (3, pytest.approx(100 / 255, abs=1e-6))


def test_deleted_images_are_passed_over_until_none_is_left(tmp_path):
    proto, made, spec = written(tmp_path, map(plain, COLORS))
    (tmp_path / "0.png").unlink()
    assert image_statistics.measure(proto, made, spec).images == 2
    for name in ("1.png", "2.png"):
        (tmp_path / name).unlink()
    found = image_statistics.measure(proto, made, spec)
    assert found is None
    assert "none: the checkpoint has no labelled training images, or" in image_statistics.summary(found)


def test_a_checkpoint_of_before_labels_were_kept_is_read_and_has_no_statistics(tmp_path):
    checkpoint.save(tmp_path / "best.pt", MADE)
    values = torch.load(tmp_path / "best.pt", weights_only=True)
    del values["train_targets"]
    torch.save(values, tmp_path / "best.pt")

    assert checkpoint.load(tmp_path / "best.pt").train_targets == ()
    assert image_statistics.measure(*written(tmp_path, map(plain, COLORS), targets=())) is None


def test_a_damaged_validation_image_is_named(tmp_path):
    proto, made, spec = written(tmp_path, map(plain, COLORS))
    (tmp_path / "1.png").write_bytes(b"\x89PNG")

    with pytest.raises(DataError, match=r"1\.png: this validation image cannot be read"):
        image_statistics.measure(proto, made, spec)


def test_the_statistics_travel_in_the_description_and_are_summed_up_in_a_line(tmp_path):
    proto, made, spec = written(tmp_path, map(plain, COLORS))
    found = image_statistics.measure(proto, made, spec)

    described = dataclasses.replace(spec, statistics=found)

    assert ModelSpec.from_json(described.to_json()) == described
    assert image_statistics.summary(found) == (
        f"brightness 0.22 +/- 0.08, entropy in nats {found.entropy.mean:.2f} +/- {found.entropy.std:.2f}, "
        "over 3 validation images"
    )
