"""Owns: networks as lectures write them, and as their own text. Leaves to others: what was published, and the table."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from tiny_run import ALONE, command_line, random_batch, tiny_run, weights, write_photos
from torch import nn
from torch.nn import functional
from torchvision import models

from cnn_perception.errors import EXIT_OK, ConfigError
from training import checkpoint, export, inspect, train
from training.loop.step import Learner
from training.networks import backbones, build, initialisation

# ENGR 3321 and CS231n 2017, lecture 9: the board's lines, from the 227x227x3 input on
BOARD = """
[55x55x96] CONV1: 96 11x11 filters at stride 4, pad 0
[27x27x96] POOL1: 3x3 filters at stride 2
[27x27x96] NORM1
[27x27x256] CONV2: 256 5x5 filters at stride 1, pad 2
[13x13x256] POOL2: 3x3 filters at stride 2
[13x13x256] NORM2
[13x13x384] CONV3: 384 3x3 filters at stride 1, pad 1
[13x13x384] CONV4: 384 3x3 filters at stride 1, pad 1
[13x13x256] CONV5: 256 3x3 filters at stride 1, pad 1
[6x6x256] POOL3: 3x3 filters at stride 2
[4096] FC6
[4096] FC7
[1000] FC8
"""
STACK = "layers: conv 8 5x5 s2 p2, bn, maxout 2, l2pool 2x2, lrn, conv 8 3x3 p1, leaky, fc 12, tanh, dropout, fc"


def on_the_board(layer):
    *cells, channels = [*layer.output[1:], layer.output[0]]
    line = f"[{'x'.join(map(str, [*cells, channels]))}] {layer.name.upper()}"
    if layer.window is None:
        return line
    filters = f"{channels} " * (layer.kind == "conv")
    pad = f", pad {layer.window.before[0]}" * (layer.kind == "conv")
    kernel, stride = "x".join(map(str, layer.window.kernel)), layer.window.stride[0]
    return f"{line}: {filters}{kernel} filters at stride {stride}{pad}"


def test_alexnet_at_227_is_the_lectures_table_line_by_line():
    table = inspect.of_backbone("alexnet227", 1000, 227, 227)

    listed = [layer for layer in table if not layer.name.startswith(("relu", "drop", "flatten"))]
    assert [on_the_board(layer) for layer in listed] == BOARD.strip().splitlines()
    assert [layer.misfit for layer in table if layer.misfit] == []


def test_alexnet_begins_as_its_paper_says():
    with torch.device("cpu"):
        model = backbones.build("alexnet227", 2)

    biases = {name: module.bias[0].item() for name, module in model.named_modules() if hasattr(module, "bias")}
    assert {name for name, bias in biases.items() if bias == 1} == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert model.fc6.weight.std().item() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(("side", "padding"), [(224, 2), (227, 0), (115, 0), (96, 2)])
def test_alexnet_pads_where_its_first_layer_would_not_fit(side, padding):
    with torch.device("meta"):
        model = backbones.build("alexnet2012", 10, size=(side, side))

    assert model.features[0].padding == (padding, padding)
    assert ((side - 11) % 4 == 0) == (padding == 0)


def test_the_perceptron_has_a_weight_for_each_pixel():
    model = backbones.build("mlp", 10, size=(8, 8))

    assert sum(parameter.numel() for parameter in model.parameters()) == 64 * 30 + 30 + 30 * 10 + 10
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_layers_as_text_are_a_network_with_the_parts_that_others_have():
    torch.manual_seed(0)
    model = backbones.build(STACK, 3, size=(32, 40)).eval()
    image = torch.randn(2, 3, 32, 40)

    split = backbones.split(model, 32, 40)
    stages = backbones.stages(model, 32, 40)

    value = image
    for module in model:
        value = module(value)
    torch.testing.assert_close(split.head(split.body(image))[0], value)
    assert split.feature_shape == (8, 8, 10)
    assert split.classifier.out_features == 3
    assert sorted(stages.head + stages.last + stages.below) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("text", "outputs"),
    [("fc 30, sigmoid, fc", [30, 4]), ("fc 30, sigmoid, fc 10", [30, 4]), ("fc 30, sigmoid", [30, 4]), ("relu", [4])],
)
def test_the_last_layer_of_a_text_has_an_output_for_each_class(text, outputs):
    model = backbones.build(f"layers: {text}", 4, size=(8, 8))

    assert [module.out_features for module in model if isinstance(module, nn.Linear)] == outputs


def test_a_wrong_word_of_a_backbone_is_named():
    with pytest.raises(ConfigError, match="'rellu' in layer 2, 'rellu': is no layer; did you mean relu"):
        backbones.build("layers: conv 3 3x3, rellu", 4, size=(8, 8))


def test_a_text_is_trained_continued_and_exported_with_its_maps(tmp_path):
    data = write_photos(tmp_path / "data")
    words = command_line(data, tmp_path / "run", backbone=STACK, init="kaiming", optimizer="adam", lr=0.01, epochs=4)
    assert train.main([*words, "--adam-betas", "0.8,0.99", "--unknown", "none"]) == EXIT_OK
    assert train.main(["--output", str(tmp_path / "run"), "--resume", "--epochs", "5"]) == EXIT_OK

    assert export.main(["--checkpoint", str(tmp_path / "run/best.pt"), "--output", str(tmp_path / "a.onnx")]) == EXIT_OK

    saved = checkpoint.load(tmp_path / "run/best.pt")
    assert saved.config["adam_betas"] == [0.8, 0.99]
    outputs = {value.name for value in onnx.load(tmp_path / "a.onnx").graph.output}
    assert {"logits", "activation"} <= outputs


DRAWN = {
    # 64 inputs and 400 outputs: Glorot and Bengio's uniform bound, He's deviation
    "normal": (0.01, 1.0),
    "xavier": (np.sqrt(6 / (64 + 400)) / np.sqrt(3), 0.0),
    "kaiming": (np.sqrt(2 / 64), 0.0),
}


@pytest.mark.parametrize("init", DRAWN)
def test_weights_are_drawn_with_the_deviation_of_their_paper(init):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 400), nn.BatchNorm1d(400), nn.Conv2d(16, 100, 2))

    initialisation.draw(model, init)

    deviation, bias = DRAWN[init]
    assert model[0].weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert model[0].weight.mean().item() == pytest.approx(0, abs=0.05 * deviation)
    assert torch.equal(model[0].bias, torch.full((400,), bias))
    assert torch.equal(model[1].weight, torch.ones(400))
    if init == "kaiming":
        assert model[2].weight.std().item() == pytest.approx(np.sqrt(2 / (16 * 4)), rel=0.03)


def test_own_leaves_the_weights_and_standard_draws_biases_too():
    torch.manual_seed(0)
    layer = nn.Linear(300, 300)
    before = layer.weight.clone()

    initialisation.draw(layer, "own")
    assert torch.equal(layer.weight, before)
    initialisation.draw(layer, "standard")
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)
    assert layer.bias.std().item() == pytest.approx(1, rel=0.1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize("weight", [0.3, 0.0])
def test_googlenet_learns_by_its_own_loss_and_0_3_of_each_auxiliary_one(photos, tmp_path, weight):
    run = tiny_run(photos, tmp_path / "run", backbone="googlenet_v1", auxiliary_weight=weight, dropout=None)
    learner = Learner(run)
    learner.begin("all")
    images, classes = random_batch(4)
    for module in run.model.modules():
        module.p = 0.0  # dropout is drawn anew in each pass
    with torch.no_grad():
        found = run.model(images)
    outputs = found if isinstance(found, tuple) else (found,)

    result = learner.learn(images, classes, ALONE._replace(images=4, weight=4.0))

    losses = [functional.cross_entropy(logits, classes).item() for logits in outputs]
    assert len(losses) == (3 if weight else 1)
    assert result.loss == pytest.approx(losses[0] + weight * sum(losses[1:]), rel=1e-4)
    if weight:
        assert all(parameter.grad is not None for parameter in run.model.aux1.parameters())


def test_auxiliary_classifiers_are_in_the_checkpoint_to_go_on_from_and_in_no_network_made_of_it(photos, tmp_path):
    run = tiny_run(photos, tmp_path / "run", backbone="googlenet_v1")
    run.save(["best.pt"], {}, None)
    saved = checkpoint.load(run.folder / "best.pt")

    restored = build.restore(saved)

    assert any(name.startswith("aux1.") for name in weights(run.folder / "best.pt"))
    assert not any(name.startswith("aux") for name, _ in restored.named_parameters())
    published = 6_998_552 - (1024 + 1) * (1000 - 3)
    assert sum(parameter.numel() for parameter in restored.parameters()) == published
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(restored.eval()(image), run.model.eval()(image))


def test_auxiliary_classifiers_are_those_of_the_paper():
    model = backbones.build("googlenet_v1", 1000, auxiliary=True)

    # section 5: 128 filters of 1x1 on 4x4 cells, 1024 units, 70 % dropout; behind inception 4a (512) and 4d (528)
    for auxiliary, channels in ((model.aux1, 512), (model.aux2, 528)):
        count = sum(parameter.numel() for parameter in auxiliary.parameters())
        assert count == (channels * 128 + 128) + (2048 * 1024 + 1024) + (1024 * 1000 + 1000)
        assert auxiliary.dropout.p == 0.7
    plain = models.GoogLeNet(aux_logits=False, init_weights=False)
    assert {name for name, _ in model.named_children()} - {"aux1", "aux2"} == {n for n, _ in plain.named_children()}


def test_a_run_with_published_weights_or_its_own_head_has_no_auxiliary_classifiers(photos, tmp_path):
    config = tiny_run(photos, tmp_path / "run", backbone="googlenet_v1").config

    assert build.has_auxiliary(config)
    for changes in ({"grid": (1, 1)}, {"auxiliary_weight": 0.0}, {"backbone": "lenet5"}, {"mode": "probe"}):
        assert not build.has_auxiliary(dataclasses.replace(config, **changes))
