"""Owns: whether images are mirrored, by measurement. Leaves to others: by the names of classes (test_sides)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from scipy.stats import binomtest
from tiny_run import SETTINGS

from training.calibration import mirroring
from training.calibration.mirroring import MirrorTest
from training.config import make
from training.loop.run import open_run


def arrow(rng, pointing_right):
    """A yellow arrow on a noisy ground, somewhere."""
    ground = Image.fromarray(rng.integers(0, 80, (8, 8, 3), dtype=np.uint8))
    image = ground.resize((64, 64), Image.Resampling.BICUBIC)
    x, y, size = (int(value) for value in rng.integers((26, 28, 12), (34, 36, 16)))
    draw = ImageDraw.Draw(image)
    draw.polygon([(x - size, y), (x, y - size), (x, y + size)], fill=(250, 240, 30))
    draw.rectangle((x, y - 4, x + 2 * size, y + 4), fill=(250, 240, 30))
    return ImageOps.mirror(image) if pointing_right else image


def write_arrows(root, mirrored_class, count=40):
    """Classes a and b: arrows to the left, and either arrows to the right or blue ones to the left."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = arrow(rng, name == "b" and mirrored_class)
            if name == "b" and not mirrored_class:
                image = Image.fromarray(np.asarray(image)[..., ::-1])
            image.save(root / name / f"{number}.png")
    return root


def run_of(data, folder, **changes):
    given = {**SETTINGS, "input_size": (64, 64), "augment": None, "mode": "finetune", "weights": "none", **changes}
    given["backbone"] = "resnet18"
    del given["dropout"]
    return open_run(make(data=str(data), output=str(folder), **given))


def test_classes_that_are_each_others_mirror_image_are_not_mirrored_and_it_is_said(tmp_path, capsys):
    run = run_of(write_arrows(tmp_path / "d", mirrored_class=True), tmp_path / "run")

    settled = mirroring.settled(run)

    assert settled.config.augment == ("crop", "color")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["augment"] == ["crop", "color"]
    assert "images are not mirrored; --augment crop,flip,color would do so" in capsys.readouterr().out


def test_classes_that_a_mirror_leaves_alone_stay_mirrored(tmp_path, capsys):
    run = run_of(write_arrows(tmp_path / "d", mirrored_class=False), tmp_path / "run")

    assert mirroring.settled(run) is run
    assert "left and right differ" not in capsys.readouterr().out


def test_what_the_user_asked_for_stays_and_is_warned_of(tmp_path, capsys):
    data = write_arrows(tmp_path / "d", mirrored_class=True)
    run = run_of(data, tmp_path / "run", augment=("flip",))

    assert mirroring.settled(run) is run
    assert "warning: --augment flip mirrors images, but a probe gets" in capsys.readouterr().out
    without = run_of(data, tmp_path / "other", augment=("crop",))
    assert mirroring.settled(without) is without
    assert "measured" not in capsys.readouterr().out


@pytest.mark.parametrize(("worse", "better"), [(9, 1), (12, 3), (7, 0), (30, 25), (0, 0)])
def test_the_probability_is_that_of_the_sign_test(worse, better):
    found = MirrorTest(60, 50, 40, worse, better)

    count = worse + better
    expected = binomtest(worse, count, 0.5, alternative="greater").pvalue if count else 1.0
    assert math.isclose(found.probability, expected, rel_tol=1e-9)
    assert found.harms == (expected < 0.01 and worse - better >= 6)
