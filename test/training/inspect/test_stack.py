"""Owns: stacks of layers written as text, and their table. Leaves to others: the table of a file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError
from training import inspect
from training.networks import layer_text
from training.networks.layer_kinds import L2OverFeatures, L2Pool, Maxout

# text, shape of the input, and the same stack in torch's own modules
STACKS = {
    "image": (
        "conv 10 5x5 s1 p2, relu, pool 2x2 s2, conv 20 3x3 d2 g5 nobias, bn, leaky 0.1, fc 30, tanh, dropout, fc 7",
        (3, 32, 32),
        lambda: nn.Sequential(
            nn.Conv2d(3, 10, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 20, 3, dilation=2, groups=5,
            bias=False), nn.BatchNorm2d(20), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(20 * 12 * 12, 30), nn.Tanh(),
            nn.Dropout(), nn.Linear(30, 7),
        ),
    ),
    "signal": (
        "conv 8 5 s2 p2, softplus, avgpool 3 s2 p1, convt 4 4 s2 p1, gap, flatten, fc 2",
        (2, 100),
        lambda: nn.Sequential(
            nn.Conv1d(2, 8, 5, 2, 2), nn.Softplus(), nn.AvgPool1d(3, 2, 1), nn.ConvTranspose1d(8, 4, 4, 2, 1),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2),
        ),
    ),
    "volume": (
        "conv 4 3x3x3 s1x2x2 same, bn, elu, pool 2 ceil, convt 2 3 s2 o1 p1, gmp, fc 3",
        (1, 9, 20, 21),
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, 3, (1, 2, 2), 1), nn.BatchNorm3d(4), nn.ELU(), nn.MaxPool3d(2, ceil_mode=True),
            nn.ConvTranspose3d(4, 2, 3, 2, 1, 1), nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(2, 3),
        ),
    ),
    "numbers": (
        "fc 30, sigmoid, fc 10",
        (784,),
        lambda: nn.Sequential(nn.Linear(784, 30), nn.Sigmoid(), nn.Linear(30, 10)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_has_the_shapes_and_parameters_of_torchs_own_modules(name):
    text, shape, build = STACKS[name]
    module, value = build().eval(), torch.zeros(1, *shape)

    table = inspect.of_text(text, shape)

    assert len(table) == len(module)
    for layer, own in zip(table, module, strict=True):
        assert layer.input == tuple(value.shape[1:])
        value = own(value)
        assert layer.output == tuple(value.shape[1:])
        assert layer.memory == value.numel() * value.element_size()
        assert layer.parameters == sum(parameter.numel() for parameter in own.parameters())


def test_the_lectures_example_has_760_parameters_and_768000_multiply_adds(capsys):
    text = "conv 10 5x5 s1 p2, relu, pool 2x2 s2"

    assert inspect.main(["--layers", text, "--input", "3x32x32"]) == EXIT_OK

    header, conv, relu, pool, total = (line.split() for line in capsys.readouterr().out.splitlines())
    assert "dilation" in header
    assert conv[:8] == ["conv1", "conv", "3x32x32", "10x32x32", "5x5", "1x1", "2x2", "1x1"]
    assert {"760", "768,000", "40,960"} <= set(conv)  # 10 * 32 * 32 numbers of 4 bytes
    assert relu[:4] == ["relu1", "relu", "10x32x32", "10x32x32"]
    assert pool[:4] == ["pool1", "pool", "10x32x32", "10x16x16"]
    assert total == ["total", "760", "768,000", f"{4 * (2 * 10 * 32 * 32 + 10 * 16 * 16):,}"]


def test_words_may_be_written_large_or_long():
    text = "CONV1: Conv 8 5x5 stride 2 pad 2, ReLU, max pool 2x2, Batch Norm, average pool 2, leaky relu, Dense 3"

    layers = inspect.of_text(text, (3, 32, 32))

    kinds = ["conv", "relu", "pool", "bn", "avgpool", "leaky", "flatten", "fc"]
    assert [layer.kind for layer in layers] == kinds
    assert layers[0].output == (8, 16, 16)
    assert layers[0].name == "CONV1"


def test_stride_3_on_7_pixels_with_a_kernel_of_3_does_not_fit_and_1_and_2_do(capsys):
    for stride, cells in ((1, 5), (2, 3), (3, 2)):
        assert inspect.main(["--layers", f"conv 1 3x3 s{stride}", "--input", "1x7x7"]) == EXIT_OK
        line = capsys.readouterr().out.splitlines()[1]
        assert f"1x{cells}x{cells}" in line
        assert ("does not fit: 2.333 cells" in line) == (stride == 3)


def supports(text, shape):
    """Pixels that change when a cell in the middle is asked, by its gradient; of all cells of a period the most."""
    steps = layer_text.read(text, shape, "cpu")
    model = nn.Sequential(*(step.module for step in steps)).eval()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    cells = steps[-1].given[1:]
    most = [0] * len(cells)
    for offset in range(8):
        image = torch.rand(1, *shape, requires_grad=True)
        index = tuple(min(cell // 2 + offset, cell - 1) for cell in cells)
        model(image)[(0, 0, *index)].backward()
        grad = image.grad[0].abs().sum(0)
        for axis in range(len(cells)):
            others = tuple(i for i in range(len(cells)) if i != axis)
            seen = (grad.sum(others) if others else grad).nonzero().flatten()
            most[axis] = max(most[axis], int(seen[-1] - seen[0]) + 1)
    return tuple(most)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("conv 2 3x3 p1, conv 2 3x3 p1, avgpool 2x2, conv 2 3x5 d2", (1, 61, 71)),
        ("conv 2 3 s2, conv 2 5 d3, l2pool 2 s1", (2, 161)),
        ("conv 2 3x3 s2 p1, convt 2 3x3 s2 p1, conv 2 3x3", (1, 61, 61)),
        ("conv 2 5 s3, convt 2 2 s2, convt 2 5 s3, conv 2 3", (1, 161)),
        ("conv 2 3 s2, softplus, convt 1 4 s2 p1, maxout 1", (1, 25, 25, 25)),
        ("conv 4 3x3, lrn 3, l2 2, conv 2 3x3", (1, 41, 41)),
    ],
)
def test_what_a_cell_sees_is_the_support_of_its_gradient(text, shape):
    *_, last = inspect.of_text(text, shape)

    assert last.geometry.receptive_field == supports(text, shape)


def test_a_transposed_convolution_brings_the_cells_nearer_again():
    down, up = inspect.of_text("conv 1 3x3 s2 p1, convt 1 4x4 s2 p1", (1, 16, 16))

    assert (down.geometry.stride, up.geometry.stride) == ((2, 2), (1, 1))
    assert up.multiply_adds == 8 * 8 * 4 * 4  # each cell that is read is multiplied with the whole kernel
    assert up.misfit == ""


@pytest.mark.parametrize(
    ("text", "shape", "word", "said"),
    [
        ("conv 10 5y5", "3x32x32", "5y5", "is no size"),
        ("conv 10 5x5, rellu", "3x32x32", "rellu", "did you mean relu?"),
        ("conv 10 5x5 q2", "3x32x32", "q2", "is not understood"),
        ("conv ten 5x5", "3x32x32", "ten", "number of filters"),
        ("conv 0 5x5", "3x32x32", "0", "at least 1"),
        ("conv 10 5x5 s0", "3x32x32", "s0", "write 1 to 100000"),
        ("conv 10 5x5 stride x", "3x32x32", "sx", "is not understood"),
        ("conv 8 3x3 p1000000000", "3x32x32", "p1000000000", "is out of range"),
        ("conv 10", "3x32x32", "conv", "its kernel is missing"),
        ("conv 10 5x5", "3x32", "5x5", "has 2 axes, its input 3x32 has 1"),
        ("conv 10 5x5 g2", "3x32x32", "g2", "does not divide 3 channels"),
        ("conv 10 11x11", "3x9x9", "11x11", "does not fit: kernel 11 > padded input 9"),
        ("fc 10, conv 3 3x3", "3x9x9", "conv", "needs channels and cells"),
        ("pool 2x2 p2", "3x9x9", "pool", "does not fit its input"),
        ("maxout 2", "3x9x9", "2", "does not divide the 3 features"),
        ("dropout 1.5", "3", "1.5", "from 0 to below 1"),
        ("a b: relu", "3", "a b:", "is no name"),
        ("forward: relu", "3", "forward:", "is no name"),
        ("fc", "3", "fc", "number of outputs is missing"),
        ("leaky x", "3", "x", "is out of range"),
    ],
)
def test_an_error_is_one_line_that_names_the_wrong_word_and_its_layer(capsys, text, shape, word, said):
    assert inspect.main(["--layers", text, "--input", shape]) == EXIT_BAD_INPUT

    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: {word!r} in layer ")
    assert said in error


@pytest.mark.parametrize(("text", "said"), [("relu,,relu", "layer 2 is empty"), ("a: relu, a: tanh", "two layers")])
def test_empty_and_repeated_layers_are_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        inspect.of_text(text, (3, 8, 8))


@pytest.mark.parametrize("given", [[], ["32"] * 2, ["3x0"], ["3x2x2x2x2"], ["3xa"]])
def test_a_stack_needs_the_shape_of_its_input(given):
    arguments = ["--layers", "relu", *(["--input", *given] if given else [])]
    try:
        code = inspect.main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == EXIT_BAD_INPUT


def test_l2_pooling_is_torchs_and_has_a_slope_at_nothing():
    values = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(L2Pool((3, 3), (2, 2), (0, 0))(values), nn.LPPool2d(2, 3, 2)(values))

    nothing = torch.zeros(1, 1, 4, 4, requires_grad=True)
    L2Pool((2, 2), (2, 2), (0, 0))(nothing).sum().backward()
    assert torch.isfinite(nothing.grad).all()


def test_maxout_and_l2_over_features_are_those_of_each_group():
    values = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    groups = values.numpy().reshape(2, 3, 2, 5)

    np.testing.assert_array_equal(Maxout(2)(values), groups.max(2))
    np.testing.assert_allclose(L2OverFeatures(2)(values), np.sqrt((groups**2).sum(2)), rtol=1e-5)


FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "leaky": lambda x: x if x > 0 else 0.01 * x,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_an_activation_is_its_formula(kind):
    (step,) = layer_text.read(kind, (5,), "cpu")
    values = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 2.0]])

    expected = [FORMULAS[kind](value) for value in values[0].tolist()]

    np.testing.assert_allclose(step.module(values)[0], expected, rtol=1e-5)


def test_dropout_and_normalisations_are_torchs():
    values = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    batch, response, drop = (step.module for step in layer_text.read("bn, lrn, dropout 0.25", (6, 5, 5), "cpu"))

    mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(batch(values), (values - mean) / torch.sqrt(variance + 1e-5))
    torch.testing.assert_close(response(values), functional.local_response_norm(values, 5, 5e-4, 0.75, 2.0))
    assert drop.p == 0.25
