"""Owns: the average of the weights, its arithmetic and what a checkpoint keeps of it. Leaves to others: training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from training.loop.ema import WeightAverage
from training.networks.backbones import build
from training.networks.grid_head import with_grid_head


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def stepped(model, count):
    """The model after each of some steps, which change weights, statistics and the count of batches."""
    for step in range(count):
        model.train()(torch.randn(2, 3, 5, 5))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * (step + 1))
        yield model


def floats(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def made():
    model = network()
    model(torch.zeros(1, 3, 5, 5))
    return model


@pytest.mark.parametrize("decay", [0.9, 0.2])
def test_the_average_is_that_of_tensorflow_whose_first_steps_keep_less(decay):
    model = made()
    average, expected = WeightAverage(model, decay), {name: t.double() for name, t in floats(model).items()}

    for step, now in enumerate(stepped(model, 30), 1):
        average.update(now)
        keep = min(decay, (1 + step) / (10 + step))
        for name, tensor in floats(now).items():
            expected[name] = keep * expected[name] + (1 - keep) * tensor.double()

    saved = average.state()
    assert saved["steps"] == 30
    assert saved["tensors"].keys() == expected.keys()
    assert "1.running_var" in expected
    for name, tensor in saved["tensors"].items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-4, atol=1e-5)


def test_the_network_has_the_average_for_a_while_and_its_own_count_of_batches():
    model = made()
    average = WeightAverage(model, 0.5)
    for now in stepped(model, 3):
        average.update(now)
    own, count = floats(model), model[1].num_batches_tracked.item()

    with average.in_place_of(model):
        inside = floats(model)
        assert model[1].num_batches_tracked.item() == count

    assert all(torch.equal(inside[name], tensor) for name, tensor in average.state()["tensors"].items())
    assert not torch.equal(inside["0.weight"], own["0.weight"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in floats(model).items())


def test_a_checkpoint_keeps_steps_and_tensors_from_which_the_average_goes_on():
    """What checkpoints before `AveragedModel` keep, written out by hand."""
    model = made()
    start = {name: torch.full_like(tensor, 2.0) for name, tensor in floats(model).items()}
    average = WeightAverage(copy.deepcopy(model), 0.999)

    average.restore({"steps": 5, "tensors": start})
    assert average.state()["steps"] == 5
    average.update(model)

    keep = (1 + 6) / (10 + 6)
    for name, tensor in average.state()["tensors"].items():
        torch.testing.assert_close(tensor, keep * start[name] + (1 - keep) * floats(model)[name])
    assert average.state()["steps"] == 6


def test_networks_that_were_cut_and_given_another_head_can_be_averaged():
    model = with_grid_head(build("resnet18", 3), 3, layer="layer2", cells=(1, 4), size=(32, 40), dropout=None)
    average = WeightAverage(model, 0.9)

    average.update(model)

    with average.in_place_of(model):
        assert torch.isfinite(model.eval()(torch.zeros(1, 3, 32, 40))).all()
