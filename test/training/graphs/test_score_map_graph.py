"""Owns: the score map of a model file: that each cell is what torch answers to the window it stands for.

Leaves to others: the map on the robot (test_score_map), of networks of the real size (test_export, test_quantise).
"""

from __future__ import annotations

import logging

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
from training.graphs import convolve, score_map, trace
from training.graphs.receptive_field import Geometry
from training.networks import backbones

CPU = SessionOptions(providers=("CPUExecutionProvider",))


class Unpadded(nn.Module):
    """A network without padding, whose cells are exactly its answers to crops: with a channel shuffle and any head."""

    def __init__(self, pooled, head):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, (3, 5), stride=(2, 3)), nn.Conv2d(8, 6, 3, groups=2)
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.fc = head

    def forward(self, image):
        maps = self.first(image).relu()
        count, channels, rows, columns = maps.shape
        maps = maps.view(count, 2, channels // 2, rows, columns).transpose(1, 2).reshape(maps.shape)
        return self.fc(torch.flatten(self.avgpool(self.second(maps).relu()), 1))


HEADS = {  # of 4x6 cells
    "pooled to one cell": (1, lambda: nn.Linear(6, 5)),
    "as many cells as there are": ((4, 6), lambda: nn.Sequential(nn.Linear(144, 9), nn.ReLU(), nn.Linear(9, 5))),
    "a coarser grid": ((2, 3), lambda: nn.Sequential(nn.Linear(36, 9), nn.Tanh(), nn.Dropout(), nn.Linear(9, 5))),
}
SIZE = (13, 26)  # -> 6x8 -> 4x6 cells


def unpadded(name):
    torch.manual_seed(0)
    pooled, head = HEADS[name]
    return Unpadded(pooled, head()).eval()


def made(model):
    return trace.make(backbones.split(model, *SIZE), checkpoint_of("unpadded", model, SIZE))


@pytest.mark.parametrize("name", HEADS)
def test_each_cell_is_exactly_torchs_answer_to_the_crop_at_its_window(name):
    model = unpadded(name)
    image = torch.randn(1, 3, SIZE[0] + 2 * 4 + 1, SIZE[1] + 3 * 2)  # 4 and 2 further cells, and a row that fills none

    found = made(model)

    assert found.score_map.stride == (2.0, 3.0)
    assert found.score_map.offset == (6.0, 12.5)  # the centre of 13x26 pixels
    session = onnxruntime.InferenceSession(
        subgraph(found.proto.SerializeToString(), {"score_map"}), providers=["CPUExecutionProvider"]
    )
    (cells,) = session.run(["score_map"], {"image": image.numpy()})
    assert cells.shape == (1, 5, 5, 3)
    for row in range(5):
        for column in range(3):
            top, left = 2 * row, 3 * column
            with torch.no_grad():
                (expected,) = model(image[..., top : top + SIZE[0], left : left + SIZE[1]])
            np.testing.assert_allclose(cells[0, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_lenet_reads_a_page_as_it_reads_each_digit(tmp_path):
    torch.manual_seed(0)
    model = backbones.build("lenet5", 5).eval()
    image = torch.randn(1, 3, 32 + 4, 32 + 8)

    spec = export.export(checkpoint_of("lenet5", model, (32, 32)), tmp_path / "m.onnx", parity_images=2)

    assert (spec.score_map.stride, spec.score_map.window, spec.score_map.offset) == ((4, 4), (32, 32), (15.5, 15.5))
    found = OnnxModel(tmp_path / "m.onnx", CPU).score_map(image.numpy())
    with torch.no_grad():
        (expected,) = model(image[..., 4:36, 8:40])
    assert found.shape == (5, 2, 3)
    np.testing.assert_allclose(found[:, 1, 2], expected, rtol=1e-4, atol=1e-5)


def test_a_map_that_differs_from_torchs_is_taken_out_and_the_log_says_so(monkeypatch, caplog):
    model = unpadded("pooled to one cell")
    right = convolve.LinearAsConvolution.forward
    monkeypatch.setattr(
        convolve.LinearAsConvolution, "forward", lambda self, features: right(self, features.flip(2).cumsum(3))
    )

    with caplog.at_level(logging.WARNING, score_map.__name__):
        found = made(model)

    assert found.score_map is None
    assert "no score map: its map differs by" in caplog.text
    assert [output.name for output in found.proto.graph.output] == ["logits", "embedding", "activation"]
    dims = found.proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims[1:]] == [3, *SIZE]
    onnx.checker.check_model(found.proto)


def test_features_that_look_at_the_whole_image_have_no_map():
    size = checkpoint_of("unpadded", unpadded("a coarser grid"), SIZE).input
    with pytest.raises(convolve.NotConvolutionalError, match="look at the whole image"):
        score_map.map_of(Geometry((8.0, 8.0), (0, 0), (0.0, 0.0)), size)
