"""Owns: targets of a batch, class balance. Leaves to others: order, workers, lost files (test_load), the cache."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from cnn_perception.pipeline.preprocess import InputTensor
from training.batches.loader import Images, Item, Key, Order, balanced, class_weights
from training.data.records import Sample

SPEC = InputSpec(8, 8, "squash", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
TENSOR = InputTensor(np.zeros((3, 8, 8), np.float32))


def imbalanced(*counts):
    return tuple(Sample(Path("x"), label, "train") for label, count in enumerate(counts) for _ in range(count))


def shown(order):
    return [key.row for batch in order for key in batch]


def test_targets_are_classes_or_the_values_of_the_samples():
    classes = Images(imbalanced(2, 1), SPEC)
    numbers = Images((Sample(Path("x"), 0, "train", (0.5, -2.0)), Sample(Path("y"), 0, "train", (1.0, 0.0))), SPEC)

    labels = classes.collate([Item(2, TENSOR), Item(0, TENSOR)]).labels
    values = numbers.collate([Item(1, TENSOR), Item(0, TENSOR)]).labels
    kept = numbers.collate([Item(1, None), Item(0, TENSOR)])
    nothing = numbers.collate([Item(1, None)])

    assert (labels.dtype, labels.tolist()) == (torch.int64, [1, 0])
    assert (values.dtype, values.tolist()) == (torch.float32, [[1.0, 0.0], [0.5, -2.0]])
    assert (kept.labels.tolist(), kept.lost) == ([[0.5, -2.0]], (1,))
    assert (nothing.labels.shape, nothing.images.shape) == ((0, 2), (0, 3, 8, 8))


def test_batch_is_the_array_into_which_its_images_were_loaded_unless_one_is_lost(tmp_path: Path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    samples = tuple(Sample(tmp_path / f"{k}.png", k, "train") for k in range(3))
    for sample, colour in zip(samples, colours, strict=True):
        Image.new("RGB", (20, 12), colour).save(sample.path)
    images = Images(samples, InputSpec(8, 8, "squash", 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    keys = [Key(0, row) for row in (2, 0, 1)]

    items = images.__getitems__(keys)
    whole = images.collate(items)
    samples[0].path.unlink()
    rest = images.collate(images.__getitems__(keys))

    assert np.shares_memory(whole.images.numpy(), items[1].tensor)
    assert whole.images[:, :, 4, 4].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert rest.images[:, :, 4, 4].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert (rest.rows.tolist(), rest.lost) == ([2, 1], (0,))


def test_class_weights_are_those_of_scikit_learn():
    samples = imbalanced(100, 5, 20)
    labels = np.array([sample.label for sample in samples])

    weights = class_weights(samples, 3)

    assert weights.numpy() == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert weights[labels].mean() == pytest.approx(1.0)


def test_balance_needs_one_class_an_image():
    with pytest.raises(ConfigError, match=r"--balance.*take none"):
        class_weights((Sample(Path("x"), 0, "train", (1.0, 1.0)),), 2)


def test_the_balanced_sampler_shows_each_class_equally_often_in_an_epoch_of_the_same_length():
    samples = imbalanced(100, 6, 20)
    order = Order(126, 16, 0, balanced(samples, 3))

    for order.epoch in range(20):
        rows = shown(order)
        assert len(rows) == 126
        assert sorted(Counter(samples[row].label for row in rows).values()) == [42, 42, 42]


def test_the_images_of_a_rare_class_are_repeated_evenly_and_those_of_a_frequent_one_take_turns():
    samples = imbalanced(100, 6, 20)
    order = Order(126, 16, 0, balanced(samples, 3))
    epochs = []
    for order.epoch in range(20):
        epochs.append(Counter(shown(order)))

    assert all(epoch[row] == 7 for epoch in epochs for row in range(100, 106))  # 42 / 6
    assert max(max(epoch[row] for row in range(100)) for epoch in epochs) == 1
    assert all(any(epoch[row] for epoch in epochs) for row in range(100))


def test_a_balanced_epoch_is_the_same_again_and_can_be_begun_later():
    weights = balanced(imbalanced(30, 4), 2)
    whole, rest, other = (Order(34, 8, seed, weights) for seed in (5, 5, 6))
    rest.first_batch = 2
    whole.epoch = rest.epoch = other.epoch = 3

    assert list(rest) == list(whole)[2:]
    assert shown(whole) != shown(other)
    first = shown(whole)
    whole.epoch = 4
    assert shown(whole) != first
    assert len({len(Counter(first)), 34}) == 2  # some come twice, others not at all


def test_equal_weights_show_every_image_once():
    order = Order(10, 4, 7, np.ones(10))

    assert sorted(shown(order)) == list(range(10))
