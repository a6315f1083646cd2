"""Owns: that the textbook networks learn real digits as well as they are known to. Leaves to others: the line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torchvision import models

from training.networks import backbones

HELD_OUT = 360
"""Of scikit-learn's 1797 digits (UCI Optical Recognition of Handwritten Digits, 8x8, 0 to 16): 20 %, drawn at random,
so that a writer's digits are in both parts. With the last 20 % of the file, by other writers, each reaches 0.91."""


def digits(side):
    """Images (N, 3, side, side) within +-1, and labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    small = torch.from_numpy(images.astype(np.float32)).reshape(-1, 1, 8, 8) / 8 - 1
    large = functional.interpolate(small, (side, side), mode="bilinear", align_corners=False)
    return large.expand(-1, 3, -1, -1), torch.from_numpy(labels)


def squared_error(logits, labels):
    """Half the squared distance of the outputs' sigmoids to the one-hot labels (Nielsen 2015, equation 6)."""
    distance = torch.sigmoid(logits) - functional.one_hot(labels, 10)
    return distance.square().sum(1).mean() / 2


def small_resnet():
    """The first two stages of torchvision's ResNet-18, behind a stem that keeps the few pixels: 0.7 M parameters."""
    model = models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, 10)
    return model


def held_out_accuracy(model, optimizer, loss, side, epochs, batch):
    images, labels = digits(side)
    train = len(labels) - HELD_OUT
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(train).split(batch):
            optimizer.zero_grad()
            loss(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        answers = model.eval()(images[train:]).argmax(1)
    return (answers == labels[train:]).double().mean().item()


def sgd(model, **settings):
    return torch.optim.SGD(model.parameters(), **settings)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_the_perceptron_with_sigmoid_and_squared_error_reaches_95_percent():
    model = backbones.build("mlp", 10)

    assert held_out_accuracy(model, sgd(model, lr=3.0), squared_error, side=28, epochs=20, batch=10) >= 0.95


def test_lenet5_reaches_97_percent():
    model = backbones.build("lenet5", 10)
    optimizer = sgd(model, lr=0.02, momentum=0.9, nesterov=True)

    assert held_out_accuracy(model, optimizer, functional.cross_entropy, side=32, epochs=8, batch=32) >= 0.97


def test_a_small_residual_network_reaches_98_percent():
    model = small_resnet()
    optimizer = sgd(model, lr=0.05, momentum=0.9, weight_decay=5e-4)

    assert held_out_accuracy(model, optimizer, functional.cross_entropy, side=8, epochs=4, batch=32) >= 0.98
