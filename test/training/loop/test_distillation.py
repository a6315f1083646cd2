"""Owns: learning from a teacher. Leaves to others: the step that it is a part of (test_step)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_run import ALONE, random_batch, tiny_run, weights
from torch import nn
from torch.nn.functional import cross_entropy

from cnn_perception.errors import ConfigError, DataError
from training import checkpoint
from training.loop import distillation, trainer
from training.loop.step import Learner
from training.networks import backbones


@pytest.fixture(scope="module")
def taught(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    trainer.fit(tiny_run(photos, folder, backbone="squeezenet1_1", epochs=3), None)
    return folder / "best.pt"


def test_the_divergence_is_that_of_hintons_paper():
    outputs, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    p, q = torch.softmax(teacher / 2.5, 1), torch.softmax(outputs / 2.5, 1)

    expected = (p * (p.log() - q.log())).sum() / 5 * 2.5**2

    assert distillation.divergence(outputs, teacher, 2.5).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_comes_to_answer_as_its_teacher_does(photos, taught, tmp_path):
    run = tiny_run(
        photos, tmp_path, backbone="squeezenet1_1", teacher=str(taught), distil_weight=1.0, epochs=6, batch_size=4
    )
    teacher = backbones.build("squeezenet1_1", 3).eval()
    teacher.load_state_dict(weights(taught))
    batch, *_ = run.evaluation_batches("val")

    def distance():
        run.model.eval()
        with torch.no_grad():
            scores = [torch.log_softmax(model(batch.images), 1) for model in (run.model, teacher)]
        return nn.functional.kl_div(*scores, reduction="batchmean", log_target=True).item()

    before = distance()
    trainer.fit(run, None)

    assert distance() < before / 2


def test_the_loss_is_the_labels_and_the_teachers_by_their_shares(photos, taught, tmp_path):
    run = tiny_run(
        photos, tmp_path, backbone="squeezenet1_1", teacher=str(taught), distil_weight=0.25, distil_temperature=2.0
    )
    images, targets = random_batch()
    teacher = backbones.build("squeezenet1_1", 3).eval()
    teacher.load_state_dict(weights(taught))
    with torch.no_grad():
        own, theirs = run.model.train()(images), teacher(images)
        soft = nn.functional.kl_div((own / 2).log_softmax(1), (theirs / 2).softmax(1), reduction="batchmean") * 4
    learner = Learner(run)
    learner.begin("all")

    loss = learner.learn(images, targets, ALONE).loss

    assert loss == pytest.approx(0.75 * cross_entropy(own, targets).item() + 0.25 * soft.item(), rel=1e-4)


def test_a_teacher_of_other_classes_or_another_input_is_refused(photos, taught, tmp_path):
    saved = checkpoint.load(taught)
    checkpoint.save(tmp_path / "other.pt", dataclasses.replace(saved, class_names=("go", "slow", "stop")))
    size = dataclasses.replace(saved.input, height=64)
    checkpoint.save(tmp_path / "larger.pt", dataclasses.replace(saved, input=size))
    cases = (
        ("other.pt", ConfigError, "slow"),
        ("larger.pt", ConfigError, "--input-size"),
        ("gone.pt", DataError, "gone"),
    )
    for name, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            Learner(tiny_run(photos, tmp_path / "run", teacher=str(tmp_path / name)))
        assert "\n" not in str(caught.value)
