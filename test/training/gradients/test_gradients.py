"""Owns: the length of the gradient by depth, and the networks it is shown on. Leaves to others: figures in general."""

from __future__ import annotations

import json
import math

import pytest
import torch
from paths import UNWRITABLE
from PIL import Image
from torch import nn

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from training.gradients import command, stacks
from training.gradients.flow import gradient_norms
from training.gradients.stacks import Stack

FACTORS = (0.5, -3.0, 0.1, 2.0, 7.0)


class LinearShortcut(nn.Module):
    """x + w x."""

    def __init__(self, weight):
        super().__init__()
        self.layer = number(weight)

    def forward(self, value):
        return value + self.layer(value)


def number(weight):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


def others(factors, index):
    """The product of all factors but one."""
    return math.prod(factors[:index]) * math.prod(factors[index + 1 :])


def test_gradient_of_a_linear_chain_is_the_product_of_all_other_weights():
    """y = w5 w4 w3 w2 w1 x, so dy/dwi = x times the product of the others."""
    chain = nn.Sequential(*map(number, FACTORS))

    norms = gradient_norms(chain, torch.tensor([[1.7]]), torch.sum)

    assert norms == pytest.approx([abs(1.7 * others(FACTORS, index)) for index in range(5)])


def test_gradient_of_a_linear_residual_chain_is_the_product_of_one_plus_all_other_weights():
    """y = (1 + w5) ... (1 + w1) x: a layer of weight 0 lets it pass, where it stops it in a plain chain."""
    factors = (0.5, 0.0, -0.2, 1.0)
    chain = nn.Sequential(*map(LinearShortcut, factors))
    passed = [1 + factor for factor in factors]

    norms = gradient_norms(chain, torch.tensor([[1.0]]), torch.sum)

    assert norms == pytest.approx([abs(others(passed, index)) for index in range(4)])
    plain = gradient_norms(nn.Sequential(*map(number, factors)), torch.tensor([[1.0]]), torch.sum)
    assert [value == 0 for value in plain] == [True, False, True, True]


def test_norm_of_a_matrix_is_that_of_the_outer_product():
    """L = u . W x has the gradient u x^T, of length |u| |x|; over a batch the gradients add up."""
    layer = nn.Linear(3, 2)
    u, x = torch.tensor([3.0, 4.0]), torch.tensor([[1.0, 2.0, 2.0]])

    (norm,) = gradient_norms(nn.Sequential(layer), x, lambda y: (y * u).sum())

    assert norm == pytest.approx(5 * 3)


def test_lengths_too_small_for_squares_in_float32_are_told():
    """The squares of 3e-30 and 4e-30 are no numbers of float32, but the length is."""
    (norm,) = gradient_norms(nn.Sequential(nn.Linear(2, 1)), torch.tensor([[3e-30, 4e-30]]), torch.sum)

    assert norm == pytest.approx(5e-30, rel=1e-6)


@pytest.mark.parametrize("depth", [8, 20])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_stack_has_the_layers_and_sizes_of_the_paper(depth, residual, normalised):
    model = stacks.build(Stack(depth, residual, normalised, "he"), 0)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]

    assert len(convolutions) + 1 == depth
    assert [layer.out_channels for layer in convolutions[1:]] == [
        width for width in (16, 32, 64) for _ in range((depth - 2) // 3)
    ]
    assert sum(layer.stride == (2, 2) for layer in convolutions) == 2
    assert model[:-3](torch.zeros(2, 3, 32, 32)).shape == (2, 64, 8, 8)


def test_resnet_20_has_the_parameters_of_the_paper():
    """0.27 million (He et al. 2015, table 6)."""
    model = stacks.build(Stack(20, True, True, "he"), 0)

    assert sum(value.numel() for value in model.parameters()) == pytest.approx(0.27e6, rel=0.01)


@pytest.mark.parametrize("normalised", [False, True])
def test_shortcuts_change_neither_weights_nor_their_number(normalised):
    plain, residual = (stacks.build(Stack(14, value, normalised, "he"), 3) for value in (False, True))

    assert plain.state_dict().keys() == residual.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), residual.parameters(), strict=True))


def test_residual_block_of_zero_weights_is_the_shortcut_alone():
    block = stacks.Block(16, 32, Stack(8, True, False, "he"))
    for value in block.parameters():
        nn.init.zeros_(value)
    image = torch.rand(1, 16, 6, 6)

    found = block(image)

    assert torch.equal(found[:, :16], image[:, :, ::2, ::2])
    assert not found[:, 16:].any()


def test_initial_weights_have_the_variance_that_is_said():
    he = stacks.build(Stack(8, False, False, "he"), 0)[-4].branch[0]
    own = stacks.build(Stack(8, False, False, "torch"), 0)[-4].branch[0]
    fan_in = 64 * 9 if he.in_channels == 64 else 32 * 9

    assert he.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)
    assert own.weight.var().item() == pytest.approx(1 / (3 * fan_in), rel=0.05)
    assert not he.bias.any()


def test_torchs_own_initial_weights_let_the_gradient_of_a_plain_stack_vanish_by_the_root_of_six_a_layer():
    """A layer multiplies the mean square by fan-in * 1 / (3 fan-in) * 1/2, as ReLU stops half of it."""
    model = stacks.build(Stack(56, False, False, "torch"), 0)
    image = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    norms = gradient_norms(model, image, lambda logits: logits.square().sum())

    assert command.factor(norms) == pytest.approx(1 / math.sqrt(6), rel=0.1)


@pytest.mark.parametrize(
    ("lengths", "factor"),
    [((8.0, 4.0, 2.0, 1.0, 99.0), 2.0), ((1.0, 10.0, 100.0, 0.0), 0.1), ((0.0, 1.0, 1.0, 1.0), 0.0)],
)
def test_factor_is_the_mean_ratio_of_neighbouring_convolutions(lengths, factor):
    assert command.factor(lengths) == pytest.approx(factor)


@pytest.mark.parametrize("lengths", [(1.0, 1.0, 0.0, 1.0), (math.inf, 1.0, 1.0, 1.0), (1.0, 1.0, math.nan, 1.0)])
def test_factor_that_cannot_be_is_no_number(lengths):
    assert math.isnan(command.factor(lengths))


def test_command_leaves_a_table_a_record_and_a_figure_and_the_same_seed_the_same_numbers(tmp_path, capsys):
    arguments = ["--depths", "14", "8", "--batch", "4", "--output"]
    assert command.main([*arguments, str(tmp_path / "a")]) == EXIT_OK
    told = capsys.readouterr().out
    assert command.main([*arguments, str(tmp_path / "b")]) == EXIT_OK

    record = json.loads((tmp_path / "a" / "gradients.json").read_text())
    assert record == json.loads((tmp_path / "b" / "gradients.json").read_text())
    assert {(row["depth"], row["residual"], row["normalised"], row["init"]) for row in record["networks"]} == {
        (depth, residual, normalised, init)
        for depth in (8, 14) for residual in (False, True) for normalised in (False, True) for init in ("he", "torch")
    }  # fmt: skip
    assert [len(row["norms"]) for row in record["networks"]] == [row["depth"] for row in record["networks"]]
    assert f"{record['networks'][0]['norms'][0]:.2g}" in told
    with Image.open(tmp_path / "a" / "gradients.png") as picture:
        assert picture.width > 400


@pytest.mark.parametrize("depth", ["9", "2", "0", "-4"])
def test_depth_that_no_stack_has_is_refused(depth, tmp_path, capsys):
    assert command.main(["--depths", depth, "--output", str(tmp_path)]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == f"error: --depths: {depth} is none of 8, 14, 20, ... (6 n + 2)\n"


def test_output_that_cannot_be_written_is_refused_before_anything_is_measured(capsys, monkeypatch):
    def measured(*_: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr(command, "measure", measured)
    assert command.main(["--depths", "8", "--output", str(UNWRITABLE)]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.endswith("; free or choose another --output\n")


def test_zeros_and_what_is_beyond_float32_are_marked_in_the_figure_and_null_in_the_record(tmp_path):
    stack = Stack(8, False, False, "he")
    norms = {stack: [0.0, 1.0, math.inf, 2.0, math.nan, 1.0, 1.0, 1.0]}

    command.draw(norms, tmp_path / "a.png")
    command.draw({stack: [1.0] * 8}, tmp_path / "b.png")

    assert json.loads(command.as_json(norms, 1, 0))["networks"][0]["norms"] == [
        0.0,
        1.0,
        None,
        2.0,
        None,
        1.0,
        1.0,
        1.0,
    ]
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
