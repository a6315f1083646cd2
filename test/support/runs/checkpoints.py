"""Checkpoints made for tests."""

from __future__ import annotations

import torch

from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, UnknownRule
from training.checkpoint import UNCALIBRATED, Calibration, Checkpoint

MADE = Checkpoint(
    backbone="resnet18",
    task="multiclass",
    class_names=("stop", "große Zone"),
    units=(),
    scaling=(),
    input=InputSpec(48, 64, "letterbox", 1.0, "bicubic", IMAGENET_MEAN, IMAGENET_STD),
    model={"fc.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)},
    training={"mode": "probe", "metrics": {"val_top1": 0.5}},
    train_images=("/data/c.png",),
    val_images=("/data/a b.png",),
    calibration=Calibration(1.5, (), UnknownRule("distance", -0.4, 0.05, None, 0, ((1.0, 0.0), (0.0, 1.0)))),
    config={"lr": 1e-3, "augment": ["crop"]},
    resume={"optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "rng": [torch.get_rng_state()]},
)


CLASSES = ("go", "stop", "turn", "yield", "park")


def checkpoint_of(name, model, size, classes=CLASSES, val_images=()):
    preparation = InputSpec(*size, "squash", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    training = {"mode": "finetune", "weights": "none", "data": "signs", "data_sha256": "ab", "train_images": 9}
    training |= {"val_images": len(val_images), "metrics": {"val_top1": 0.5}}
    return Checkpoint(
        backbone=name,
        task="multiclass",
        class_names=tuple(classes),
        units=(),
        scaling=(),
        input=preparation,
        model=model.state_dict(),
        training=training,
        train_images=(),
        val_images=tuple(val_images),
        calibration=UNCALIBRATED,
        config={},
        resume=None,
    )
