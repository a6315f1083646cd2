"""Owns: what is planned for a share of the time. Leaves to others: what it really takes (test_budget)."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from tiny_images import write_folder
from torch import nn

from cnn_perception.model.onnx_model import OnnxModel
from training import checkpoint, train
from training.auto import costs
from training.auto.candidate import Candidate
from training.auto.costs import Costs, Plan
from training.data.load import DataOptions, load_images
from training.export import export
from training.report import page

SCRATCH = Candidate("small", {"backbone": "lenet5", "mode": "scratch", "weights": "none"})
PROBE = Candidate("probe", {"backbone": "resnet18", "mode": "probe", "weights": "imagenet"})


def test_a_probe_is_tried_in_all_folds_or_not_at_all():
    assert list(costs.plans(PROBE, 100, 5)) == [Plan(100, 5)]


def test_folds_are_given_up_before_epochs_and_never_fewer_than_two():
    found = list(costs.plans(SCRATCH, 40, 5))

    assert found[:3] == [Plan(40, 5), Plan(40, 3), Plan(40, 2)]
    assert min(plan.folds for plan in found) == 2
    assert min(plan.epochs for plan in found) == 8
    assert all(one.epochs >= other.epochs for one, other in itertools.pairwise(found))


def test_usual_epochs_are_never_exceeded():
    assert {plan.epochs for plan in costs.plans(SCRATCH, 3, 2)} == {3}


@pytest.mark.parametrize(("folds", "seconds"), [(5, 40.0), (2, 16.0)])
def test_each_fold_learns_from_all_images_but_its_own(folds, seconds):
    """Of 10 s for all images, one of five folds takes 8 s."""
    assert costs.trial_s(10.0, 5, Plan(1, folds)) == seconds


@pytest.mark.parametrize(("folder", "grid", "images"), [("there", None, 5), ("", None, 65), ("there", (300, 300), 65)])
def test_a_probe_needs_no_features_again_that_it_has_kept(folder, grid, images, tmp_path, monkeypatch):
    """Of 60 images to learn from and 5 held out; nothing is kept without a folder, nor of features so large."""
    monkeypatch.setenv("CNN_PERCEPTION_CACHE", folder and str(tmp_path / folder))
    parts = {"train": [None] * 60, "val": [None] * 5}
    data = SimpleNamespace(part=parts.__getitem__)
    probe = Candidate("probe", PROBE.settings | {"grid": grid})

    assert Costs(0.0, 1.0, 1.0, 0.0).last_fit_s(probe, 100, data) == images


class Passes:
    """Counts the images that go through a network of torch or through its model file."""

    def __init__(self, monkeypatch):
        self.images = 0
        forward, run = nn.Conv2d.forward, OnnxModel.run

        def counted_forward(layer, image):
            if layer.in_channels == 3 and type(image.shape[0]) is int and not torch.jit.is_tracing():
                self.images += image.shape[0]
            return forward(layer, image)

        def counted_run(model, images, *rest, **more):
            self.images += len(images)
            return run(model, images, *rest, **more)

        monkeypatch.setattr(nn.Conv2d, "forward", counted_forward)
        monkeypatch.setattr(OnnxModel, "run", counted_run)


@pytest.mark.parametrize(("mode", "more"), [("probe", {}), ("scratch", {"epochs": 2, "augment": ()})])
def test_the_images_that_are_planned_for_are_those_that_go_through_the_network(mode, more, tmp_path, monkeypatch):
    """Planned in seconds of a machine on which an image takes one and nothing else takes any."""
    monkeypatch.setattr(page, "write", lambda *_: None)
    settings = {"backbone": "layers: conv 8 5x5 s2, relu, gap, fc", "mode": mode, "weights": "none", **more}
    settings |= {"device": "cpu", "input_size": (32, 32), "workers": 0}
    photos = write_folder(tmp_path / "photos", {"go": 60, "stop": 60})
    data = load_images(photos, DataOptions())
    candidate = Candidate("one", settings)
    planned = Costs(0.0, 1.0, 1.0, 0.0)
    fit_s = planned.fit_s(candidate, more.get("epochs", 1), data)
    seconds = fit_s + planned.after_s(candidate, data) - costs.PAGE_S
    passes = Passes(monkeypatch)

    train.train({**settings, "data": str(photos), "output": str(tmp_path / "run"), "baselines": "none"})
    export(checkpoint.load(tmp_path / "run" / "best.pt"), tmp_path / "model.onnx")

    assert passes.images <= costs.MARGIN * seconds
    assert seconds <= 1.2 * passes.images
