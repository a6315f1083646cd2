"""Owns: the layer table of any network. Leaves to others: the networks, and the receptive field of a whole graph."""

from __future__ import annotations

import csv

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torchvision import models

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, ModelError
from training import inspect


def saved(path, module, image):
    program = torch.onnx.export(module.eval(), (image,), dynamo=True, verbose=False, optimize=False)
    onnx.save(program.model_proto, path)
    return path


def table(tmp_path, module, rows, columns=None):
    return inspect.of_file(saved(tmp_path / "a.onnx", module, torch.zeros(1, 3, rows, columns or rows)), None)


def single(tmp_path, module, rows, columns=None):
    (layer,) = table(tmp_path, module, rows, columns)
    return layer


def test_ten_5x5_filters_have_760_parameters_and_768000_multiply_adds_on_a_padded_32x32_image(tmp_path):
    layer = single(tmp_path, nn.Conv2d(3, 10, 5, padding=2), 32)

    assert (layer.kind, layer.input, layer.output) == ("Conv", (3, 32, 32), (10, 32, 32))
    assert layer.parameters == 10 * (5 * 5 * 3 + 1) == 760
    assert layer.multiply_adds == 5 * 5 * 3 * 10 * 32 * 32 == 768_000
    assert layer.misfit == ""


@pytest.mark.parametrize(
    ("layer", "side", "cells", "said"),
    [
        (nn.Conv2d(3, 8, 11, stride=4), 227, 55, ""),  # (227 - 11) / 4 + 1
        (nn.Conv2d(3, 8, 11, stride=4), 224, 54, "54.25 cells: last 1 of input unread"),
        (nn.Conv2d(3, 8, 11, stride=4, padding=2), 224, 55, "55.25 cells: 1 of padding unread"),
        (nn.Conv2d(3, 8, 5, padding=2), 32, 32, ""),
        (nn.Conv2d(3, 8, 3, stride=3), 10, 3, "3.333 cells: last 1 of input unread"),
        (nn.Conv2d(3, 8, 3, dilation=2), 10, 6, ""),  # a kernel of 5 with holes
        (nn.Conv2d(3, 8, 3, dilation=2, stride=2), 10, 3, "3.5 cells: last 1 of input unread"),
        (nn.MaxPool2d(2), 7, 3, "3.5 cells: last 1 of input unread"),
        (nn.MaxPool2d(3, 2, ceil_mode=True), 112, 56, "55.5 cells: last window hangs over by 1"),
        (nn.AvgPool2d(3, 2), 55, 27, ""),
    ],
)
def test_cells_are_counted_by_the_formula_and_what_does_not_divide_is_said(tmp_path, layer, side, cells, said):
    found = single(tmp_path, layer, side)

    assert found.output[1:] == (cells, cells)
    assert found.misfit == said


def test_rows_and_columns_that_fit_differently_are_told_apart(tmp_path):
    assert single(tmp_path, nn.MaxPool2d(2), 8, 9).misfit == "columns 4.5 cells: last 1 of input unread"
    assert single(tmp_path, nn.MaxPool2d(2), 7, 9).misfit == (
        "rows 3.5 cells: last 1 of input unread; columns 4.5 cells: last 1 of input unread"
    )


def convolution(name, given, taken, weight, **attributes):
    return helper.make_node("Conv", [given, weight], [taken], name=name, **attributes)


def handmade(path, nodes, weights, image=(1, 3, 9, 9)):
    """An ONNX file of convolutions of the given weight shapes."""
    tensors = [
        numpy_helper.from_array(torch.zeros(shape).numpy(), name) if isinstance(shape, tuple) else shape
        for name, shape in weights.items()
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, image)
    taken = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [given], [taken], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_a_kernel_larger_than_its_padded_input_is_said(tmp_path):
    nodes = [convolution("first", "image", "out", "w", pads=[0, 0, 0, 0])]
    path = handmade(tmp_path / "a.onnx", nodes, {"w": (4, 3, 11, 11)})

    assert inspect.of_file(path, None)[0].misfit == "kernel 11 > padded input 9"
    assert inspect.of_file(path, (11, 9))[0].misfit == "columns kernel 11 > padded input 9"


@pytest.mark.parametrize(("side", "pads"), [(9, ((1, 1), (1, 1))), (10, ((0, 0), (1, 1)))])
def test_same_padding_is_worked_out(tmp_path, side, pads):
    """Of 9 pixels, 5 cells every 2 take 11; of 10 pixels, 5 cells take 11: one more, behind."""
    nodes = [convolution("first", "image", "out", "w", auto_pad="SAME_UPPER", strides=[2, 2])]
    path = handmade(tmp_path / "a.onnx", nodes, {"w": (4, 3, 3, 3)}, image=(1, 3, side, side))

    (layer,) = inspect.of_file(path, None)

    assert (layer.window.before, layer.window.after) == pads
    assert layer.output == (4, 5, 5)
    assert layer.geometry.receptive_field == (3, 3)


def test_stacked_3x3_see_5_7_9_and_pooling_doubles_the_step(tmp_path):
    def conv():
        return nn.Conv2d(3, 3, 3, padding=1)

    layers = table(tmp_path, nn.Sequential(conv(), conv(), conv(), conv(), nn.MaxPool2d(2), conv(), conv()), 32)

    seen = [layer.geometry.receptive_field[0] for layer in layers]
    steps = [layer.geometry.stride[0] for layer in layers]
    assert seen == [3, 5, 7, 9, 10, 14, 18]  # after the pooling, each 3x3 adds (3 - 1) * 2
    assert steps == [1, 1, 1, 1, 2, 2, 2]


class Branching(nn.Module):
    """Branches of different reach, a normalisation, a pooling of everything and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 0))
        self.left = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.right = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def both(self, image):
        stem = self.stem(image)
        return self.norm(self.left(stem) + self.right(stem))

    def forward(self, image):
        return self.fc(self.both(image).mean((2, 3)))


@pytest.fixture(scope="module")
def branching(tmp_path_factory):
    torch.manual_seed(0)
    return {layer.name: layer for layer in table(tmp_path_factory.mktemp("branching"), Branching(), 24, 40)}


def test_what_a_cell_sees_is_the_support_of_its_gradient(branching):
    model = Branching()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    model.eval()
    stages = {"stem": model.stem, "left": lambda x: model.left(model.stem(x)), "add": model.both, "norm": model.both}
    for name, stage in stages.items():
        image = torch.zeros(1, 3, 24, 40, requires_grad=True)
        stage(image)[0, 0, 6, 18].backward()
        rows, columns = (image.grad[0].sum((0, axis)).nonzero().flatten() for axis in (2, 1))
        field = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
        assert branching[name].geometry.receptive_field == field, name
        assert branching[name].geometry.stride == (2, 1)


def test_each_layer_counts_what_torch_counts(branching):
    for name in ("stem", "left", "right", "norm", "fc"):
        own = sum(parameter.numel() for parameter in getattr(Branching(), name).parameters())
        assert branching[name].parameters == own  # without the running mean and variance
    cells = 12 * 36
    costs = {
        "stem": cells * 4 * 3 * 15,
        "left": cells * 4 * 9,
        "right": cells * 4 * 4 * 9,
        "add": 0,
        "norm": 0,
        "fc": 8,
    }
    assert {name: branching[name].multiply_adds for name in costs} == costs
    assert (branching["mean"].input, branching["mean"].output) == ((4, 12, 36), (4,))
    assert branching["fc"].geometry is None


# Source of both figures: the `meta` of torchvision's published weights, counted by its authors with other tools.
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", models.ResNet18_Weights.DEFAULT),
        ("googlenet", models.GoogLeNet_Weights.DEFAULT),
    ],
)
def test_totals_are_those_that_torchvision_publishes(name, weights):
    found = inspect.totals(inspect.of_backbone(name, 1000, 224, 224))

    assert found["parameters"] == weights.meta["num_params"]
    assert round(found["multiply_adds"] / 1e9, 3) == weights.meta["_ops"]


def test_alexnet_has_its_published_totals_and_says_that_its_first_layer_does_not_divide():
    table = inspect.of_backbone("alexnet2012", 1000, 224, 224)

    assert inspect.totals(table)["parameters"] == 62_378_344
    assert [layer.misfit for layer in table if layer.misfit] == ["55.25 cells: 1 of padding unread"]
    assert [layer.output for layer in table if layer.kind == "Conv"] == [
        (96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)
    ]  # fmt: skip


def test_quantised_weights_count_as_parameters_and_their_scales_do_not(tmp_path):
    weights = {
        "w": helper.make_tensor("w", TensorProto.INT8, (4, 3, 3, 3), [1] * 108),
        "scale": (4,),
        "zero": helper.make_tensor("zero", TensorProto.INT8, (4,), [0] * 4),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["real"], axis=0),
        convolution("first", "image", "out", "real"),
    ]

    (layer,) = inspect.of_file(handmade(tmp_path / "a.onnx", nodes, weights), None)

    assert (layer.name, layer.parameters, layer.multiply_adds) == ("w", 108, 49 * 108)


def test_a_file_that_leaves_batch_and_size_open_is_read_at_the_given_one(tmp_path):
    nodes = [convolution("first", "image", "out", "w")]
    path = handmade(tmp_path / "a.onnx", nodes, {"w": (4, 3, 3, 3)}, image=("batch", 3, "height", "width"))

    with pytest.raises(ConfigError, match="leaves the size of its images open; give the --input size"):
        inspect.of_file(path, None)
    assert inspect.of_file(path, (10, 20))[0].output == (4, 8, 18)


def test_what_is_no_image_network_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("<html>404</html>")
    handmade(tmp_path / "flat.onnx", [helper.make_node("Relu", ["image"], ["out"])], {}, image=(1, 10))

    for name, said in {"text": "no ONNX file", "flat": "first input is no image", "none": "cannot be read"}.items():
        with pytest.raises(ModelError, match=said) as caught:
            inspect.of_file(tmp_path / f"{name}.onnx", None)
        assert "\n" not in str(caught.value)


def test_the_command_prints_the_table_and_writes_csv_and_figure(tmp_path, capsys):
    files = ["--csv", str(tmp_path / "a.csv"), "--figure", str(tmp_path / "a.png")]

    assert inspect.main(["--backbone", "lenet5", "--input", "32", "--classes", "10", *files]) == EXIT_OK

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["name", "kind", "input", "output"]
    assert lines[-1].split() == ["total", "61,706", "416,520", "32,856"]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == inspect.COLUMNS
    assert sum(int(row["parameters"]) for row in rows) == 61_706
    first = {"kind": "Conv", "input": "1x32x32", "output": "6x28x28", "kernel": "5x5", "stride": "1x1", "pad": "0x0"}
    assert first.items() <= rows[0].items()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backbone", "vgg_q"], "did you mean vgg_"),
        (["--backbone", "alexnet", "--input", "10"], "takes no images of 10x10 pixels"),
        (["--model", "missing.onnx"], "missing.onnx: cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(capsys, arguments, said):
    assert inspect.main(arguments) == EXIT_BAD_INPUT

    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.parametrize("extra", [["--input", "3", "4", "5"], ["--input", "0"], ["--classes", "1"]])
def test_sizes_out_of_range_are_usage_errors(extra):
    with pytest.raises(SystemExit) as caught:
        inspect.main(["--backbone", "lenet5", *extra])
    assert caught.value.code == EXIT_BAD_INPUT


class Upsampling(nn.Module):
    """Batch normalisations behind a convolution, a transposed one and a linear layer: exporters fold them."""

    def __init__(self):
        super().__init__()
        self.conv, self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.up, self.second = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), nn.BatchNorm2d(4)
        self.out = nn.Conv2d(4, 2, 3)

    def forward(self, image):
        return self.out(self.second(self.up(torch.relu(self.first(self.conv(image))))))


def upsampling(tmp_path, **options):
    torch.manual_seed(0)
    model = Upsampling().eval()
    for norm in (model.first, model.second):
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    if not options.pop("dynamo", True):
        torch.onnx.export(model, (torch.zeros(1, 3, 16, 16),), tmp_path / "a.onnx", dynamo=False)
    else:
        program = torch.onnx.export(model, (torch.zeros(1, 3, 16, 16),), dynamo=True, verbose=False, **options)
        onnx.save(program.model_proto, tmp_path / "a.onnx")
    return {layer.name: layer for layer in inspect.of_file(tmp_path / "a.onnx", None)}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"optimize": False}, id="as it is"),
        pytest.param({"optimize": True}, id="folded"),
        pytest.param({"dynamo": False}, id="folded by the older exporter", marks=pytest.mark.filterwarnings("ignore")),
    ],
)
def test_folded_normalisations_and_transposed_convolutions_are_read_right(tmp_path, options):
    found = upsampling(tmp_path, **options)

    kernels = {"conv": 3 * 8 * 9, "up": 8 * 4 * 16, "out": 4 * 2 * 9}
    biases = {"conv": 0, "up": 4, "out": 2}
    for name, kernel in kernels.items():
        is_folded = bool(found[name].remark)
        assert found[name].parameters == kernel + (found[name].output[0] if is_folded else biases[name])
    assert found["up"].multiply_adds == 8 * 8 * kernels["up"]
    assert found["conv"].multiply_adds == 8 * 8 * kernels["conv"]
    assert (found["up"].output, found["up"].window.kernel, found["up"].misfit) == ((4, 16, 16), (4, 4), "")
    # of the image: 3x3 at step 2, two of these for each cell of the transposed one, three of which overlap
    assert [found[name].geometry.receptive_field for name in kernels] == [(3, 3), (5, 5), (7, 7)]
    assert [found[name].geometry.stride for name in kernels] == [(2, 2), (1, 1), (1, 1)]
    listed = sum(layer.kind == "BatchNormalization" for layer in found.values())
    assert listed + sum("batch normalisation" in layer.remark for layer in found.values()) == 2
