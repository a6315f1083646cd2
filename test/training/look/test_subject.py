"""Owns: where a network is opened, what the survey of its units says. Leaves to others: the sections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import subject_of
from torch import nn

from cnn_perception.image.messages import read_image
from cnn_perception.pipeline.preprocess import preprocess
from training.look.survey import STRONGEST
from training.networks import backbones

ENDS = [("conv1", 32), ("layer1", 16), ("layer2", 8), ("layer3", 4), ("layer4", 2)]


def test_a_residual_network_is_opened_at_its_first_layer_and_the_end_of_each_stage(photos):
    subject = subject_of("resnet18", 64, photos)

    assert [(layer.name, layer.shape[1]) for layer in subject.layers] == ENDS
    # Worked by hand: R18 in the lectures' recursion, r + (k - 1) * stride.
    assert [layer.geometry.receptive_field[0] for layer in subject.layers] == [7, 43, 99, 211, 435]
    assert [layer.geometry.stride[0] for layer in subject.layers] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "densenet121", "swin_t", "convnext_tiny", "mobilenet_v3_small", "vit_b_16"]
)
def test_every_kind_of_network_is_opened_or_has_no_maps(name, photos):
    size = 224 if name == "vit_b_16" else 64
    subject = subject_of(name, size, photos)

    assert bool(subject.layers) == (name != "vit_b_16")
    with torch.no_grad():
        *maps, _, embedding, logits = subject.opened(torch.randn(2, 3, size, size))
        assert [tuple(found.shape[1:]) for found in maps] == [layer.shape for layer in subject.layers]
    assert len(embedding) == len(logits) == 2
    assert len({layer.name for layer in subject.layers}) == len(subject.layers)


def test_opening_changes_no_answer_and_no_map_is_overwritten_by_what_follows(photos):
    subject = subject_of("resnet18", 64, photos)
    image = torch.randn(2, 3, 64, 64)
    plain = backbones.build("resnet18", 3)
    plain.load_state_dict(subject.checkpoint.model)
    maps = {}
    for stage in ("layer1", "layer4"):
        plain.get_submodule(stage).register_forward_hook(
            lambda _m, _i, out, stage=stage: maps.update({stage: out.clone()})
        )

    with torch.no_grad():
        expected = plain.eval()(image)
        first, one, _, _, four, _, _, logits = subject.opened(image)

    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(one, maps["layer1"])
    torch.testing.assert_close(four, maps["layer4"])
    assert isinstance(plain.relu, nn.ReLU)
    assert first.min() == 0


def test_the_survey_says_what_every_unit_does_in_every_image_alone(photos):
    subject = subject_of("resnet18", 64, photos, most_images=11)
    found = subject.survey
    stage = [layer.name for layer in subject.layers].index("layer2")
    alone = []
    with torch.no_grad():
        for sample in found.samples:
            image = torch.from_numpy(preprocess(read_image(sample.path), subject.checkpoint.input))
            alone.append([output[0].numpy() for output in subject.opened(image[None])])
    maps = np.stack([outputs[stage] for outputs in alone])  # (N, C, h, w)
    record = found.units["layer2"]

    assert len(found.samples) == len(subject.surveyed) == 11
    np.testing.assert_allclose(found.embeddings, [outputs[-2] for outputs in alone], atol=1e-5)
    np.testing.assert_allclose(record.largest, maps.max((0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(record.mean, maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(record.active_share, (maps > 0).mean((0, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(record.map_shares, (maps > 0).mean((1, 2, 3)), atol=1e-3)
    assert record.strongest.shape == (128, STRONGEST)
    assert (np.diff(record.strongest, axis=1) <= 0).all()
    units = np.arange(128)[:, None]
    rows, columns = record.places[..., 0], record.places[..., 1]
    np.testing.assert_allclose(maps[record.images, units, rows, columns], record.strongest, rtol=1e-4, atol=1e-6)
    best = np.sort(maps.max((2, 3)), axis=0)[::-1][:STRONGEST].T
    np.testing.assert_allclose(record.strongest, best, rtol=1e-4, atol=1e-6)
