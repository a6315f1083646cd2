"""Owns: the head that fine-tuning begins with. Leaves to others: its layer (test_linear_solver).

Oracle: scikit-learn.
"""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny_run import same, tiny_run, weights

from cnn_perception.errors import ConfigError
from training.loop import linear_solver, probe, trainer
from training.networks.weights import classifier_name


def test_the_head_begins_as_a_logistic_regression_on_the_training_images(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(linear_solver, "WEIGHT_DECAYS", (0.1,))
    settings = {"mode": "finetune", "weights": "none", "head_init": "probe", "lr": 1e-12, "optimizer": "sgd"}
    run = tiny_run(photos, tmp_path, **settings)
    name = classifier_name(run.model)
    embeddings, labels = seen_by_last_layer(run, name)
    scaled = StandardScaler().fit(embeddings)
    # scikit-learn minimises the sum of the losses times C, plus half of the squared weights; torch's standard
    # deviation divides by n - 1
    x = (embeddings - scaled.mean_) / (scaled.scale_ * math.sqrt(len(labels) / (len(labels) - 1)))
    oracle = LogisticRegression(C=1 / (len(labels) * 0.1), tol=1e-8, max_iter=5000).fit(x, labels)

    trainer.fit(run, None)

    last = weights(tmp_path / "last.pt")
    logits = torch.from_numpy(embeddings) @ last[f"{name}.weight"].T + last[f"{name}.bias"]
    assert logits.softmax(1).numpy() == pytest.approx(oracle.predict_proba(x), abs=5e-3)


def seen_by_last_layer(run, name):
    found, labels = [], []
    handle = run.model.get_submodule(name).register_forward_pre_hook(lambda _layer, given: found.append(given[0]))
    run.model.eval()
    with torch.no_grad():
        for batch in run.evaluation_batches("train"):
            run.model(batch.images)
            labels.append(batch.labels)
    handle.remove()
    return torch.cat(found).numpy(), torch.cat(labels).numpy()


def test_a_continued_run_keeps_the_head_it_had(photos, tmp_path, monkeypatch):
    settings = {"mode": "finetune", "weights": "none", "head_init": "probe", "backbone": "lenet5"}
    trainer.fit(tiny_run(photos, tmp_path / "whole", epochs=2, **settings), None)
    ends = trainer.Trainer.finished
    monkeypatch.setattr(trainer.Trainer, "finished", lambda self: ends(self) or self.progress.epoch == 1)
    trainer.fit(tiny_run(photos, tmp_path / "parts", epochs=2, **settings), None)
    monkeypatch.undo()
    monkeypatch.setattr(probe, "start_head", lambda _run: pytest.fail("begun anew"))
    rest = tiny_run(photos, tmp_path / "parts", resume=True, epochs=2, **settings)

    trainer.fit(rest, rest.last())

    assert same(weights(tmp_path / "parts" / "last.pt"), weights(tmp_path / "whole" / "last.pt"))


def test_a_head_that_no_probe_can_begin_is_refused(photos, tmp_path):
    run = tiny_run(photos, tmp_path, mode="finetune", weights="none", head_init="probe", backbone="squeezenet1_1")

    with pytest.raises(ConfigError, match="--head-init random"):
        trainer.fit(run, None)
