"""Owns: the concepts of a class, from a network to the page. Leaves to others: the factors themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import subject_of

from training.look.section import CannotLookError
from training.look.sections import concepts
from training.networks import backbones


def test_the_parts_of_a_class_add_up_to_the_mean_of_its_logits(residual):
    subject = residual

    found = concepts.look(subject)

    assert found.facts["exact"]
    assert list(found.facts["classes"]) == ["go", "stop", "turn"]
    labels = np.array([sample.label for sample in subject.survey.samples])
    for label, facts in enumerate(found.facts["classes"].values()):
        expected = subject.survey.logits[labels == label, label].mean()
        parts = sum(facts["contributions"]) + facts["rest"] + facts["bias"]
        assert facts["images"] == (labels == label).sum()
        assert facts["output"] == pytest.approx(expected, abs=2e-3)
        assert parts == pytest.approx(expected, abs=2e-3)
        assert facts["bias"] == pytest.approx(float(subject.model.fc.bias[label]), abs=1e-4)


def test_a_head_that_weighs_all_channels_alike_leaves_nearly_no_rest(photos):
    """Factors keep the sum of the features nearly exactly; a wrong weight, or number of cells, would not."""
    model = backbones.build("resnet18", 3)
    torch.nn.init.constant_(model.fc.weight, 0.01)

    facts = concepts.look(subject_of("resnet18", 64, photos, model)).facts["classes"]["go"]

    signal = facts["output"] - facts["bias"]
    assert signal > 0.1
    assert abs(facts["rest"]) < 0.05 * signal


def test_each_concept_is_a_picture_with_its_percentage_the_largest_part_first(residual):
    found = concepts.look(residual)

    block = found.blocks[0]
    facts = found.facts["classes"]["go"]
    assert len(block.pictures) == len(facts["contributions"]) <= concepts.CONCEPTS
    values = [float(row[1]) for row in block.table[1:-3]]
    assert values == sorted(values, reverse=True)
    np.testing.assert_allclose(values, sorted(facts["contributions"], reverse=True), atol=0.006)
    for picture in block.pictures:
        assert max(picture.pixels.shape) <= 256
    assert block.table[-1][0] == "mean output"


@pytest.mark.parametrize(
    ("name", "is_exact", "is_signed"),
    [("squeezenet1_1", False, False), ("efficientnet_b0", True, True), ("mobilenet_v3_small", False, True)],
)
def test_other_heads_and_signed_features_are_said_and_the_parts_still_add_up(name, is_exact, is_signed, photos):
    found = concepts.look(subject_of(name, 64, photos, most_images=15))

    assert (found.facts["exact"], found.facts["signed_features"]) == (is_exact, is_signed)
    assert ("first-order" in found.intro) != is_exact
    assert ("negative in places" in found.intro) == is_signed
    for facts in found.facts["classes"].values():
        total = sum(facts["contributions"]) + facts["rest"] + facts["bias"]
        assert total == pytest.approx(facts["output"], abs=2e-3)


def test_a_network_without_places_says_so(photos):
    with pytest.raises(CannotLookError, match="needs a network with a grid"):
        concepts.look(subject_of("vit_b_16", 224, photos, most_images=3))


def test_classes_of_too_few_images_are_left_out_and_named(photos):
    subject = subject_of("resnet18", 64, photos)
    subject.samples = tuple(sample for sample in subject.samples if sample.label != 1)[:14]

    facts = concepts.look(subject).facts

    assert list(facts["classes"]) == ["go", "turn"]
    assert facts["not_shown"] == ["stop"]


def test_the_same_seed_gives_the_same_concepts(residual):
    one, other = (concepts.look(residual).facts for _ in range(2))

    assert one == other
