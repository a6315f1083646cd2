"""Owns: several networks as one model file: the mean of their scores, what is fitted to the whole, and on what.

Leaves to others: the file of one network (test_export), the rule's share of false alarms (test_exported_rule).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import checkpoint_of
from scipy import optimize
from scipy.special import expit
from tiny_images import write_folder
from tiny_run import tiny_run
from torch import nn

from cnn_perception import errors
from cnn_perception.image.messages import read_image
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline.pipeline import Pipeline
from training import checkpoint, export
from training.calibration import embeddings, fit, untouched
from training.calibration.whole import described, require_together
from training.checkpoint import Calibration
from training.graphs.parity import prepared_image
from training.loop import trainer
from training.networks import backbones, build

CPU = SessionOptions(providers=("CPUExecutionProvider",))
BODY = "conv 12 3x3 s2 p1, relu, conv 16 3x3 s2 p1, relu"
COUNTS = {"go": 20, "stop": 22, "turn": 21}


def trained(data, folder, **changes):
    """The best.pt of a tiny run, calibrated as training does."""
    run = tiny_run(data, folder, **{"epochs": 6, "lr": 1e-2, "dropout": None, **changes})
    trainer.fit(run, None)
    fitted = fit.of_run(run, embeddings.of_run(run))
    saved = checkpoint.load(folder / "best.pt")
    checkpoint.save(folder / "best.pt", dataclasses.replace(saved, calibration=fitted.calibration))
    return folder / "best.pt"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", COUNTS)


@pytest.fixture(scope="module")
def members(photos, tmp_path_factory):
    """Two networks of one division, of which one was trained with other colours, and a third of another division."""
    folder = tmp_path_factory.mktemp("members")
    own = {"mean": (0.5, 0.4, 0.3), "std": (0.3, 0.2, 0.25)}
    trained(photos, folder / "a", backbone=f"layers: {BODY}, gap, fc")
    trained(photos, folder / "b", backbone=f"layers: {BODY}, gap, fc 12, relu, fc", **own)
    trained(photos, folder / "c", backbone=f"layers: {BODY}, gap, fc", seed=7)
    return [folder / name / "best.pt" for name in "abc"]


def arguments(paths, output, *options):
    return ["--checkpoint", *map(str, paths), "--output", str(output), *map(str, options)]


@pytest.fixture(scope="module")
def pair(members, tmp_path_factory):
    output = tmp_path_factory.mktemp("pair") / "pair.onnx"
    assert export.main(arguments(members[:2], output)) == errors.EXIT_OK
    return output


def of_torch(path, image):
    """Logits of a checkpoint's network for an image file, prepared as its own training did."""
    saved = checkpoint.load(path)
    with torch.no_grad():
        return build.restore(saved).eval()(torch.from_numpy(prepared_image(image, saved.input, "validation")[None]))[0]


def test_its_scores_are_the_mean_of_its_members_scores_over_their_temperatures(members, pair):
    saved = [checkpoint.load(path) for path in members[:2]]
    assert saved[0].input != saved[1].input
    for name in saved[0].val_images[:5]:
        logits = [of_torch(path, Path(name)) for path in members[:2]]
        expected = sum((z / one.calibration.temperature).softmax(0) for z, one in zip(logits, saved, strict=True)) / 2

        (found,) = OnnxModel(pair, CPU).run(prepared_image(Path(name), saved[0].input, "validation")[None])

        np.testing.assert_allclose(np.exp(found.logits), expected.numpy(), atol=1e-4)


def test_its_temperature_is_that_at_which_the_mean_scores_explain_the_common_validation_images_best(members, pair):
    saved = checkpoint.load(members[0])
    fitted = [checkpoint.load(path).calibration.temperature for path in members[:2]]
    mean = []
    for name in saved.val_images:
        logits = [of_torch(path, Path(name)) for path in members[:2]]
        mean.append(sum((z / t).double().softmax(0) for z, t in zip(logits, fitted, strict=True)).numpy() / 2)
    truth = np.array(saved.val_targets)[:, 0]

    def loss(inverse):
        scores = np.array(mean) ** inverse
        told = scores[np.arange(len(truth)), truth] / scores.sum(axis=1)
        return -np.log(told).sum() + (inverse - 1) ** 2 / 2

    found = optimize.minimize_scalar(loss, bounds=(0.01, 100), method="bounded", options={"xatol": 1e-6})
    assert OnnxModel(pair, CPU).spec.temperature == pytest.approx(1 / found.x, rel=1e-3)


def test_the_certificate_covers_every_output_of_the_whole(pair):
    parity = OnnxModel(pair, CPU).spec.parity

    assert {check.output for check in parity.outputs} == {"logits", "scores", "embedding", "activation"}
    assert parity.source == "validation"
    assert parity.top1_agreement == 1.0


def test_its_map_is_the_gradient_of_the_logarithm_of_the_mean_score_with_each_softmax_held(members, pair):
    saved = [checkpoint.load(path) for path in members[:2]]
    name = Path(saved[0].val_images[0])
    (found,) = OnnxModel(pair, CPU).run(prepared_image(name, saved[0].input, "validation")[None])
    top = int(found.logits.argmax())
    terms, features = [], []
    for one in saved:
        network = build.restore(one).eval()
        layers = [module for module in network.modules() if isinstance(module, nn.ReLU)][:2]
        seen = []
        layers[-1].register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
        logits = network(torch.from_numpy(prepared_image(name, one.input, "validation")[None]))[0]
        scaled = logits / one.calibration.temperature
        terms.append(scaled[top] - scaled.logsumexp(0).detach())
        features.append(seen[0])
    gradients = torch.autograd.grad(torch.stack(terms).logsumexp(0), features)
    expected = sum(
        (gradient.mean((2, 3), keepdim=True) * own).sum(1)[0] for gradient, own in zip(gradients, features, strict=True)
    )

    np.testing.assert_allclose(
        found.activation, expected.detach().numpy(), atol=1e-3 * float(expected.detach().abs().max())
    )


def test_its_embedding_holds_each_members_at_the_same_length(pair, members):
    saved = checkpoint.load(members[0])
    image = prepared_image(Path(saved.val_images[0]), saved.input, "validation")[None]

    (found,) = OnnxModel(pair, CPU).run(image)

    assert np.linalg.norm(found.embedding) == pytest.approx(np.sqrt(2), rel=1e-4)


def test_nothing_is_fitted_to_an_image_that_a_member_was_trained_on(members):
    saved = [checkpoint.load(path) for path in members]

    kept = untouched.of_members(saved)

    trained_on = {path for one in saved for path in one.train_images}
    validated = {path for one in saved for path in one.val_images}
    assert {str(sample.path) for sample in kept} == validated - trained_on
    assert validated & trained_on
    assert all(sample.path.parent.name == saved[0].class_names[sample.label] for sample in kept)


def test_a_copy_of_a_training_image_is_known_by_its_content(members, tmp_path):
    saved = [checkpoint.load(path) for path in members[:2]]
    copy = tmp_path / "other.png"
    copy.write_bytes(Path(saved[0].train_images[0]).read_bytes())
    told = dataclasses.replace(
        saved[1], val_images=(*saved[1].val_images, str(copy)), val_targets=(*saved[1].val_targets, (0,))
    )

    kept = untouched.of_members([saved[0], told])

    assert copy not in {sample.path for sample in kept}
    assert len(kept) == len(saved[0].val_images)


def test_an_image_that_a_member_was_trained_on_without_its_label_is_known_too(members):
    saved = [checkpoint.load(path) for path in members[:2]]
    first, *others = saved[0].val_images

    kept = untouched.of_members([saved[0], dataclasses.replace(saved[1], unlabelled_images=(first,))])

    assert {str(sample.path) for sample in kept} == {*others}


def folds_of(path, folder):
    """Two checkpoints, nearly alike, that validated on each other's training images."""
    saved = checkpoint.load(path)
    half = len(saved.train_images) // 2
    images, targets = saved.train_images, saved.train_targets
    sides = (slice(None, half), slice(half, None))
    for number, (own, other) in enumerate((sides, sides[::-1])):
        checkpoint.save(
            folder / f"{number}.pt",
            dataclasses.replace(
                saved,
                model={name: value * (1 + number / 1000) for name, value in saved.model.items()},
                train_images=images[own],
                train_targets=targets[own],
                val_images=images[other],
                val_targets=targets[other],
            ),
        )
    return [folder / "0.pt", folder / "1.pt"]


def test_folds_of_one_cross_validation_are_not_calibrated_on_each_others_images(members, photos, tmp_path, capsys):
    paths = folds_of(members[0], tmp_path)

    assert export.main(arguments(paths, tmp_path / "f.onnx")) == errors.EXIT_OK
    spec = OnnxModel(tmp_path / "f.onnx", CPU).spec
    assert (spec.temperature, spec.unknown, spec.training.val_images) == (1.0, None, 0)
    assert "not calibrated as a whole" in capsys.readouterr().out

    assert export.main(arguments(paths, tmp_path / "f.onnx", "--calibrate-on", photos)) == errors.EXIT_OK
    spec = OnnxModel(tmp_path / "f.onnx", CPU).spec
    assert spec.training.val_images == len(checkpoint.load(members[0]).val_images)
    assert spec.unknown.method == "distance"
    assert spec.unknown.known_images == spec.training.val_images


def test_smaller_precisions_and_a_gallery_are_made_and_measured_as_of_one_network(members, tmp_path):
    for name, options in {"int8": ("--int8", "--max-accuracy-loss", 0.2), "fp16": ("--fp16",)}.items():
        code = export.main(arguments(members[:2], tmp_path / f"{name}.onnx", *options, "--gallery", 2))
        spec = OnnxModel(tmp_path / f"{name}.onnx", CPU).spec

        assert code == errors.EXIT_OK
        assert spec.precision.precision == name
        assert spec.precision.images == spec.training.val_images
        assert len(spec.gallery.names) == 6


def test_the_robots_pipeline_answers_with_it(pair, members):
    saved = checkpoint.load(members[0])
    pipeline = Pipeline(OnnxModel(pair, CPU))

    answers = [pipeline.recognise(read_image(name)) for name in saved.val_images]

    right = [answer.top == label for answer, (label,) in zip(answers, saved.val_targets, strict=True)]
    assert np.mean(right) == pytest.approx(pipeline.spec.training.metrics["val_top1"])
    assert np.mean(right) > 0.8


def test_networks_of_other_cells_have_no_map_together_and_say_so(members, photos, tmp_path, capsys):
    other = trained(photos, tmp_path / "run", backbone="lenet5", epochs=1)

    assert export.main(arguments([members[0], other], tmp_path / "m.onnx")) == errors.EXIT_OK
    assert OnnxModel(tmp_path / "m.onnx", CPU).spec.activation is None
    said = capsys.readouterr().out.splitlines()
    assert "activation  none: the networks do not all have features of the same cells" in said
    assert "score map   none: not made of several networks in one file" in said
    with pytest.raises(errors.ModelError, match="has no score map: none is made of several networks in one file"):
        OnnxModel(tmp_path / "m.onnx", CPU).score_map_place()


def test_networks_that_do_not_belong_together_are_refused_in_a_line(members, tmp_path, capsys):
    saved = checkpoint.load(members[0])
    others = {
        "classes": dataclasses.replace(saved, class_names=("go", "slow", "turn")),
        "height": dataclasses.replace(saved, input=dataclasses.replace(saved.input, height=64)),
        "multilabel": dataclasses.replace(saved, task="multilabel"),
    }
    for message, other in others.items():
        checkpoint.save(tmp_path / "other.pt", other)

        assert export.main(arguments([members[0], tmp_path / "other.pt"], tmp_path / "m.onnx")) == errors.EXIT_BAD_INPUT
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1
        assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(errors.ConfigError, match="named twice"):
        require_together([saved, saved], ["a/best.pt", "a/../a/best.pt"])
    copied = checkpoint.load(members[0])
    with pytest.raises(errors.ConfigError, match=r"--checkpoint copy\.pt: holds the weights of a\.pt"):
        require_together([saved, checkpoint.load(members[1]), copied], ["a.pt", "b.pt", "copy.pt"])


def untrained(task, seed):
    """A checkpoint of random weights without images, of any task."""
    torch.manual_seed(seed)
    model = backbones.build(f"layers: {BODY}, gap, fc", 3, size=(32, 40)).eval()
    for layer in (module for module in model.modules() if isinstance(module, nn.Linear)):
        nn.init.normal_(layer.weight, std=2.0)
    made = checkpoint_of(f"layers: {BODY}, gap, fc", model, (32, 40), ("a", "b", "c"))
    if task == "multilabel":
        return dataclasses.replace(
            made, task=task, calibration=Calibration(1.0 + seed, (0.2, 0.3, 0.4 + seed / 10), None)
        )
    scaling = ((1.0, 2.0 + seed), (0.0, 1.0), (-1.0, 0.5))
    return dataclasses.replace(made, task=task, units=("m", "", "rad"), scaling=scaling)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_of_several_classes_each_score_is_the_mean_and_of_numbers_each_number_in_its_unit(task, tmp_path):
    saved = [untrained(task, seed) for seed in (0, 1)]
    networks = [export.network_of(one) for one in saved]
    whole = described(saved, networks, ())
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 40), np.float32)
    with torch.no_grad():
        outputs = [build.restore(one).eval()(torch.from_numpy(images)).numpy() for one in saved]
    if task == "multilabel":
        expected = (expit(outputs[0]) + expit(outputs[1] / 2)) / 2
    else:
        expected = np.mean([z * np.array(one.scaling)[:, 1] + np.array(one.scaling)[:, 0]
                            for z, one in zip(outputs, saved, strict=True)], axis=0)  # fmt: skip

    spec = export.export(whole.checkpoint, tmp_path / "m.onnx", members=networks)
    found = np.stack([answer.logits for answer in OnnxModel(tmp_path / "m.onnx", CPU).run(images)])

    np.testing.assert_allclose(expit(found) if task == "multilabel" else found, expected, rtol=1e-4, atol=1e-4)
    assert spec.thresholds == (pytest.approx((0.2, 0.3, 0.45)) if task == "multilabel" else ())
    assert "not calibrated" in whole.notes[0]
