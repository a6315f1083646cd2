"""The networks that made the field, as published, for `backbones.build`; torchvision has their successors.

Each ends in logits. What differs from its paper is said where it is built. Parts and parameters are named as
torchvision names them (features, avgpool, classifier; conv1, layer1, ..., fc), so its weights fit where it has the
same network: VGG A, B, D and E are its vgg11, 13, 16 and 19, and a ResNet v1 takes the weights of its ResNet.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]
from torchvision.models.googlenet import Inception, InceptionAux  # type: ignore[import-untyped]
from torchvision.models.resnet import Bottleneck  # type: ignore[import-untyped]

from training.networks import layer_text
from training.networks.layer_kinds import Grey, ScaledTanh, response_normalisation

__all__ = ["NAMES", "TEXTS", "build", "published_size"]

Size = tuple[int, int]
"""Rows and columns of an image, pixels."""

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


_ALEXNET = (
    "conv1: conv 96 11x11 s4, relu1: relu, pool1: pool 3x3 s2, norm1: lrn, "
    "conv2: conv 256 5x5 p2, relu2: relu, pool2: pool 3x3 s2, norm2: lrn, "
    "conv3: conv 384 3x3 p1, relu3: relu, conv4: conv 384 3x3 p1, relu4: relu, conv5: conv 256 3x3 p1, relu5: relu, "
    "pool3: pool 3x3 s2, fc6: fc 4096, relu6: relu, drop6: dropout, fc7: fc 4096, relu7: relu, drop7: dropout, fc8: fc"
)
_LENET = (
    "grey: grey, conv1: conv 20 5x5 p2, relu1: relu, pool1: pool 2x2, conv2: conv 50 5x5 p2, relu2: relu, "
    "pool2: pool 2x2, fc3: fc 500, relu3: relu, fc4: fc"
)
TEXTS: dict[str, str] = {"alexnet227": _ALEXNET, "lenet_deeprob": _LENET}
"""Networks as lectures write them on the board, a layer a line, see `layer_text`.

alexnet227: pooling before normalisation, and 227 pixels, of which the first layer makes 55x55 cells without padding;
the paper has them the other way round, and 224. Source: ENGR 3321, and CS231n 2017, lecture 9.
lenet_deeprob: of 28x28 grey pixels, 1,256,080 parameters for 10 classes. Source: DeepRob, lecture on convolutional
networks, after Caffe's LeNet; in LeCun et al. 1998 it is `lenet5`.
"""
_SIZES: dict[str, Size] = {"mlp": (28, 28), "lenet5": (32, 32), "alexnet227": (227, 227), "lenet_deeprob": (28, 28)}
_USUAL_SIZE = (224, 224)


def published_size(name: str) -> Size:
    """Returns the size of the images that a network was published for; 224x224 of all but some classic ones."""
    return _SIZES.get(name, _USUAL_SIZE)


def build(name: str, class_count: int, size: Size | None = None, *, auxiliary: bool = False) -> nn.Module:
    """Builds a classic network with random weights.

    Args:
        name: One of `NAMES`.
        class_count: Width of the last layer, at least 2.
        size: Of the images; the published one by default. `mlp` has a weight for each pixel, and `alexnet2012` pads its
            image where its first layer would not fit else; the others are the same for any.
        auxiliary: Whether a network has the auxiliary classifiers that it was published with.
    """
    size = size or published_size(name)
    if name in TEXTS:
        model: nn.Module = layer_text.network(TEXTS[name], class_count, published_size(name))
        if name == "alexnet227":
            _draw_as_published(model, ("conv2", "conv4", "conv5", "fc6", "fc7"))
        return model
    if name in _SIZED:
        return _SIZED[name](class_count, size)
    return googlenet_v1(class_count, auxiliary) if name == "googlenet_v1" else _BUILDERS[name](class_count)


class Mlp(nn.Module):
    """The multi-layer perceptron [784, 30, K] on 28x28 pixels: 23,860 parameters for 10 classes.

    Of images of another size its first number is theirs.

    The published network puts a sigmoid on its outputs, too, and learns by the squared error of them; here the outputs
    are what goes into that sigmoid, so that any loss and any temperature can be applied to them.

    Source: M. Nielsen, Neural Networks and Deep Learning, 2015, chapter 1.
    """

    def __init__(self, class_count: int, size: Size) -> None:
        super().__init__()
        self.grey = Grey()
        self.hidden = nn.Linear(size[0] * size[1], 30)
        self.sigmoid = nn.Sigmoid()
        self.fc = nn.Linear(30, class_count)

    def forward(self, image: Tensor) -> Tensor:
        """Returns logits (N, K) of an image (N, 3 or 1, rows, columns)."""
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


def alexnet2012(class_count: int, size: Size) -> nn.Module:
    """AlexNet on 224x224 or 227x227 pixels: 62,378,344 parameters for 1000 classes.

    In one piece: the paper halves the inputs of conv2, conv4 and conv5 to split the network over two GPUs, which leaves
    60,965,224. The paper's 224 pixels make its 55x55 cells with two pixels of padding; one row and column of it
    stays unread. The 227 pixels of Caffe's copy and of lectures make them without, as do all sides of which the first
    layer's steps of 4 fit. torchvision's `alexnet` is the narrower one of 2014, without local response normalisation.

    Source: Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural Networks, 2012,
    sections 3.5 and 5.
    """
    pool = functools.partial(nn.MaxPool2d, 3, stride=2)
    padding = tuple(0 if (side - 11) % 4 == 0 else 2 for side in size)
    conv1, conv2 = nn.Conv2d(3, 96, 11, stride=4, padding=padding), nn.Conv2d(96, 256, 5, padding=2)  # type: ignore[arg-type]
    first = [conv1, nn.ReLU(), response_normalisation(), pool(), conv2, nn.ReLU(), response_normalisation(), pool()]
    model = PooledClassifier(nn.Sequential(*first, *_thirteen()), 6, _classifier(256 * 6 * 6, class_count))
    # conv2, conv4, conv5 and the fully connected ones but for the last
    _draw_as_published(model, ("features.4", "features.10", "features.12", "classifier.1", "classifier.4"))
    return model


def zfnet(class_count: int, widths: Sequence[int] = (384, 384, 256)) -> nn.Module:
    """ZFNet on 224x224 pixels, the AlexNet with a finer first layer: 62,357,608 parameters for 1000 classes.

    Lectures often give its last convolutions 512, 1024 and 512 filters (CS231n 2017, lecture 9), of which the paper
    speaks in section 4.3, on other ones of its networks: `zfnet_lecture`. The paper's cells (110, 55, 26, 13, 6) tell
    the padding, which it does not state.

    Source: Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013, figure 3 and section 3.
    """
    pool = functools.partial(nn.MaxPool2d, 3, stride=2, padding=1)
    conv1, conv2 = nn.Conv2d(3, 96, 7, stride=2, padding=1), nn.Conv2d(96, 256, 5, stride=2)
    first = [conv1, nn.ReLU(), pool(), response_normalisation(), conv2, nn.ReLU(), pool(), response_normalisation()]
    features = nn.Sequential(*first, *_thirteen(widths))
    model = PooledClassifier(features, 6, _classifier(widths[-1] * 6 * 6, class_count))
    _draw_normal(model)
    return model


def _thirteen(widths: Sequence[int] = (384, 384, 256)) -> list[nn.Module]:
    """Returns conv3 to conv5 of AlexNet and ZFNet, on 13x13 cells, and the last pooling."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((256, *widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return [*layers, nn.MaxPool2d(3, stride=2)]


def _classifier(inputs: int, class_count: int) -> nn.Sequential:
    hidden = [nn.Dropout(), nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(4096, class_count))


def _draw_as_published(model: nn.Module, biased: Sequence[str]) -> None:
    """Draws the weights of an AlexNet as its paper does, section 5: the biases of some layers are 1."""
    _draw_normal(model)
    for name in biased:
        nn.init.ones_(model.get_submodule(name).bias)  # type: ignore[arg-type]


def _draw_normal(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            assert module.bias is not None
            nn.init.zeros_(module.bias)


def _vgg(blocks: Sequence[str], class_count: int, *, normalised: bool = False) -> nn.Module:
    """Returns a VGG of 1x1 and 3x3 convolutions; A-LRN normalises behind the first, as AlexNet does.

    Source: Simonyan and Zisserman 2015, table 1 and section 2.1.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width, kernels in zip(_VGG_WIDTHS, blocks, strict=True):
        for kernel in map(int, kernels):
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    if normalised:
        layers[1] = nn.Sequential(layers[1], response_normalisation())  # in one, so that the others keep their names
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


def googlenet_v1(class_count: int, auxiliary: bool = False) -> nn.Module:
    """GoogLeNet on 224x224 pixels: 6,998,552 parameters for 1000 classes.

    While it learns it may have two auxiliary classifiers, whose outputs it then gives beside its own.

    As published: 5x5 convolutions, biases, local response normalisation. torchvision's `googlenet` is its successor of
    6,624,904 parameters, with batch normalisation and 3x3 in place of 5x5.

    Source: Szegedy et al., Going Deeper with Convolutions, 2015, table 1; initialisation: its Caffe model.
    """
    blocks = [_PlainConvolution, _Inception, functools.partial(InceptionAux, conv_block=_PlainConvolution)]
    model: nn.Module = models.GoogLeNet(
        class_count, aux_logits=auxiliary, init_weights=False, blocks=blocks, dropout=0.4
    )
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


_SIZED: dict[str, Callable[[int, Size], nn.Module]] = {"mlp": Mlp, "alexnet2012": alexnet2012}
_BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "lenet5": lenet5,
    "zfnet": zfnet,
    "zfnet_lecture": functools.partial(zfnet, widths=(512, 1024, 512)),
    "vgg_a_lrn": functools.partial(_vgg, _VGG["vgg_a"], normalised=True),
    **{name: functools.partial(_vgg, blocks) for name, blocks in _VGG.items()},
    "googlenet_v1": googlenet_v1,
    # The blocks of ResNet-18 and -34 have always strided in their first layer.
    **{f"{name}_v1": functools.partial(_resnet_v1, name) for name in ("resnet50", "resnet101", "resnet152")},
}
NAMES = (*_SIZED, *_BUILDERS, *TEXTS)
