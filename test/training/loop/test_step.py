"""Owns: what one step of the optimiser does: clipping, frozen norms, weights of classes, values that are not finite.

Leaves to others: what a run does with its steps (test_trainer, test_bad_steps). Oracle: torch, by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_images import write_folder
from tiny_run import ALONE, random_batch, same, tiny_run, weights
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import mobilenet_v3_small, resnet18

from training.config import make
from training.loop import run as run_module
from training.loop import trainer
from training.loop.run import mixed_precision
from training.loop.step import BatchPosition, Learner
from training.scoring.scores import evaluate


@pytest.mark.parametrize("balance", ["none", "weights"])
def test_accumulated_batches_are_one_larger_batch(tmp_path, balance):
    # 36 images: the last of the larger batches of 16 has 4, which are 1 batch of 4
    photos = write_folder(tmp_path / "signs", {"go": 30, "stop": 9, "turn": 6})
    same_run = {"optimizer": "sgd", "lr": 0.05, "balance": balance}
    large = tiny_run(photos, tmp_path / "large", batch_size=16, **same_run)
    small = tiny_run(photos, tmp_path / "small", batch_size=4, accumulate=4, **same_run)

    trainer.fit(large, None)
    trainer.fit(small, None)

    assert same(weights(tmp_path / "large" / "last.pt"), weights(tmp_path / "small" / "last.pt"), rtol=1e-4, atol=1e-6)


def test_a_step_is_no_longer_than_its_gradient_clipped(photos, tmp_path):
    run = tiny_run(photos, tmp_path, optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=0.5, clip_norm=0.01)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    learner = Learner(run)
    learner.begin("all")

    learner.learn(*random_batch(), ALONE)

    moved = torch.cat([(tensor - before[name]).flatten() for name, tensor in run.model.state_dict().items()])
    assert moved.norm().item() == pytest.approx(0.5 * 0.01, rel=1e-2)


def test_frozen_norms_normalise_by_what_they_were_while_their_scale_learns(photos, tmp_path):
    settings = {"mode": "finetune", "weights": "none", "backbone": "resnet18", "lr": 0.01, "optimizer": "sgd"}
    run = tiny_run(photos, tmp_path, freeze_norm=True, **settings)
    images, targets = random_batch()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.model.eval()
    with torch.no_grad():
        expected = cross_entropy(run.model(images), targets, label_smoothing=run.config.label_smoothing)
    learner = Learner(run)
    learner.begin("all")

    outcome = learner.learn(images, targets, ALONE)

    assert outcome.loss == pytest.approx(expected.item(), rel=1e-5)
    after = run.model.state_dict()
    changed = {name.rpartition(".")[2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"weight", "bias"}
    assert not torch.equal(after["bn1.weight"], before["bn1.weight"])


def test_the_squared_loss_is_half_the_distance_of_the_sigmoids_in_training_and_validation(photos, tmp_path):
    run = tiny_run(photos, tmp_path, loss="squared", epochs=1, lr=0.0001)
    images, targets = random_batch()
    learner = Learner(run)
    learner.begin("all")
    with torch.no_grad():
        scores = 1 / (1 + torch.exp(-run.model(images)))
    expected = sum(((scores[row] - torch.eye(3)[label]) ** 2).sum() / 2 for row, label in enumerate(targets)) / 8

    assert learner.learn(images, targets, ALONE).loss == pytest.approx(expected.item(), rel=1e-5)

    (record,) = trainer.fit(run, None)
    found = evaluate(run.model, run.evaluation_batches("val"), run.data, run.device, "val")
    distance = 1 / (1 + np.exp(-found.logits)) - np.eye(3)[found.truth]
    assert record.val_loss == pytest.approx((distance**2).sum(1).mean() / 2, rel=1e-4)


def test_rare_classes_weigh_more_in_the_loss(photos, tmp_path):
    run = tiny_run(photos, tmp_path, balance="weights")
    images, targets = random_batch()
    learner = Learner(run)
    learner.begin("all")
    counts = torch.tensor([sum(s.label == k for s in run.data.part("train")) for k in range(3)])
    expected = cross_entropy(run.model(images), targets, weight=32 / (3 * counts))

    alone = ALONE._replace(weight=(32 / (3 * counts))[targets].sum().item())
    assert learner.learn(images, targets, alone).loss == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_loss_of_a_step_is_the_mean_over_its_images_by_their_weights_however_they_are_divided(
    photos, tmp_path, mixed
):
    run = tiny_run(photos, tmp_path, balance="weights", optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=0.5)
    images, _ = random_batch(16)
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 2, 2, 1, 2, 2, 2])  # halves of different weight
    counts = torch.tensor([sum(s.label == k for s in run.data.part("train")) for k in range(3)])
    shares = torch.nn.functional.one_hot(targets, 3).float()
    if mixed:
        shares = torch.cat([shares[:8].lerp(shares[:8].flip(0), 0.3), shares[8:].lerp(shares[8:].flip(0), 0.6)])
        targets = shares
    weighed = shares * (32 / (3 * counts))
    before = {name: tensor.detach().clone() for name, tensor in run.model.named_parameters()}
    expected = -(weighed * run.model(images).log_softmax(1)).sum() / weighed.sum()
    gradients = torch.autograd.grad(expected, list(run.model.parameters()))
    learner = Learner(run)
    learner.begin("all")

    halves = [
        learner.learn(
            images[part], targets[part], BatchPosition(part.start == 0, part.start == 8, 16, weighed.sum().item())
        )
        for part in (slice(0, 8), slice(8, 16))
    ]

    assert sum(half.loss_sum for half in halves) / 16 == pytest.approx(expected.item(), rel=1e-5)
    for (name, tensor), gradient in zip(run.model.named_parameters(), gradients, strict=True):
        moved = before[name] - tensor.detach()
        share = learner.optimizer.param_groups[0]["lr"]
        assert torch.allclose(moved, share * gradient, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("bad", ["image", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(photos, tmp_path, bad):
    run = tiny_run(photos, tmp_path, backbone="resnet18", ema=0.9)
    learner = Learner(run)
    learner.begin("all")
    learner.learn(*random_batch(), ALONE)
    images, targets = random_batch(seed=1)
    if bad == "image":
        images[0, 0, 0, 0] = math.nan
    else:
        run.model.fc.weight.register_hook(lambda gradient: gradient * math.inf)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    average = learner.average.state()["tensors"]["fc.weight"].clone()

    outcome = learner.learn(images, targets, ALONE)

    assert not math.isfinite(outcome.loss_sum)
    changed = [name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == []
    assert torch.equal(learner.average.state()["tensors"]["fc.weight"], average)


def with_scaler(run, overflowing):
    """A learner whose gradients are scaled as for float16, and overflow while `overflowing` says so."""
    learner = Learner(run)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=True)
    learner.begin("all")
    last = [parameter for parameter in run.model.parameters() if parameter.ndim == 2][-1]
    last.register_hook(lambda gradient: gradient * math.inf if overflowing() else gradient)
    return learner


def test_a_step_that_float16_cannot_hold_is_no_step_and_the_next_is_scaled_half_as_much(photos, tmp_path):
    run = tiny_run(photos, tmp_path, backbone="resnet18", ema=0.9, clip_norm=1.0, optimizer="adam")
    bad = [False]
    learner = with_scaler(run, lambda: bad[0])
    assert learner.learn(*random_batch(), ALONE) is not None
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    average = {name: tensor.clone() for name, tensor in learner.average.state()["tensors"].items()}
    steps = [state["step"].item() for state in learner.optimizer.state.values()]
    bad[0] = True

    outcome = learner.learn(*random_batch(seed=1), ALONE)

    assert outcome is None
    assert learner.scaler.get_scale() == 512.0
    changed = [name for name, tensor in run.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == []  # running statistics of batch normalisation included
    assert [state["step"].item() for state in learner.optimizer.state.values()] == steps
    assert all(torch.equal(tensor, average[name]) for name, tensor in learner.average.state()["tensors"].items())
    bad[0] = False
    assert math.isfinite(learner.learn(*random_batch(seed=1), ALONE).loss_sum)
    assert [state["step"].item() for state in learner.optimizer.state.values()] == [count + 1 for count in steps]


def test_a_run_with_a_step_that_float16_cannot_hold_ends_as_one_without_it(photos, tmp_path):
    def fitted(folder, bad):
        run = tiny_run(photos, folder, optimizer="sgd", epochs=1, momentum=0.9)
        now = [0]
        learner = with_scaler(run, lambda: now[0] == bad)
        results = []
        for seed in range(3):
            now[0] = seed
            results.append(learner.learn(*random_batch(seed=seed), ALONE))
        return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}, results

    skipping, results = fitted(tmp_path / "a", bad=1)
    run = tiny_run(photos, tmp_path / "b", optimizer="sgd", epochs=1, momentum=0.9)
    plain = Learner(run)
    plain.begin("all")
    for seed in (0, 2):
        plain.learn(*random_batch(seed=seed), ALONE)

    assert [result is None for result in results] == [False, True, False]
    assert same(skipping, run.model.state_dict(), rtol=1e-5, atol=1e-7)


def test_a_gradient_that_no_scale_makes_finite_is_a_bad_step_at_last(photos, tmp_path):
    run = tiny_run(photos, tmp_path, optimizer="sgd")
    learner = with_scaler(run, lambda: True)
    outcomes = [learner.learn(*random_batch(), ALONE) for _ in range(11)]

    assert outcomes[:10] == [None] * 10  # 1024 to 1
    assert outcomes[10] is not None
    assert outcomes[10].loss_sum == math.inf


@pytest.mark.parametrize(
    ("network", "with_amx", "without"),
    [
        (resnet18, torch.bfloat16, None),
        (mobilenet_v3_small, None, None),  # its convolutions are of single channels
        (lambda: nn.Conv2d(3, 8, 3), None, None),  # a small one
    ],
)
def test_a_processor_learns_in_bf16_where_it_has_units_for_what_the_network_computes(
    network, with_amx, without, monkeypatch
):
    made = network()
    for has_units, wanted in ((True, with_amx), (False, without)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has_units: {"amx_bf16": has}, raising=False)
        for amp, expected in (("auto", wanted), ("off", None), ("bf16", torch.bfloat16)):
            config = make(data="photos", output="run", amp=amp)
            assert mixed_precision(config, torch.device("cpu"), made) == expected


def test_an_older_torch_that_cannot_tell_of_the_processor_learns_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not run_module.processor_multiplies_bf16()


@pytest.mark.parametrize(("amp", "multiplied"), [("off", torch.float32), ("bf16", torch.bfloat16)])
def test_only_products_are_of_the_mixed_precision_and_the_run_says_which(photos, tmp_path, amp, multiplied):
    run = tiny_run(photos, tmp_path, amp=amp)
    learner = Learner(run)
    learner.begin("all")
    seen = []
    last = [layer for layer in run.model.modules() if isinstance(layer, nn.Linear)][-1]
    last.register_forward_hook(lambda layer, given, found: seen.append(found.dtype))

    learner.learn(*random_batch(), ALONE)

    assert seen == [multiplied]
    assert {weights.dtype for weights in run.model.parameters()} == {torch.float32}
    assert run.computed == ("cpu" if amp == "off" else "cpu in bf16")
