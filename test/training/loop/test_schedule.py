"""Owns: the one-cycle schedule. Leaves to others: the other schedules, phases and optimisers (test_train)."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from training.config import make
from training.loop import schedule

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


def test_other_schedules_leave_the_momentum_alone():
    assert schedule.momentum(make(data="d", output="o", schedule="cosine"), 3.0) is None
    assert schedule.momentum(make(data="d", output="o", schedule="onecycle", momentum=0.0), 3.0) is None
