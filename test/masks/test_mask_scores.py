"""Owns: the arithmetic of label maps against masks. Leaves to others: evaluate_bag (test_evaluate_masks)."""

from __future__ import annotations

import numpy as np
import pytest

from cnn_perception.errors import ConfigError
from cnn_perception.masks.folder import read_masks
from cnn_perception.masks.scores import OTHER, Matching

CLASSES = ("bird", "cat", "dog")


def masks_of(folder, table):
    (folder / "classes.csv").write_text(table)
    return read_masks(folder)


def scored(masks, classes, labels, answers):
    matching = Matching(masks, classes)
    return matching.overlap(matching.confusion(matching.truth(np.array(labels)), np.array(answers)))


def figures(found):
    return {one.name: one.iou for one in found.classes}


def test_overlap_is_that_of_hand_arithmetic(tmp_path):
    masks = masks_of(tmp_path, "index,name\n1,dog\n2,cat\n3,tree\n")  # labels 0, 1, 2
    labels = [[0, 0, 0, 1], [1, -2, 2, -1]]
    answers = [[2, 2, 1, 1], [0, 1, 1, 0]]

    found = scored(masks, CLASSES, labels, answers)

    # Dog: 2 of 3 pixels, called so nowhere else. Cat: 1 of 2, called so once more. Background: bird is right.
    assert figures(found) == {"cat": 1 / 3, "dog": 2 / 3, OTHER: 1 / 2}
    assert found.pixel_accuracy == 4 / 6  # of the tree and what nothing is known of nothing is asked
    assert found.mean_iou == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert [(one.truth_pixels, one.answered_pixels, one.right_pixels) for one in found.classes] == [
        (2, 2, 1),
        (3, 2, 2),
        (1, 2, 1),
    ]


def test_background_is_left_out_where_the_model_has_no_word_for_it(tmp_path):
    masks = masks_of(tmp_path, "index,name\n1,dog\n2,cat\n")

    found = scored(masks, ("cat", "dog"), [[0, 1, -1, -1]], [[1, 1, 0, 1]])

    assert figures(found) == {"cat": 0.0, "dog": 1 / 2}
    assert found.pixel_accuracy == 1 / 2


def test_the_table_says_as_which_class_concepts_and_background_count(tmp_path):
    masks = masks_of(tmp_path, "index,name,class\n1,pug,dog\n2,poodle,dog\n0,background,bird\n")

    found = scored(masks, CLASSES, [[0, 1, -1, -1]], [[2, 0, 0, 1]])

    assert figures(found) == {"bird": 1 / 3, "dog": 1 / 2}
    assert found.pixel_accuracy == 2 / 4


def test_random_maps_agree_with_plain_loops(tmp_path):
    masks = masks_of(tmp_path, "index,name\n1,dog\n2,cat\n3,tree\n")
    rng = np.random.default_rng(0)
    labels = rng.integers(-2, 3, (40, 50))
    answers = rng.integers(0, 3, (40, 50))
    names = {-1: OTHER, 0: "dog", 1: "cat"}
    called = {0: OTHER, 1: "cat", 2: "dog"}
    pairs = [(names[a], called[b]) for a, b in zip(labels.ravel(), answers.ravel(), strict=True) if a in names]

    found = scored(masks, CLASSES, labels, answers)

    for name, iou in figures(found).items():
        both = sum(a == b == name for a, b in pairs)
        assert iou == pytest.approx(both / sum(name in pair for pair in pairs))
    assert found.pixel_accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


def test_a_class_that_is_nowhere_is_not_in_the_mean(tmp_path):
    masks = masks_of(tmp_path, "index,name\n1,dog\n2,cat\n3,bird\n")

    found = scored(masks, CLASSES, [[0, 0]], [[2, 2]])

    assert figures(found) == {"bird": None, "cat": None, "dog": 1.0}
    assert found.mean_iou == 1.0


def test_without_a_pixel_that_counts_there_is_no_figure(tmp_path):
    found = scored(masks_of(tmp_path, "index,name\n1,dog\n"), ("dog",), [[-1, -2]], [[0, 0]])

    assert (found.pixel_accuracy, found.mean_iou) == (None, None)


def test_masks_of_other_things_than_the_models_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none of its concepts \(tree\) is a class of the model \(bird, cat, dog\)"):
        Matching(masks_of(tmp_path, "index,name\n1,tree\n"), CLASSES)
