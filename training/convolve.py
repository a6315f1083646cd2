"""Fully connected layers as convolutions: a classifier that reads larger images as a map of scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnn_perception.errors import ConfigError


class ScoreMap(nn.Module):
    """Image (N, 3, H, W) -> logits (N, K, rows, columns), one cell for each place the classifier could be put at.

    Cells lie a stride of the features apart; at the size that the classifier was made for there is a single one, its
    own logits. All other cells share their convolutions, padding at the image's border included.

    Source: Sermanet et al., OverFeat, 2014, section 3.5.
    """

    def __init__(self, features: nn.Module, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        """Returns the map of logits (N, K, rows, columns)."""
        logits: Tensor = self.classifier(self.features(image))
        return logits


def convolutional(model: nn.Module) -> ScoreMap:
    """Turns a classifier of features, pooling to a fixed grid and linear layers into convolutions throughout.

    Args:
        model: An AlexNet, ZFNet, LeNet-5 or VGG of `backbones.build`, without dropout behind its pooling. The pooling
            is left out: it must change nothing at the size that the model was made for.

    Returns:
        A copy of the linear layers, with the weights of the model; the features are the model's own.

    Raises:
        ConfigError: If the network is built otherwise.
    """
    parts = dict(model.named_children())
    features, pool, linear = parts.get("features"), parts.get("avgpool"), parts.get("classifier")
    if features is None or not isinstance(pool, nn.AdaptiveAvgPool2d) or not isinstance(linear, nn.Sequential):
        raise ConfigError(f"{type(model).__name__} has no linear layers on a grid of features; take a VGG or AlexNet")
    rows, columns = pool.output_size if isinstance(pool.output_size, tuple) else (pool.output_size,) * 2
    assert rows is not None  # of torchvision's and the classics, none keeps an axis as it is
    assert columns is not None
    layers: list[nn.Module] = []
    kernel = (rows, columns)
    for layer in linear:
        if isinstance(layer, nn.Linear):
            layers.append(_convolution(layer, kernel))
            kernel = (1, 1)
        elif isinstance(layer, nn.ReLU):
            layers.append(nn.ReLU())  # not in place: it is a copy
        else:
            layers.append(layer)
    return ScoreMap(features, nn.Sequential(*layers))


def _convolution(layer: nn.Linear, kernel: tuple[int, int]) -> nn.Conv2d:
    channels = layer.in_features // (kernel[0] * kernel[1])
    result = nn.Conv2d(channels, layer.out_features, kernel, bias=layer.bias is not None)
    with torch.no_grad():
        result.weight.copy_(layer.weight.view_as(result.weight))
        if result.bias is not None:
            result.bias.copy_(layer.bias)
    return result
