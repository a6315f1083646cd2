"""Owns: learning from teachers: what they are shown, what is learned from labels beside it.

Leaves to others: frames without labels (test_unlabelled), the step that it is a part of (test_step).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from checkpoints import MADE
from PIL import Image
from scipy.special import expit
from tiny_run import ALONE, random_batch, tiny_run, weights, write_photos
from torch import nn
from torch.nn.functional import cross_entropy

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.image.messages import read_image
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint
from training.batches.augment import Augmentation
from training.batches.loader import Images, Key
from training.config import make
from training.data.records import Sample
from training.distillation import teachers
from training.loop import trainer
from training.loop.step import Learner
from training.networks import backbones
from training.tasks.by_name import task_of

BODY = "layers: conv 12 3x3 s2 p1, relu, conv 16 3x3 s2 p1, relu, gap, fc"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "signs")


@pytest.fixture(scope="module")
def taught(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    trainer.fit(tiny_run(photos, folder, backbone="squeezenet1_1", epochs=3), None)
    return folder / "best.pt"


@pytest.fixture(scope="module")
def large(photos, tmp_path_factory):
    """A teacher that sees more pixels, in other colours."""
    folder = tmp_path_factory.mktemp("large")
    colours = {"mean": (0.5, 0.4, 0.3), "std": (0.3, 0.2, 0.25)}
    trainer.fit(
        tiny_run(photos, folder, backbone=BODY, dropout=None, epochs=4, lr=1e-2, input_size=(48, 60), **colours), None
    )
    return folder / "best.pt"


def test_the_divergence_is_that_of_hintons_paper():
    outputs, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = torch.softmax(teacher / 2.5, 1), torch.softmax(outputs / 2.5, 1)

    expected = (p * (p.log() - q.log())).sum() / 5 * 2.5**2

    found = task_of("multiclass").imitation(outputs, teacher[None], 2.5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_several_teachers_teach_the_mean_of_their_scores():
    outputs, teachers = torch.randn(5, 3), torch.randn(4, 5, 3)
    p, q = (teachers / 2).softmax(2).mean(0), (outputs / 2).softmax(1)

    found = task_of("multiclass").imitation(outputs, teachers, 2.0)

    assert found.item() == pytest.approx(((p * (p / q).log()).sum() / 5 * 4).item(), rel=1e-4)


def test_of_several_classes_an_image_each_is_taught_as_yes_or_no():
    outputs, teachers = torch.randn(5, 3), torch.randn(2, 5, 3)
    p, q = expit(teachers.numpy() / 2).mean(0), expit(outputs.numpy() / 2)
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum() / 5 * 4

    assert task_of("multilabel").imitation(outputs, teachers, 2.0).item() == pytest.approx(expected, rel=1e-4)


def test_numbers_are_taught_by_half_their_squared_distance():
    outputs, teachers = torch.randn(5, 3), torch.randn(2, 5, 3)

    found = task_of("regression").imitation(outputs, teachers, 4.0)

    assert found.item() == pytest.approx(((outputs - teachers.mean(0)) ** 2).mean().item() / 2, rel=1e-5)


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

    loss = learner.learn(images, targets, ALONE, run.teachers(images, (), ())).loss

    assert loss == pytest.approx(0.75 * cross_entropy(own, targets).item() + 0.25 * soft.item(), rel=1e-4)


def test_of_images_without_a_label_only_the_teacher_says_anything(photos, taught, tmp_path):
    run = tiny_run(
        photos, tmp_path, backbone="squeezenet1_1", teacher=str(taught), distil_weight=0.25, distil_temperature=2.0
    )
    images, targets = random_batch()
    unknown = torch.where(torch.arange(8) < 5, targets, -1)
    teacher = backbones.build("squeezenet1_1", 3).eval()
    teacher.load_state_dict(weights(taught))
    with torch.no_grad():
        own, theirs = run.model.train()(images), teacher(images)
        soft = nn.functional.kl_div((own / 2).log_softmax(1), (theirs / 2).softmax(1), reduction="batchmean") * 4
    learner = Learner(run)
    learner.begin("all")

    result = learner.learn(images, unknown, ALONE._replace(weight=5.0), run.teachers(images, (), ()))

    labels = cross_entropy(own[:5], targets[:5]).item()
    assert result.loss == pytest.approx(0.75 * labels + 0.25 * soft.item(), rel=1e-4)
    assert result.labelled == 5
    assert result.hits == (own[:5].argmax(1) == targets[:5]).sum()


def test_a_batch_without_any_label_is_learned_from_the_teacher_alone(photos, taught, tmp_path):
    run = tiny_run(photos, tmp_path, backbone="squeezenet1_1", teacher=str(taught), distil_weight=0.25)
    images, targets = random_batch()
    learner = Learner(run)
    learner.begin("all")

    result = learner.learn(
        images, torch.full_like(targets, -1), ALONE._replace(weight=5.0), run.teachers(images, (), ())
    )

    assert 0 < result.loss < 10
    assert (result.labelled, result.hits) == (0, 0)


def test_a_teacher_of_another_input_sees_the_same_image_prepared_as_it_was_trained(photos, large, tmp_path):
    run = tiny_run(photos, tmp_path, teacher=str(large), mixup=0.1)  # else its answers are asked for once
    saved = checkpoint.load(large)
    assert run.teachers.inputs == (saved.input,)
    loader, _ = run.training_batches()
    batch = next(iter(loader))
    expected = np.stack([preprocess(read_image(run.data.lessons[row].path), saved.input) for row in batch.rows])

    np.testing.assert_array_equal(batch.views[0], expected)
    network = backbones.build(saved.backbone, 3, size=(48, 60)).eval()
    network.load_state_dict(saved.model)
    with torch.no_grad():
        answers = network(torch.from_numpy(expected))
    found = run.teachers(batch.images, batch.views, ())[0]
    torch.testing.assert_close(found, answers, rtol=1e-4, atol=1e-5)


def test_a_network_of_timm_teaches_one_of_another_input_what_timm_answers(photos, tmp_path):
    """A transformer, whose positions are of its own size."""
    timm = pytest.importorskip("timm", reason="needs the optional timm")
    size = (64, 96)
    trainer.fit(
        tiny_run(photos, tmp_path / "teacher", backbone="timm:test_vit", dropout=None, epochs=1, input_size=size), None
    )
    saved = checkpoint.load(tmp_path / "teacher" / "best.pt")
    network = timm.create_model("test_vit", num_classes=3, img_size=size).eval()
    network.load_state_dict(saved.model)
    teacher = str(tmp_path / "teacher" / "best.pt")
    run = tiny_run(photos, tmp_path / "pupil", teacher=teacher, distil_weight=1.0, distil_temperature=2.0, mixup=0.1)
    loader, _ = run.training_batches()
    batch = next(iter(loader))
    seen = np.stack([preprocess(read_image(run.data.lessons[row].path), saved.input) for row in batch.rows])
    with torch.no_grad():
        answers = network(torch.from_numpy(seen))
        own = run.model.train()(batch.images)
        soft = nn.functional.kl_div((own / 2).log_softmax(1), (answers / 2).softmax(1), reduction="batchmean") * 4
    learner = Learner(run)
    learner.begin("all")

    taught = learner.teach(batch.rows, batch.images, batch.views)

    assert batch.views[0].shape == (8, 3, *size)
    assert batch.images.shape == (8, 3, 32, 40)
    torch.testing.assert_close(taught[0], answers, rtol=1e-4, atol=1e-5)
    assert learner.learn(batch.images, batch.labels, ALONE, taught).loss == pytest.approx(soft.item(), rel=1e-4)


def test_a_teacher_of_other_colours_alone_gets_the_pupils_image_in_its_own(photos, taught, tmp_path):
    run = tiny_run(photos, tmp_path, teacher=str(taught), mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4))
    saved = checkpoint.load(taught)
    loader, _ = run.training_batches()
    batch = next(iter(loader))
    own = np.stack([preprocess(read_image(run.data.lessons[row].path), saved.input) for row in batch.rows])
    teacher = backbones.build("squeezenet1_1", 3).eval()
    teacher.load_state_dict(saved.model)
    with torch.no_grad():
        expected = teacher(torch.from_numpy(own))

    assert batch.views == ()
    torch.testing.assert_close(run.teachers(batch.images, (), ())[0], expected, rtol=1e-3, atol=1e-4)


def test_of_images_that_no_epoch_changes_the_teacher_is_asked_once(photos, large, tmp_path):
    run = tiny_run(photos, tmp_path, teacher=str(large))
    loader, _ = run.training_batches()
    batch = next(iter(loader))
    learner = Learner(run)
    saved = checkpoint.load(large)
    own = np.stack([preprocess(read_image(run.data.lessons[row].path), saved.input) for row in batch.rows])
    run.teachers.network(0).register_forward_hook(lambda *_: pytest.fail("asked again"))
    network = backbones.build(saved.backbone, 3, size=(48, 60)).eval()
    network.load_state_dict(saved.model)
    with torch.no_grad():
        expected = network(torch.from_numpy(own))

    assert batch.views == ()
    torch.testing.assert_close(learner.teach(batch.rows, batch.images, ())[0], expected, rtol=1e-4, atol=1e-5)


def test_both_see_the_same_part_of_a_photograph_however_large_their_inputs_are(photos):
    config = make(data=str(photos), output="o", augment=("crop", "flip", "rotate", "translate", "scale", "color"))
    small = dataclasses.replace(config.input, height=64, width=64)
    big = dataclasses.replace(config.input, height=128, width=128)
    ramp = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8)
    augmentation = dataclasses.replace(Augmentation.of(config, "multiclass"), input=small)
    file = photos.parent / "ramp.png"
    Image.fromarray(np.stack([ramp] * 3, 2)).save(file)
    images = Images((Sample(file, 0, "train"),), small, augmentation, 0, None, (big,))

    for epoch in range(6):
        (item,) = images.__getitems__([Key(epoch, 0)])
        larger = np.asarray(item.views[0]).reshape(3, 64, 2, 64, 2).mean((2, 4))
        assert np.abs(item.tensor - larger).mean() < 0.08


def test_mixing_mixes_what_the_teacher_sees_likewise(photos, large, tmp_path, monkeypatch):
    run = tiny_run(photos, tmp_path, teacher=str(large), mixup=1.0)
    learning = trainer.Trainer(run)
    loader, order = run.training_batches()
    batch = next(iter(loader))
    seen = []
    monkeypatch.setattr(learning.learner, "teach", lambda rows, *given: seen.append(given))
    monkeypatch.setattr(learning.learner, "learn", lambda *given: None)

    learning.step(batch, order)

    images, views = seen[0]
    weights_of = np.linalg.lstsq(batch.images.flatten(1).T.numpy(), images.flatten(1).T.numpy(), rcond=None)[0]
    expected = np.tensordot(weights_of.T, batch.views[0].numpy(), 1)
    np.testing.assert_allclose(views[0], expected, atol=1e-2)


def test_teachers_of_other_classes_are_refused_and_one_that_is_gone(photos, taught, tmp_path):
    saved = checkpoint.load(taught)
    checkpoint.save(tmp_path / "other.pt", dataclasses.replace(saved, class_names=("go", "slow", "stop")))
    checkpoint.save(tmp_path / "several.pt", dataclasses.replace(saved, task="multilabel"))
    cases = (
        (("other.pt",), ConfigError, "slow"),
        (("several.pt",), ConfigError, "is multilabel"),
        (("gone.pt",), DataError, "gone"),
    )
    for names, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            tiny_run(photos, tmp_path / "run", teacher=tuple(str(tmp_path / name) for name in names))
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="other classes or numbers"):
        tiny_run(photos, tmp_path / "run", teacher=(str(taught), str(tmp_path / "other.pt")))


def test_numbers_of_a_teacher_are_standardised_as_its_pupils():
    saved = dataclasses.replace(MADE, task="regression", scaling=((10.0, 2.0),))

    found = teachers.rescaled(torch.tensor([[0.5]]), saved, ((1.0, 5.0),))

    assert found.item() == pytest.approx((0.5 * 2 + 10 - 1) / 5)
