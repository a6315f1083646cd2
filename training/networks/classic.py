"""The networks that made the field, as published, for `backbones.build`; torchvision has their successors.

Each ends in logits. What differs from its paper is said where it is built. Parts and parameters are named as
torchvision names them (features, avgpool, classifier; conv1, layer1, ..., fc), so its weights fit where it has the
same network: VGG A, B, D and E are its vgg11, 13, 16 and 19, and a ResNet v1 takes the weights of its ResNet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]
from torchvision.models.googlenet import Inception  # type: ignore[import-untyped]
from torchvision.models.resnet import Bottleneck  # type: ignore[import-untyped]

__all__ = ["NAMES", "build"]

_VGG: dict[str, tuple[str, str, str, str, str]] = {
    "vgg_a": ("3", "3", "33", "33", "33"),
    "vgg_b": ("33", "33", "33", "33", "33"),
    "vgg_c": ("33", "33", "331", "331", "331"),
    "vgg_d": ("33", "33", "333", "333", "333"),
    "vgg_e": ("33", "33", "3333", "3333", "3333"),
}
"""Kernels of the convolutions of each block. Source: Simonyan and Zisserman 2015, table 1."""
_VGG_WIDTHS = (64, 128, 256, 512, 512)
_KERAS_EPSILON = 1.001e-5
"""Of all batch normalisations of a ResNet v1. Source: keras.applications.resnet, whose weights have these strides."""


def build(name: str, class_count: int) -> nn.Module:
    """Builds a classic network with random weights.

    Args:
        name: One of `NAMES`.
        class_count: Width of the last layer, at least 2.
    """
    return _BUILDERS[name](class_count)


class Mlp(nn.Module):
    """The multi-layer perceptron [784, 30, K] on 28x28 pixels: 23,860 parameters for 10 classes.

    The published network puts a sigmoid on its outputs, too, and learns by the squared error of them; here the outputs
    are what goes into that sigmoid, so that any loss and any temperature can be applied to them.

    Source: M. Nielsen, Neural Networks and Deep Learning, 2015, chapter 1.
    """

    def __init__(self, class_count: int) -> None:
        super().__init__()
        self.grey = Grey()
        self.hidden = nn.Linear(28 * 28, 30)
        self.sigmoid = nn.Sigmoid()
        self.fc = nn.Linear(30, class_count)

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits (N, K) of an image (N, 3 or 1, 28, 28)."""
        logits: Tensor = self.fc(self.sigmoid(self.hidden(torch.flatten(self.grey(image), 1))))
        return logits


class PooledClassifier(nn.Module):
    """Features, brought to a fixed number of cells, then a classifier on all of them: any image size will do.

    At the published size the pooling changes nothing.
    """

    def __init__(self, features: nn.Sequential, cells: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(cells)
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits (N, K) of an image (N, C, H, W)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(image)), 1))
        return logits


class Grey(nn.Module):
    """The mean of the colours: networks for grey images keep their published size, and take images of any channels."""

    def forward(self, image: Tensor) -> Tensor:
        """Turns an image (N, C, H, W) into (N, 1, H, W)."""
        return image.mean(1, keepdim=True)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 x), which is +-1 at +-1. Source: LeCun et al. 1998, appendix A."""

    def forward(self, values: Tensor) -> Tensor:
        """Squashes each value into +-1.7159."""
        return 1.7159 * torch.tanh(values * (2 / 3))


def lenet5(class_count: int) -> nn.Module:
    """LeNet-5 on 32x32 pixels: 61,706 parameters for 10 classes.

    As in most textbooks, each map of C3 sees all six of S2 (the paper's table of connections spares 900 weights),
    subsampling is a plain average (in the paper with a coefficient and a bias a map) behind the squashing function, and
    the output is linear (in the paper distances to drawn digits). Larger images give C5 several cells, which are
    averaged.

    Source: LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, 1998, section II.B.
    """
    c1, c3, c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
    features = nn.Sequential(
        Grey(), c1, ScaledTanh(), nn.AvgPool2d(2), c3, ScaledTanh(), nn.AvgPool2d(2), c5, ScaledTanh()
    )
    return PooledClassifier(features, 1, nn.Sequential(nn.Linear(120, 84), ScaledTanh(), nn.Linear(84, class_count)))


def alexnet2012(class_count: int) -> nn.Module:
    """AlexNet on 224x224 pixels: 62,378,344 parameters for 1000 classes.

    In one piece: the paper halves the inputs of conv2, conv4 and conv5 to split the network over two GPUs, which leaves
    60,965,224. The paper's 224 pixels make its 55x55 cells with two pixels of padding; one row and column of it
    stays unread. torchvision's `alexnet` is the narrower one of 2014, without local response normalisation.

    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012,
    sections 3.5 and 5.
    """
    pool = functools.partial(nn.MaxPool2d, 3, stride=2)
    conv1, conv2 = nn.Conv2d(3, 96, 11, stride=4, padding=2), nn.Conv2d(96, 256, 5, padding=2)
    first = [conv1, nn.ReLU(), _normalisation(), pool(), conv2, nn.ReLU(), _normalisation(), pool()]
    model = PooledClassifier(nn.Sequential(*first, *_thirteen()), 6, _classifier(256 * 6 * 6, class_count))
    _draw_normal(model)
    for index in (4, 10, 12):  # conv2, conv4, conv5
        nn.init.ones_(model.features[index].bias)  # type: ignore[arg-type]
    for index in (1, 4):
        nn.init.ones_(model.classifier[index].bias)  # type: ignore[arg-type]
    return model


def zfnet(class_count: int) -> nn.Module:
    """ZFNet on 224x224 pixels, the AlexNet with a finer first layer: 62,357,608 parameters for 1000 classes.

    The paper's cells (110, 55, 26, 13, 6) tell the padding, which it does not state.

    Source: Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, figure 3 and section 3.
    """
    pool = functools.partial(nn.MaxPool2d, 3, stride=2, padding=1)
    conv1, conv2 = nn.Conv2d(3, 96, 7, stride=2, padding=1), nn.Conv2d(96, 256, 5, stride=2)
    first = [conv1, nn.ReLU(), pool(), _normalisation(), conv2, nn.ReLU(), pool(), _normalisation()]
    model = PooledClassifier(nn.Sequential(*first, *_thirteen()), 6, _classifier(256 * 6 * 6, class_count))
    _draw_normal(model)
    return model


def _thirteen() -> list[nn.Module]:
    """Returns conv3 to conv5 of AlexNet and ZFNet, on 13x13 cells, and the last pooling."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((256, 384), (384, 384), (384, 256)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return [*layers, nn.MaxPool2d(3, stride=2)]


def _classifier(inputs: int, class_count: int) -> nn.Sequential:
    hidden = [nn.Dropout(), nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(4096, class_count))


def _normalisation() -> nn.Module:
    """Returns the local response normalisation of AlexNet; torch divides alpha by the size, the paper does not."""
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def _draw_normal(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _vgg(blocks: Sequence[str], class_count: int) -> nn.Module:
    """Returns a VGG of 1x1 and 3x3 convolutions. Source: Simonyan and Zisserman 2015, table 1."""
    layers: list[nn.Module] = []
    channels = 3
    for width, kernels in zip(_VGG_WIDTHS, blocks, strict=True):
        for kernel in map(int, kernels):
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    model: nn.Module = models.VGG(nn.Sequential(*layers), num_classes=class_count)
    return model


class _PlainConvolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, **options: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, **options)  # type: ignore[arg-type]
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        activated: Tensor = self.relu(self.conv(features))
        return activated


class _Inception(Inception):  # type: ignore[misc]
    def __init__(self, *widths: int) -> None:
        super().__init__(*widths, conv_block=_PlainConvolution)
        *_, before, after, _ = widths
        self.branch3[1] = _PlainConvolution(before, after, kernel_size=5, padding=2)


def googlenet_v1(class_count: int) -> nn.Module:
    """GoogLeNet on 224x224 pixels, without its auxiliary classifiers: 6,998,552 parameters for 1000 classes.

    As published: 5x5 convolutions, biases, local response normalisation. torchvision's `googlenet` is its successor of
    6,624,904 parameters, with batch normalisation and 3x3 in place of 5x5.

    Source: Szegedy et al., Going Deeper with Convolutions, 2015, table 1; initialisation: its Caffe model.
    """
    blocks = [_PlainConvolution, _Inception, nn.Module]  # the last would be an auxiliary classifier
    model: nn.Module = models.GoogLeNet(class_count, aux_logits=False, init_weights=False, blocks=blocks, dropout=0.4)
    first, second = model.get_submodule("maxpool1"), model.get_submodule("maxpool2")
    model.maxpool1 = nn.Sequential(first, _googlenet_normalisation())
    model.maxpool2 = nn.Sequential(_googlenet_normalisation(), second)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.constant_(module.bias, 0.2 if isinstance(module, nn.Conv2d) else 0.0)  # type: ignore[arg-type]
    return model


def _googlenet_normalisation() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)


def _resnet_v1(name: str, class_count: int) -> nn.Module:
    """Returns a ResNet that strides in the first 1x1 layer of a block; torchvision's stride in the 3x3 layer ("v1.5").

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, table 1 and its Caffe models.
    """
    norm_layer = functools.partial(nn.BatchNorm2d, eps=_KERAS_EPSILON)
    model: nn.Module = models.get_model(name, weights=None, num_classes=class_count, norm_layer=norm_layer)
    for block in model.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return model


_BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": Mlp,
    "lenet5": lenet5,
    "alexnet2012": alexnet2012,
    "zfnet": zfnet,
    **{name: functools.partial(_vgg, blocks) for name, blocks in _VGG.items()},
    "googlenet_v1": googlenet_v1,
    # The blocks of ResNet-18 and -34 have always strided in their first layer.
    **{f"{name}_v1": functools.partial(_resnet_v1, name) for name in ("resnet50", "resnet101", "resnet152")},
}
NAMES = tuple(_BUILDERS)
