"""Owns: the one-cycle schedule. Leaves to others: the other schedules, phases and optimisers (test_train)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from training.config import make
from training.loop import schedule
from training.networks.backbones import Stages

STEPS, EPOCHS = 1000, 10


@pytest.mark.parametrize(
    ("kind", "field"), [(torch.optim.SGD, "momentum"), (torch.optim.AdamW, "betas")], ids=["sgd", "adamw"]
)
def test_onecycle_is_the_one_of_torch(kind, field):
    optimizer = kind([nn.Parameter(torch.zeros(1))], lr=1.0, **({"momentum": 0.9} if field == "momentum" else {}))
    scheduler = OneCycleLR(optimizer, max_lr=1.0, total_steps=STEPS)
    config = make(data="d", output="o", schedule="onecycle", epochs=EPOCHS)
    for step in range(STEPS - 1):
        expected = optimizer.param_groups[0]
        momentum = expected[field] if field == "momentum" else expected[field][0]
        epoch = step * EPOCHS / (STEPS - 1)

        # torch's highest rate is one step earlier
        assert schedule.lr_factor(config, epoch, []) == pytest.approx(expected["lr"], abs=0.01)
        assert schedule.momentum(config, epoch) == pytest.approx(momentum, abs=0.001)
        optimizer.step()
        scheduler.step()


def test_onecycle_rises_for_three_tenths_of_the_epochs_or_as_long_as_is_said():
    default = make(data="d", output="o", schedule="onecycle", epochs=20)
    given = make(data="d", output="o", schedule="onecycle", epochs=20, warmup_epochs=2.0)

    assert schedule.lr_factor(default, 6.0, []) == pytest.approx(1.0)
    assert schedule.lr_factor(given, 2.0, []) == pytest.approx(1.0)
    assert schedule.lr_factor(given, 0.0, []) == pytest.approx(1 / 25)
    assert schedule.lr_factor(given, 20.0, []) == pytest.approx(1 / 25e4)


def one_step(**given):
    """How far a weight moves in two steps of slopes 2 and -1, at a rate of 1, without decay."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    config = make(data="d", output="o", mode="scratch", lr=1.0, weight_decay=0.0, **given)
    optimizer = schedule.optimizer(layer, Stages(head=("weight",), last=(), below=()), config)
    for slope in (2.0, -1.0):
        layer.weight.grad = torch.full((1, 1), slope)
        optimizer.step()
    return layer.weight.item()


def test_rmsprop_divides_by_the_root_of_the_mean_square_with_its_alpha():
    first = 0.75 * 2**2 * (1 / 3)  # (1 - alpha) g^2 of alpha = 3/4
    second = 0.75 * first + 0.25 * 1

    assert one_step(optimizer="rmsprop", momentum=0.0, rmsprop_alpha=0.75) == pytest.approx(
        -2 / first**0.5 + 1 / second**0.5, rel=1e-5
    )


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_takes_its_betas(optimizer):
    beta, other = 0.5, 0.75
    mean, square = (1 - beta) * 2, (1 - other) * 4
    moved = -(mean / (1 - beta)) / (square / (1 - other)) ** 0.5
    mean, square = beta * mean - (1 - beta), other * square + (1 - other)
    moved -= (mean / (1 - beta**2)) / (square / (1 - other**2)) ** 0.5

    assert one_step(optimizer=optimizer, adam_betas=(beta, other)) == pytest.approx(moved, rel=1e-5)


def test_other_schedules_leave_the_momentum_alone():
    assert schedule.momentum(make(data="d", output="o", schedule="cosine"), 3.0) is None
    assert schedule.momentum(make(data="d", output="o", schedule="onecycle", momentum=0.0), 3.0) is None
