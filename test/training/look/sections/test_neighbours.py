"""Owns: neighbours, the map of all images and what stands out, from a network to the page. Leaves to others: maths."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from looked_at import samples_of, subject_of
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from tiny_images import picture, write_folder

from training.look.section import CannotLookError
from training.look.sections import neighbours
from training.look.sections.neighbours import principal_components
from training.look.subject import Subject

KEYS = ("euclidean", "cosine")


@pytest.fixture(scope="module")
def odd_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 pictures each of red and blue; one red one among the blue, and one of black and white stripes."""
    root = write_folder(tmp_path_factory.mktemp("odd"), {"blue": 15, "red": 15})
    Image.fromarray(picture((40, 60, 220), 77)).save(root / "blue" / "flipped.png")
    stripes = np.zeros((24, 40, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(root / "red" / "stripes.png")
    return root


def test_the_six_nearest_are_training_images_found_by_scikit_learn_too(residual):
    subject = residual

    shown = neighbours.look(subject).facts["shown"]

    samples = subject.survey.samples
    train = [row for row, sample in enumerate(samples) if sample.part == "train"]
    assert len(shown) == 4
    for path, found in shown.items():
        row = next(row for row, sample in enumerate(samples) if str(sample.path) == path)
        assert samples[row].part == "val"
        for metric in KEYS:
            oracle = NearestNeighbors(n_neighbors=6, metric=metric).fit(subject.survey.embeddings[train])
            (rows,) = oracle.kneighbors(subject.survey.embeddings[[row]], return_distance=False)
            assert set(found[metric]) == {str(samples[train[index]].path) for index in rows}


def test_a_training_image_is_not_its_own_neighbour_and_frames_say_whether_labels_agree(photos):
    image = photos / "go" / "00.png"

    found = neighbours.look(subject_of("resnet18", 64, photos, images=(image,)))

    assert str(image) not in found.facts["shown"][str(image)]["euclidean"]
    first, *others = found.blocks[0].pictures
    assert first.caption == "go"
    assert len(others) == neighbours.SHOWN
    for other in others:
        green = other.pixels[0, 0, 1] > other.pixels[0, 0, 0]
        assert green == other.caption.startswith("go ")


def test_a_planted_outlier_and_a_planted_wrong_label_are_found_and_shown(odd_photos):
    found = neighbours.look(subject_of("resnet18", 64, odd_photos))

    assert found.facts["outliers"][0] == str(odd_photos / "red" / "stripes.png")
    assert found.facts["label_disagreements"][0] == str(odd_photos / "blue" / "flipped.png")
    captions = [picture.caption for block in found.blocks for picture in block.pictures]
    assert any("labelled blue" in caption and "are red: flipped.png" in caption for caption in captions)
    assert any("stripes.png" in caption for caption in captions)


def test_the_map_of_all_images_says_how_far_it_can_be_trusted_and_is_the_same_again(residual):
    one, other = (neighbours.look(residual) for _ in range(2))

    trusted = {name: values["trustworthiness"] for name, values in one.facts["map"].items()}
    assert list(trusted) == ["principal components (PCA)", "t-SNE"]
    assert all(0.5 < value <= 1 for value in trusted.values())
    assert one.facts == other.facts
    (plot,) = next(block for block in one.blocks if block.title == "All images on a plane").pictures
    assert plot.pixels.startswith(b"\x89PNG")


def test_principal_components_are_those_of_the_covariance():
    points = np.random.default_rng(0).normal(size=(30, 5)) * [1, 5, 2, 0.5, 3]

    found = principal_components(points, 3)

    values, vectors = np.linalg.eigh(np.cov(points.T))
    expected = (points - points.mean(0)) @ vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)
    np.testing.assert_allclose(found.var(axis=0, ddof=1), values[::-1][:3])
    assert principal_components(points[:, :1], 3).shape == (30, 2)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_images_of_several_classes_or_of_numbers_have_neighbours_too(task, residual, photos):
    plain = residual
    numbers = {"units": ("m", "", ""), "scaling": ((10.0, 2.0),) * 3} if task == "regression" else {}
    saved = dataclasses.replace(plain.checkpoint, task=task, **numbers)
    values = {0: (1.0, 0.0, 1.0), 1: (0.0, 1.0, 0.0), 2: (0.0, 0.0, 0.0)}
    samples = [dataclasses.replace(sample, values=values[sample.label], label=0) for sample in samples_of(photos)]

    found = neighbours.look(Subject(saved, samples, plain.options, torch.device("cpu")))

    first = found.blocks[0].pictures[0]
    assert first.caption == {"multilabel": "go, turn", "regression": "go 12 m, stop 10, turn 12"}[task]
    assert ("have its label" in found.blocks[0].title) == (task == "multilabel")
    if task == "regression":
        assert found.facts["label_disagreements"] == []


def test_three_images_are_too_few(photos):
    with pytest.raises(CannotLookError, match="at least 4"):
        neighbours.look(subject_of("resnet18", 64, photos, most_images=3))


def test_without_spatial_features_there_are_neighbours_all_the_same(photos):
    found = neighbours.look(subject_of("vit_b_16", 224, photos, most_images=5))

    assert list(found.facts["map"]) == ["principal components (PCA)"]
