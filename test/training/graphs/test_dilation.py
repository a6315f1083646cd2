"""Owns: a score map of a finer stride by dilation: what its cells are, and that nothing else changes.

Leaves to others: the map as it is by itself (test_score_map_graph), the map on the robot (test_score_map).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import checkpoint_of
from torch import nn

from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.subgraph import subgraph
from training import export
from training.graphs import score_map, trace
from training.graphs.convolve import NotConvolutionalError
from training.graphs.dilation import dilated
from training.graphs.quantise import to_int8
from training.networks import backbones

CPU = SessionOptions(providers=("CPUExecutionProvider",))


class Unpadded(nn.Module):
    """Strides of 2 by a convolution, a maximum and a mean, without padding: cells are exactly answers to crops."""

    def __init__(self, pooled):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2)
        self.largest = nn.MaxPool2d(2, stride=2)
        self.second = nn.Conv2d(6, 7, 3, groups=1)
        self.mean = nn.AvgPool2d(2, stride=2)
        self.third = nn.Conv2d(7, 8, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.fc = nn.Linear(8 * pooled * pooled, 5)

    def forward(self, image):
        maps = self.mean(self.second(self.largest(self.first(image).relu())).relu())
        return self.fc(torch.flatten(self.avgpool(self.third(maps).relu()), 1))


SIZE = (47, 39)  # -> 23x19 -> 11x9 -> 9x7 -> 4x3 -> 3x2 cells


class Padded(nn.Module):
    """A residual stage of stride 2 with padding, behind one that stays as it is."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.left = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.right = nn.Conv2d(6, 8, 1, 2)
        self.ceil = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, image):
        maps = self.pool(self.stem(image))
        maps = (self.left(maps) + self.right(maps)).relu()
        return self.fc(torch.flatten(self.avgpool(self.last(self.ceil(maps)).relu()), 1))


def seeded(network):
    torch.manual_seed(0)
    return network.eval().requires_grad_(False)


def run(proto, image, *outputs):
    data = subgraph(proto.SerializeToString(), set(outputs))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(list(outputs), {"image": image.numpy()})


@pytest.mark.parametrize("stride", [4, 2])
def test_each_cell_also_between_is_exactly_torchs_answer_to_the_crop_at_its_window(stride):
    model = seeded(Unpadded(1))
    image = torch.randn(1, 3, SIZE[0] + 2 * stride + 1, SIZE[1] + 3 * stride)
    found = trace.make(backbones.split(model, *SIZE), checkpoint_of("unpadded", model, SIZE), stride)

    (cells,) = run(found.proto, image, "score_map")

    assert (found.score_map.stride, found.score_map.window) == ((stride, stride), SIZE)
    assert found.score_map.offset == ((SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2)
    assert cells.shape[2:] >= (3, 4)
    for row in range(3):
        for column in range(4):
            top, left = stride * row, stride * column
            expected = model(image[..., top : top + SIZE[0], left : left + SIZE[1]])[0]
            np.testing.assert_allclose(cells[0, :, row, column], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [8, 4])
@pytest.mark.parametrize("size", [(48, 64), (57, 41)])
def test_where_a_cell_lay_before_the_features_are_the_same_to_the_border_and_answers_stay(stride, size):
    model = seeded(Padded())
    split = backbones.split(model, *size)
    image = torch.randn(1, 3, size[0] + 37, size[1] + 50)

    dense = dilated(split, stride)

    step = 16 // stride
    assert dense.apart == (step, step)
    undilated = split.body(image)
    same = dense.split.body(image)[..., ::step, ::step]
    rows, columns = undilated.shape[2:]
    np.testing.assert_allclose(same[..., :rows, :columns], undilated, rtol=1e-4, atol=1e-5)
    assert torch.equal(
        model(image[..., : size[0], : size[1]]), split.head(split.body(image[..., : size[0], : size[1]]))[0]
    )


@pytest.mark.parametrize(
    ("name", "pixels"), [("resnet18", 64), ("squeezenet1_1", 64), ("mobilenet_v2", 72), ("googlenet", 64)]
)
def test_networks_of_torchvision_are_dilated_without_a_change_where_their_cells_lay(name, pixels):
    split = backbones.split(seeded(backbones.build(name, 5)), pixels, pixels)
    image = torch.randn(1, 3, pixels + 40, pixels + 20)

    dense = dilated(split, 8)

    undilated = split.body(image)
    same = dense.split.body(image)[..., :: dense.apart[0], :: dense.apart[1]]
    rows, columns = undilated.shape[2:]
    difference = (same[..., :rows, :columns] - undilated).abs().max() / undilated.abs().max()
    assert difference < 1e-4
    assert score_map.map_of_torch(dense, image[..., :pixels, :pixels]).shape == (5, 1, 1)


def test_the_file_has_a_finer_map_and_else_the_same_answers_and_weights(tmp_path):
    model = seeded(backbones.build("lenet5", 5))
    checkpoint = checkpoint_of("lenet5", model, (32, 32))
    path, plain = tmp_path / "fine.onnx", tmp_path / "plain.onnx"

    fine = export.export(checkpoint, path, parity_images=2, score_map_stride=2)
    coarse = export.export(checkpoint, plain, parity_images=2)

    assert (fine.score_map.stride, coarse.score_map.stride) == ((2, 2), (4, 4))
    assert fine.score_map.offset == coarse.score_map.offset
    assert "score_map" in {check.output for check in fine.parity.outputs}
    assert fine.activation == coarse.activation
    assert path.stat().st_size < 1.1 * plain.stat().st_size  # the weights are there once
    assert [output.name for output in onnx.load(path).graph.output] == [
        "logits",
        "embedding",
        "activation",
        "score_map",
    ]
    image = np.random.default_rng(0).standard_normal((1, 3, 32 + 8, 32 + 12), np.float32)
    with_map, without = OnnxModel(path, CPU), OnnxModel(plain, CPU)
    (ours,), (theirs,) = (one.run(image[..., :32, :32].copy()) for one in (with_map, without))
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.embedding, theirs.embedding)
    np.testing.assert_array_equal(ours.activation, theirs.activation)
    cells = with_map.score_map(image)
    assert cells.shape == (5, 5, 7)
    np.testing.assert_allclose(cells[:, ::2, ::2], without.score_map(image), rtol=1e-4, atol=1e-5)
    expected = model(torch.from_numpy(image[..., 2 * 3 : 2 * 3 + 32, 2 * 5 : 2 * 5 + 32]))[0]
    np.testing.assert_allclose(cells[:, 3, 5], expected, rtol=1e-4, atol=1e-5)


def test_a_smaller_graph_keeps_the_finer_map(tmp_path):
    model = seeded(Padded())
    checkpoint = checkpoint_of("padded", model, (48, 64))
    made = trace.make(backbones.split(model, 48, 64), checkpoint, 8)
    images = torch.randn(6, 3, 48, 64, generator=torch.Generator().manual_seed(1)).numpy()

    small = to_int8(made.proto, iter(images))

    assert score_map.keep_map(small, made.score_map, made.dense, checkpoint, 0.4) == made.score_map
    body = [node for node in small.graph.node if node.op_type == "Conv" and node.output[0] != "score_map"]
    assert all("DequantizeLinear" in node.input[1] for node in body[: len(body) - 1])


@pytest.mark.parametrize(
    ("name", "pixels", "stride", "words"),
    [
        (
            "resnet18",
            64,
            12,
            "its features lie 32 pixels apart, 8 without its last strides, and not 12; choose another",
        ),
        ("resnet18", 64, 64, "its features lie 32 pixels apart, 32 without its last strides, and not 64"),
        ("resnet18", 64, 0, "its features lie 32 pixels apart, 1 without its last strides, and not 0"),
        ("efficientnet_b0", 64, 16, r"its layer features\.6\.0\.block\.2\.avgpool \(AdaptiveAvgPool2d\) cannot be dil"),
        ("convnext_tiny", 64, 16, r"its layer permute_\d+ cannot be dilated; choose a larger one, or leave it out"),
        ("mlp", 28, 16, "it has no spatial features"),
    ],
)
def test_what_cannot_be_dilated_is_refused_by_name(name, pixels, stride, words):
    split = backbones.split(backbones.build(name, 5), pixels, pixels)
    with pytest.raises(NotConvolutionalError, match=words):
        dilated(split, stride)


def test_the_command_says_in_one_line_what_cannot_be(tmp_path, capsys):
    options = ["--backbone", "resnet18", "--weights", "none", "--classes", "5", "--size", "32", "32"]
    code = export.main([*options, "--output", str(tmp_path / "m.onnx"), "--score-map-stride", "12"])
    assert code != 0
    said = capsys.readouterr().err.strip().splitlines()
    assert "--score-map-stride 12: its features lie 32 pixels apart, 8 without its last strides" in said[-1]
    assert not (tmp_path / "m.onnx").exists()
