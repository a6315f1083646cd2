"""Owns: the head that keeps where things are. Leaves to others: how it is trained and exported (test_tasks)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnn_perception.errors import ConfigError
from training.graphs.activation_map import ActivatedClassifier
from training.networks import backbones
from training.networks.grid_head import with_grid_head


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_the_head_sees_the_means_of_a_grid_of_cells_of_an_inner_layer():
    torch.manual_seed(0)
    model = backbones.build("resnet18", 5).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        below = model.layer2(model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(image))))))

    network = with_grid_head(model, 3, layer="layer2", cells=(2, 5), size=(64, 96)).eval()

    means = functional.adaptive_avg_pool2d(below, (2, 5)).flatten(1)  # channel by channel, row by row
    last = network.get_submodule("head.fc")
    assert (last.in_features, last.out_features) == (128 * 2 * 5, 3)
    torch.testing.assert_close(network(image), functional.linear(means, last.weight, last.bias))
    assert {name.split(".")[0] for name in network.state_dict()} == {"conv1", "bn1", "layer1", "layer2", "head"}


@pytest.mark.parametrize(
    ("name", "layer", "channels", "last"),
    [
        ("resnet18", "layer3", 256, "layer3."),
        ("efficientnet_b0", "features.5", 112, "features.4."),  # 4 and 5 work at one resolution
        ("convnext_tiny", None, 768, "features.6."),
        ("squeezenet1_1", None, 512, "features."),
    ],
)
def test_it_is_cut_and_frozen_as_any_network(name, layer, channels, last):
    network = with_grid_head(backbones.build(name, 5), 2, layer=layer, cells=(3, 4), size=(64, 96), dropout=0.5)

    split, stages = backbones.split(network, 64, 96), backbones.stages(network, 64, 96)

    assert isinstance(split.classifier, nn.Linear)
    assert (split.classifier_name, split.spatial) == ("head.fc", True)
    assert split.feature_shape[0] == channels
    assert stages.head == ("head.fc.weight", "head.fc.bias")
    assert stages.last[0].startswith(last)
    assert stages.below


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("resnet18", "layer9", "name one of conv1, bn1"),
        ("swin_t", "features.3", "not channels, rows, columns"),
        ("vit_b_32", None, "not channels, rows, columns"),
    ],
)
def test_a_layer_without_a_grid_is_refused(name, layer, message):
    with pytest.raises(ConfigError, match=message):
        with_grid_head(backbones.build(name, 5), 2, layer=layer, cells=(3, 4), size=(224, 224))


@pytest.mark.parametrize(("task", "shown"), [("multilabel", 2), ("regression", 0)])
def test_its_activation_map_explains_the_highest_class_or_the_first_number(task, shown):
    torch.manual_seed(0)
    network = with_grid_head(backbones.build("resnet18", 5), 3, layer="layer2", cells=(2, 5), size=(64, 96)).eval()
    torch.nn.init.constant_(network.get_submodule("head.fc").bias[2], 5.0)
    split, image = backbones.split(network, 64, 96), torch.randn(2, 3, 64, 96)

    logits, embedding, activation, features = ActivatedClassifier(split, task)(image)

    entering = features.detach().requires_grad_(True)
    last = network.get_submodule("head.fc")
    means = functional.adaptive_avg_pool2d(entering, (2, 5)).flatten(1)
    (gradient,) = torch.autograd.grad((means @ last.weight.T)[:, shown].sum(), entering)
    torch.testing.assert_close(logits, network(image))
    torch.testing.assert_close(embedding, means)
    # Selvaraju et al. 2017, equations 1 and 2, without the clipping
    torch.testing.assert_close(activation, (gradient.mean((2, 3), keepdim=True) * features).sum(1))
