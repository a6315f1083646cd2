"""Owns: that the classic networks are what was published. Leaves to others: what is done with any network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paths import SHARED_DATA
from torch import nn
from torchvision import models

from cnn_perception.errors import ConfigError
from training.graphs.convolve import NotConvolutionalError, convolutional_head
from training.networks import backbones, classic

WEIGHTS = SHARED_DATA / "weights/resnet50_imagenet_keras_v1stride_fp16.safetensors"

# name -> classes, parameters: those of the papers, of their published models, or added up by hand from their tables
PARAMETERS = {
    "mlp": (10, 784 * 30 + 30 + 30 * 10 + 10),
    "lenet5": (10, 156 + 2416 + 48_120 + 10_164 + 850),
    "lenet_deeprob": (10, 1_256_080),
    "alexnet2012": (1000, 62_378_344),
    "alexnet227": (1000, 62_378_344),
    "zfnet": (1000, 62_378_344 - (11**2 - 7**2) * 3 * 96),
    # 512, 1024 and 512 filters instead of 384, 384 and 256, and the first linear layer behind them
    "zfnet_lecture": (
        1000,
        62_378_344
        - (11**2 - 7**2) * 3 * 96
        - (885_120 + 1_327_488 + 884_992 + 37_752_832)
        + (256 * 512 * 9 + 512)
        + (512 * 1024 * 9 + 1024)
        + (1024 * 512 * 9 + 512)
        + (512 * 36 * 4096 + 4096),
    ),
    "vgg_a": (1000, models.VGG11_Weights.DEFAULT.meta["num_params"]),
    "vgg_a_lrn": (1000, models.VGG11_Weights.DEFAULT.meta["num_params"]),
    "vgg_b": (1000, models.VGG13_Weights.DEFAULT.meta["num_params"]),
    "vgg_c": (1000, 138_357_544 - 8 * (256**2 + 2 * 512**2)),
    "vgg_d": (1000, 138_357_544),
    "vgg_e": (1000, models.VGG19_Weights.DEFAULT.meta["num_params"]),
    "googlenet_v1": (1000, 6_998_552),
    "resnet50_v1": (1000, models.ResNet50_Weights.DEFAULT.meta["num_params"]),
    "resnet101_v1": (1000, models.ResNet101_Weights.DEFAULT.meta["num_params"]),
    "resnet152_v1": (1000, models.ResNet152_Weights.DEFAULT.meta["num_params"]),
}
# name -> side of the image, shape of the features: the papers' figures
FEATURES = {
    "mlp": (28, (30,)),
    "lenet5": (32, (120, 1, 1)),
    "lenet_deeprob": (28, (50, 7, 7)),
    "alexnet2012": (224, (256, 6, 6)),
    "alexnet227": (227, (256, 6, 6)),
    "zfnet": (224, (256, 6, 6)),
    "zfnet_lecture": (224, (512, 6, 6)),
    "vgg_a_lrn": (224, (512, 7, 7)),
    "vgg_c": (224, (512, 7, 7)),
    "vgg_e": (224, (512, 7, 7)),
    "googlenet_v1": (224, (1024, 7, 7)),
    "resnet50_v1": (224, (2048, 7, 7)),
}


def on_paper(name, classes=1000):
    with torch.device("meta"):  # shapes without numbers: fast
        return backbones.build(name, classes)


def test_every_classic_network_is_tested_here():
    assert set(PARAMETERS) == set(classic.NAMES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_the_published_number_of_parameters(name):
    classes, published = PARAMETERS[name]

    assert sum(parameter.numel() for parameter in on_paper(name, classes).parameters()) == published


@pytest.mark.parametrize("name", FEATURES)
def test_a_network_is_cut_and_staged_like_torchvisions(name):
    side, features = FEATURES[name]
    model = on_paper(name, 3)

    split = backbones.split(model, side, side)
    stages = backbones.stages(model, side, side)

    assert split.feature_shape == features
    assert split.classifier.out_features == 3
    assert stages.last
    assert sorted(stages.head + stages.last + stages.below) == sorted(key for key, _ in model.named_parameters())
    assert split.classifier_name + ".weight" in stages.head


@pytest.mark.parametrize(("name", "own"), [("mlp", 28), ("lenet5", 32), ("lenet5", 45)])
def test_networks_for_grey_images_read_the_mean_of_the_colours(name, own):
    torch.manual_seed(0)
    model, image = backbones.build(name, 10).eval(), torch.randn(2, 3, own, own)

    torch.testing.assert_close(model(image), model(image.mean(1, keepdim=True)))


@pytest.mark.parametrize(
    ("name", "cells"), [("alexnet2012", [55, 27, 27, 13, 13, 13, 13, 6]), ("zfnet", [110, 55, 26, 13, 13, 13, 13, 6])]
)
def test_the_maps_have_the_published_sizes(name, cells):
    features = on_paper(name).features.to_empty(device="meta")
    image, found = torch.zeros(1, 3, 224, 224, device="meta"), []
    for layer in features:
        image = layer(image)
        found += [image.shape[-1]] if isinstance(layer, nn.Conv2d | nn.MaxPool2d) else []

    assert found == cells


def test_local_response_normalisation_is_the_formula_of_the_paper():
    values = torch.randn(1, 7, 1, 1, generator=torch.Generator().manual_seed(0)) * 30
    layer = next(m for m in on_paper("alexnet2012").modules() if isinstance(m, nn.LocalResponseNorm))

    a = values.flatten().numpy().astype(np.float64)  # section 3.3: k = 2, n = 5, alpha = 1e-4, beta = 0.75
    expected = [a[i] / (2 + 1e-4 * (a[max(0, i - 2) : i + 3] ** 2).sum()) ** 0.75 for i in range(7)]

    np.testing.assert_allclose(layer(values).flatten().numpy(), expected, rtol=1e-5)


def test_the_squashing_function_of_lenet_keeps_one():
    torch.testing.assert_close(
        classic.ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([-1.0, 0, 1]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("classic_name", "name"),
    [
        ("vgg_a", "vgg11"),
        ("vgg_a_lrn", "vgg11"),
        ("vgg_b", "vgg13"),
        ("vgg_d", "vgg16"),
        ("vgg_e", "vgg19"),
        ("resnet50_v1", "resnet50"),
    ],
)
def test_weights_of_torchvision_fit_where_the_network_is_the_same(classic_name, name):
    own, theirs = (on_paper(key).state_dict() for key in (classic_name, name))

    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in theirs.items()}


def test_googlenet_differs_from_torchvisions_in_5x5_and_normalisation_only():
    own, theirs = on_paper("googlenet_v1"), models.googlenet(weights=None, aux_logits=False, init_weights=False)
    kernels = dict(theirs.named_parameters())

    for name, parameter in own.named_parameters():
        if name.endswith("conv.weight"):
            widened = (5, 5) if "branch3.1" in name else kernels[name].shape[2:]
            assert parameter.shape == (*kernels[name].shape[:2], *widened)


@pytest.mark.parametrize("name", ["resnet50_v1", "resnet101_v1"])
def test_a_residual_network_v1_reads_every_other_pixel_of_the_block_before(name):
    torch.manual_seed(0)
    model = backbones.build(name, 3).eval()
    for stage, channels in ((model.layer2, 256), (model.layer3, 512), (model.layer4, 1024)):
        block, image = stage[0], torch.randn(1, channels, 6, 8)
        with torch.no_grad():
            strided = block(image)
            for layer in block.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
            torch.testing.assert_close(strided, block(image[:, :, ::2, ::2]))


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the shared ResNet-50 weights are not here")
def test_the_shared_resnet50_weights_are_a_resnet_v1_of_their_epsilon():
    model = backbones.build("resnet50_v1", 1000)

    assert backbones.load_weights(model, "resnet50_v1", str(WEIGHTS)).origin.startswith(WEIGHTS.name)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1.001e-5}


@pytest.mark.parametrize("name", ["alexnet", "alexnet2012"])
def test_linear_layers_as_convolutions_give_the_same_logits_and_a_map_on_a_larger_image(name):
    torch.manual_seed(0)
    model = backbones.build(name, 5).eval()
    image = torch.randn(1, 3, 224, 224 + 64)

    head = convolutional_head(backbones.split(model, 224, 224))

    with torch.no_grad():
        torch.testing.assert_close(head(model.features(image[..., :224]))[:, :, 0, 0], model(image[..., :224]))
        features = model.features(image)
        found = head(features)
        assert found.shape == (1, 5, 1, 3)
        # a cell of the map is the classifier's answer to its 6x6 cells of the features
        for cell in range(3):
            expected = model.classifier(features[..., cell : cell + 6].flatten(1))
            torch.testing.assert_close(found[:, :, 0, cell], expected)


def test_a_network_that_pools_its_cells_unevenly_is_refused():
    with pytest.raises(NotConvolutionalError, match="pools 3x5 to 6x6 cells, which is no sliding mean"):
        convolutional_head(backbones.split(on_paper("alexnet2012", 3), 127, 191))


def test_a_network_without_spatial_features_is_refused():
    with pytest.raises(NotConvolutionalError, match="no spatial features"):
        convolutional_head(backbones.split(on_paper("mlp", 3), 28, 28))


def test_published_weights_are_refused_where_torchvision_has_none():
    with pytest.raises(ConfigError, match="torchvision publishes no weights for lenet5; give a path or none"):
        backbones.load_weights(on_paper("lenet5"), "lenet5", "imagenet")
