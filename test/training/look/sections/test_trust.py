"""Owns: the tests of the published activation map, from a network to the page. Leaves to others: the measures."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from looked_at import samples_of, subject_of
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import nn

from training.look.section import CannotLookError
from training.look.sections import trust
from training.look.subject import Subject
from training.networks import backbones

TRUST_OF = [("resnet18", "layer4"), ("vgg11", "features")]


@pytest.mark.parametrize(("name", "layer"), TRUST_OF)
def test_the_map_that_is_judged_is_that_of_pytorch_grad_cam(name, layer, photos):
    subject = subject_of(name, 96, photos)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    model = backbones.build(name, 3)
    model.load_state_dict(subject.checkpoint.model)

    with torch.no_grad():
        logits, _, found, _ = trust.activated(subject)(images)
    given = trust.maps_of(subject.split(), images, logits.argmax(1))

    with GradCAM(model.eval(), [model.get_submodule(layer)]) as oracle:
        expected = oracle(images, None)
        for maps in (found.numpy(), given):
            scaled = scale_cam_image(np.maximum(maps, 0), (96, 96))
            np.testing.assert_allclose(oracle.aggregate_multi_layers([scaled[:, None]]), expected, atol=1e-4)
    assert expected.std() > 0.05  # else there is nothing to compare


def test_a_given_output_is_explained_though_another_is_higher(photos):
    subject = subject_of("resnet18", 96, photos)
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = subject.split().body(image)[0]

    for output in range(3):
        expected = torch.einsum("c,chw->hw", subject.model.fc.weight[output], features)
        found = trust.maps_of(subject.split(), image, torch.tensor([output]))[0] * features[0].numel()
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "convnext_tiny", "swin_t", "efficientnet_b0"])
def test_stages_hold_every_parameter_once_from_the_head_down(name, photos):
    subject = subject_of(name, 64, photos)

    stages = trust.stages_from_the_top(subject)

    found = [parameter for names in stages.values() for parameter in names]
    assert sorted(found) == sorted(name for name, _ in subject.model.named_parameters())
    if name == "resnet18":
        assert list(stages) == ["the last layer", "layer4", "layer3", "layer2", "layer1", "conv1"]
        assert stages["the last layer"] == ["fc.weight", "fc.bias"]
        assert all(parameter.startswith("layer3.") for parameter in stages["layer3"])


def test_randomising_goes_from_the_top_down_and_leaves_the_network_as_it_was(photos):
    subject = subject_of("resnet18", 96, photos, most_images=6)
    before = copy.deepcopy(subject.model.state_dict())
    judged = trust._judged(subject)
    stages = trust.stages_from_the_top(subject)

    found = trust.randomised_maps(subject, judged, stages, seed=3)
    head_alone = trust.randomised_maps(subject, judged, dict(list(stages.items())[:1]), seed=3)
    nothing = trust.randomised_maps(subject, judged, {"": []}, seed=3)

    assert len(found) == len(stages)
    np.testing.assert_array_equal(found[0], head_alone[0])
    assert not np.allclose(found[0], found[1])
    cells = judged.maps[0].size
    np.testing.assert_allclose(nothing[0] * cells, judged.maps, rtol=1e-3, atol=1e-5)
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_curves_of_a_network_that_sees_one_place_fall_and_rise_at_once(photos):
    """A map that marks the only place that counts is far better than chance; one that marks the others is worse."""
    subject = subject_of("resnet18", 96, photos, images=(photos / "go" / "00.png",))
    judged = trust._judged(subject)
    cells = np.zeros((1, 3, 3), np.float32)
    cells[0, 0, 0] = 1

    class Corner(nn.Module):
        def forward(self, images):
            seen = images[:, :, :24, :24].abs().mean((1, 2, 3))
            return torch.stack([8 * seen - 4, torch.zeros_like(seen), torch.zeros_like(seen)], 1)

    subject.cut = lambda _ends: Corner()  # type: ignore[method-assign, assignment, misc]
    good = dataclasses.replace(judged, maps=cells, shown=torch.tensor([0]), images=torch.ones_like(judged.images))
    bad = dataclasses.replace(good, maps=-cells)

    areas = {
        name: {way: trust.area(orders["the map"][0]) for way, orders in trust.removal_curves(subject, case).items()}
        for name, case in (("good", good), ("bad", bad))
    }

    assert areas["good"]["deletion"] < 0.3 < 0.8 < areas["bad"]["deletion"]
    curves = trust.removal_curves(subject, good)["deletion"]["the map"][0]
    assert curves[0] == pytest.approx(np.exp(4) / (np.exp(4) + 2), abs=1e-4)
    assert curves[-1] == pytest.approx(np.exp(-4) / (np.exp(-4) + 2), abs=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_figures_of_both_checks_stand_in_the_page_and_in_the_facts(name, photos):
    found = trust.look(subject_of(name, 64, photos))

    assert found.facts["method"] == {"resnet18": "cam", "squeezenet1_1": "grad-cam"}[name]
    for way in ("deletion", "insertion"):
        areas = found.facts["removal"][way]["area"]
        assert list(areas) == ["the map", "random cells"]
        assert all(len(values) == len(found.facts["images"]) == 6 for values in areas.values())
        assert all(0 <= value <= 1 for values in areas.values() for value in values)
        better = found.facts["removal"][way]
        assert better["from"] <= better["better_by"] <= better["to"]
    for figures in found.facts["randomisation"]["stages"].values():
        assert -1 <= figures["rank_correlation"] <= 1
        assert -1 <= figures["ssim"] <= 1
    pictures = [picture for block in found.blocks for picture in block.pictures]
    assert len({picture.name for picture in pictures}) == len(pictures)
    assert sum(isinstance(picture.pixels, bytes) for picture in pictures) == 2


def test_numbers_have_no_removal_curves_and_are_randomised_all_the_same(residual, photos):
    plain = residual
    saved = dataclasses.replace(plain.checkpoint, task="regression", units=("",) * 3, scaling=((0.0, 1.0),) * 3)
    samples = [dataclasses.replace(sample, values=(1.0, 0.0, 2.0)) for sample in samples_of(photos)]

    facts = trust.look(Subject(saved, samples, plain.options, torch.device("cpu"))).facts

    assert "no probability" in facts["removal"]["missing"]
    assert facts["randomisation"]["stages"]


@pytest.mark.parametrize(("name", "size", "why"), [("vit_b_16", 224, "no spatial"), ("resnet18", 32, "single cell")])
def test_a_network_without_a_map_to_test_says_so(name, size, why, photos):
    with pytest.raises(CannotLookError, match=why):
        trust.look(subject_of(name, size, photos))
