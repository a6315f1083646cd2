"""Owns: MixUp and CutMix of one batch. Leaves to others: the loss on mixed labels (tasks), when they are applied."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnn_perception.errors import ConfigError
from training.batches.mixup import Mixing, box, mix
from training.config import make

COUNT, CLASSES, HEIGHT, WIDTH = 6, 3, 16, 24
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])
MIXUP, CUTMIX = Mixing(0.4, 0.0, 3), Mixing(0.0, 1.0, 3)


def flat_images():
    """Image i is everywhere 2**i, so that any sum says what it is made of."""
    return (2.0 ** torch.arange(COUNT))[:, None, None, None].expand(COUNT, 3, HEIGHT, WIDTH).contiguous()


def mixed(mixing, epoch=0, batch=0, targets=TARGETS):
    return mix(flat_images(), targets, CLASSES, mixing, epoch, batch)


@pytest.mark.parametrize("batch", range(5))
def test_mixup_blends_pictures_and_labels_by_one_share(batch):
    # one label an image: what is in a label says what must be in the picture
    images, shares = mix(flat_images(), torch.arange(COUNT), COUNT, MIXUP, 0, batch)

    assert shares.sum(dim=1).numpy() == pytest.approx(1.0)
    assert all(len(row[row > 0]) <= 2 for row in shares)
    expected = shares @ 2.0 ** torch.arange(COUNT)
    assert torch.allclose(images, expected[:, None, None, None].expand_as(images), rtol=1e-5)


@pytest.mark.parametrize("batch", range(5))
def test_cutmix_labels_are_the_areas_of_the_parts(batch):
    images, shares = mix(flat_images(), torch.arange(COUNT), COUNT, CUTMIX, 0, batch)

    for picture, share in zip(images, shares, strict=True):
        area = torch.tensor([(picture[0] == 2.0**i).float().mean() for i in range(COUNT)])
        assert share.numpy() == pytest.approx(area.numpy(), abs=1e-6)
        assert torch.equal(picture[0], picture[2])


def test_a_part_pasted_by_cutmix_stays_in_its_place():
    images = torch.arange(COUNT * 3 * HEIGHT * WIDTH, dtype=torch.float32).reshape(COUNT, 3, HEIGHT, WIDTH)

    result, _ = mix(images, TARGETS, CLASSES, CUTMIX, 0, 1)

    within = images[0].numel()
    assert torch.equal(result % within, images % within)
    assert not torch.equal(result, images)


def test_the_share_is_drawn_from_the_beta_distribution():
    kept = []
    for batch in range(400):
        _, shares = mix(torch.zeros(2, 3, 1, 1), torch.tensor([0, 1]), 2, Mixing(0.5, 0, 0), 0, batch)
        kept.append(float(shares[0, 0]))
    kept = np.array([k for k in kept if k != 1.0])  # of two images, half of the permutations change nothing

    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1))
    assert kept.mean() == pytest.approx(0.5, abs=0.08)
    assert kept.var() == pytest.approx(1 / 8, abs=0.025)


def test_a_batch_is_mixed_alike_again_and_each_batch_differently():
    first, again = mixed(MIXUP, 2, 5), mixed(MIXUP, 2, 5)

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (mixed(MIXUP, 2, 6), mixed(MIXUP, 3, 5), mixed(Mixing(0.4, 0, 4), 2, 5)):
        assert not torch.equal(first[1], other[1])


def test_with_both_each_batch_undergoes_one_of_them():
    both = [mixed(Mixing(1.0, 1.0, 0), 0, batch)[0] for batch in range(40)]

    # a pasted picture consists of whole powers of two, a blended one does not
    cut = sum(bool((images.log2() == images.log2().round()).all()) for images in both)
    assert 10 <= cut <= 30


def test_labels_of_several_classes_and_numbers_are_blended_linearly():
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-2.5, 0.5], [0.0, 0.0], [3.0, 0.0]])
    images, blended = mix(flat_images(), values, 2, MIXUP, 0, 0)
    _, shares = mix(flat_images(), torch.arange(COUNT), COUNT, MIXUP, 0, 0)

    assert torch.allclose(blended, shares @ values, atol=1e-6)
    assert images.shape == flat_images().shape


def test_arguments_stay_as_they_are():
    images, targets = flat_images(), TARGETS.clone()
    for mixing in (MIXUP, CUTMIX):
        mix(images, targets, CLASSES, mixing, 0, 0)

    assert torch.equal(images, flat_images())
    assert torch.equal(targets, TARGETS)


def test_a_box_has_its_share_of_the_area_and_is_cut_off_at_the_edge():
    assert box(100, 200, 0.25, 0.5, 0.5) == (25, 75, 50, 150)
    assert box(100, 200, 0.25, 0.0, 0.99) == (0, 25, 148, 200)
    assert box(100, 200, 0.0, 0.3, 0.3) == (30, 30, 60, 60)
    assert box(100, 200, 1.0, 0.5, 0.5) == (0, 100, 0, 200)


def test_a_run_mixes_only_if_asked_and_never_cuts_numbers():
    given = {"data": "d", "output": "o"}

    assert Mixing.of(make(**given), "multiclass") is None
    assert Mixing.of(make(**given, mixup=0.2, seed=7), "regression") == Mixing(0.2, 0.0, 7)
    assert Mixing.of(make(**given, cutmix=1.0), "multilabel") == Mixing(0.0, 1.0, 0)
    with pytest.raises(ConfigError, match=r"--cutmix.*take --mixup or neither"):
        Mixing.of(make(**given, cutmix=1.0), "regression")
