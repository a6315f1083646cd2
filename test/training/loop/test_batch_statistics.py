"""Owns: batch normalisation by the statistics of new images: estimated, compared, taken or not, and used from then on.

Leaves to others: layers fitted to features (test_linear_solver), how sure a difference is (test/comparison), the flag
(test_training_config). Oracles: NumPy, torch's update_bn, scikit-learn.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny_images import write_folder
from tiny_run import same, weights
from torch import nn

from cnn_perception.comparison.difference import Difference
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, DataError
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.intervals import paired
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, export, train
from training.batches import feature_cache
from training.batches.loader import Batch
from training.calibration import embeddings
from training.config import make
from training.data.records import Sample
from training.loop import batch_statistics, linear_solver, probe
from training.loop.batch_statistics import Comparison, HeldOut
from training.loop.linear_solver import Features
from training.loop.run import open_run
from training.networks import backbones

CPU = torch.device("cpu")
SIZE = (32, 40)
NETWORK = "layers: conv 8 3x3 p1, dropout 0.5, bn, relu, conv 16 3x3 s2 p1, bn, relu, gap, fc"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def probe_run(photos, folder, **changes):
    shared = {"mode": "probe", "backbone": NETWORK, "weights": "none", "input_size": SIZE, "batch_size": 8}
    shared |= {"workers": 0, "device": "cpu", "adapt_norm": True}
    return open_run(make(data=str(photos), output=str(folder), **{**shared, **changes}))


def command_line(photos, folder, *more):
    words = ["--data", str(photos), "--output", str(folder), "--mode", "probe", "--backbone", NETWORK]
    words += ["--input-size", "32x40", "--batch-size", "8", "--workers", "0", "--device", "cpu", *more]
    return words if "--weights" in more else [*words, "--weights", "none"]


def network_with(state=None):
    torch.manual_seed(3)
    model = backbones.build(NETWORK, 3, size=SIZE).eval()
    if state is not None:
        model.load_state_dict(state)
    return model


def normalisers(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def prepared(paths):
    """Images as the robot prepares them, (n, 3, 32, 40)."""
    spec = make(data="d", output="o", input_size=SIZE).input
    return np.stack([preprocess(decode_file_bytes(Path(path).read_bytes()), spec) for path in paths])


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """Weights whose first statistics are of images a thousand times as bright: its ReLU lets nothing of ours pass."""
    model = network_with()
    with torch.no_grad():
        for layer in normalisers(model):
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.uniform_(-0.2, 0.2)
        normalisers(model)[0].running_mean.fill_(1000.0)
    path = tmp_path_factory.mktemp("weights") / "blind.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def taken(photos, blind, tmp_path_factory):
    """A run that has taken the new statistics."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("taken") / "run"
    assert train.main(command_line(photos, run, "--weights", str(blind), "--adapt-norm")) == EXIT_OK
    return run


# estimated


def test_statistics_of_the_first_layer_are_those_of_all_training_images_each_counting_as_much(photos, tmp_path):
    run = probe_run(photos, tmp_path, batch_size=12)  # 32 images: 12, 12 and 8
    part = run.data.part("train")
    state = {name: tensor.double().numpy() for name, tensor in run.model.state_dict().items()}
    (weight, bias) = (next(v for k, v in state.items() if k.endswith(end)) for end in ("weight", "bias"))
    padded = np.pad(prepared([sample.path for sample in part]).astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    maps = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True) + bias[:, None, None]
    order = np.arange(len(part))
    np.random.default_rng((run.config.seed, 0)).shuffle(order)
    variances = [maps[order[first : first + 12]].var(axis=(0, 2, 3)) for first in (0, 12, 24)]
    counts = np.array([12, 12, 8])
    unbiased = [variance * (n * 32 * 40) / (n * 32 * 40 - 1) for variance, n in zip(variances, counts, strict=True)]

    adapted = batch_statistics.estimate(run.model, run.batches_of(part, run.config.seed), CPU)

    first, second = normalisers(run.model)
    assert adapted == 2
    assert first.running_mean.numpy() == pytest.approx(maps.mean(axis=(0, 2, 3)), rel=1e-4, abs=1e-5)
    assert first.running_var.numpy() == pytest.approx(counts / 32 @ np.array(unbiased), rel=1e-4)
    assert (int(first.num_batches_tracked), int(second.num_batches_tracked)) == (3, 3)
    assert not any(module.training for module in run.model.modules())
    assert (first.momentum, second.momentum) == (0.1, 0.1)


def test_with_equal_batches_and_without_dropout_it_is_what_torch_makes_of_them(photos, tmp_path):
    run = probe_run(photos, tmp_path, backbone=NETWORK.replace("dropout 0.5, ", ""))
    loader = run.batches_of(run.data.part("train"), 7)
    expected = copy.deepcopy(run.model)
    torch.optim.swa_utils.update_bn([batch.images for batch in loader], expected)

    batch_statistics.estimate(run.model, loader, CPU)

    assert same(run.model.state_dict(), expected.state_dict(), rtol=1e-5, atol=1e-6)
    assert not same(batch_statistics.of(run.model), batch_statistics.of(network_with()))


def test_batches_mix_the_classes_and_are_drawn_by_the_seed(photos, tmp_path):
    run = probe_run(photos, tmp_path)
    part = run.data.part("train")
    drawn = [[batch.labels.tolist() for batch in run.batches_of(part, seed)] for seed in (0, 0, 1)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(set(labels)) > 1 for labels in drawn[0])


class Odd(nn.Module):
    """Layers of many kinds: what keeps no statistics, is none of ours, is not used, or is used twice."""

    def __init__(self):
        super().__init__()
        self.synchronised = nn.SyncBatchNorm(3)
        self.forgetful = nn.BatchNorm2d(3, track_running_stats=False)
        self.instance = nn.InstanceNorm2d(3, track_running_stats=True)
        self.unused = nn.BatchNorm2d(3, momentum=None)
        self.twice = nn.BatchNorm1d(3, affine=False)
        self.last = nn.Linear(3, 2)

    def forward(self, images):
        maps = self.instance(self.forgetful(self.synchronised(images)))
        pooled = self.twice(maps.mean((2, 3)))
        return self.last(self.twice(10 * pooled + 5))


def batches(*counts):
    random = torch.Generator().manual_seed(0)
    images = [torch.randn(count, 3, 4, 5, generator=random) + 3 for count in counts]
    return [Batch(torch.arange(len(one)), one, torch.zeros(len(one)), ()) for one in images]


def test_layers_of_every_kind_are_found_and_those_that_no_image_passes_keep_theirs():
    torch.manual_seed(0)
    model = Odd().eval()
    model.unused.running_mean.fill_(7.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shown = batches(6, 6, 1)  # of a single image there is no variance

    adapted = batch_statistics.estimate(model, shown, CPU)

    after = model.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert adapted == 2
    assert changed == {f"{layer}.{name}" for layer in ("synchronised", "twice") for name in STATISTICS}
    images = torch.cat([batch.images for batch in shown[:2]]).numpy()
    assert after["synchronised.running_mean"].numpy() == pytest.approx(images.mean(axis=(0, 2, 3)), rel=1e-5)
    # `forgetful` gives maps of mean 0; what is normalised by its batch, times 10 plus 5, has the mean 5
    assert after["twice.running_mean"].numpy() == pytest.approx([2.5] * 3, abs=1e-3)
    assert model.unused.momentum is None


def test_a_network_none_of_whose_layers_is_passed_stays_and_single_images_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 2)).eval()
    model.beside = nn.Module()
    model.beside.norm = nn.BatchNorm2d(3)
    model.forward = lambda images: model[1](model[0](images))
    before = batch_statistics.of(model)

    assert batch_statistics.estimate(model, batches(4), CPU) == 0
    assert same(batch_statistics.of(model), before)
    with pytest.raises(DataError, match="no two training images"):
        batch_statistics.estimate(model, batches(1, 0), CPU)
    assert same(batch_statistics.of(model), before)


def test_what_a_layer_of_timm_holds_stays_in_evaluation_mode():
    layers = pytest.importorskip("timm.layers", reason="needs the optional timm")
    torch.manual_seed(0)
    dropping = layers.BatchNormAct2d(3, drop_layer=functools.partial(nn.Dropout, 0.9))
    model = nn.Sequential(dropping, nn.BatchNorm2d(3)).eval()
    without = nn.Sequential(layers.BatchNormAct2d(3), nn.BatchNorm2d(3)).eval()

    assert [batch_statistics.estimate(one, batches(4, 4), CPU) for one in (model, without)] == [2, 2]

    assert same(batch_statistics.of(model), batch_statistics.of(without))


# compared


LABELS = np.arange(90) % 3


def samples(labels, **changes):
    made = [Sample(Path(f"{row}.png"), int(label), "train") for row, label in enumerate(labels)]
    return [dataclasses.replace(one, **{k: v[row] for k, v in changes.items()}) for row, one in enumerate(made)]


def meaning(task="multiclass", classes=3):
    names = tuple("abcdefgh"[:classes])
    return SimpleNamespace(task=task, class_names=names, units=("",) * classes, scaling=((0.0, 1.0),) * classes)


def noise(seed, rows=90, columns=5):
    return np.random.default_rng(seed).normal(0, 1, (rows, columns)).astype(np.float32)


def signal(strength, labels=LABELS):
    return noise(1) + np.float32(strength) * np.eye(5, dtype=np.float32)[labels]


def features_of(x, targets=LABELS):
    return Features(torch.from_numpy(np.asarray(x, np.float32)), torch.from_numpy(np.asarray(targets)))


def settings(**changes):
    return make(data="d", output="o", mode="probe", adapt_norm=True, **changes)


def held_out_by_scikit_learn(x, folds, decay):
    """Scores of each image by a regression on the images of the other folds."""
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    scores = np.empty((len(x), 3))
    for fold in np.unique(folds):
        inside = folds != fold
        # scikit-learn minimises the sum of the losses times C, plus half of the squared weights
        fitted = LogisticRegression(C=1 / (inside.sum() * decay), tol=1e-8, max_iter=5000).fit(
            x[inside], LABELS[inside]
        )
        scores[~inside] = fitted.predict_proba(x[~inside])
    return scores


def test_the_figures_are_those_of_scikit_learn_on_the_folds_of_a_probe():
    config = settings(weight_decay=0.1)
    shown = samples(LABELS)
    folds = linear_solver.folds(shown, config)
    x = [signal(1.5), signal(0.7)]
    scores = [held_out_by_scikit_learn(one, folds, 0.1) for one in x]
    right = [one.argmax(axis=1) == LABELS for one in scores]
    losses = [-np.log(one[np.arange(90), LABELS]) for one in scores]
    expected = paired(*right)

    found = batch_statistics.compare(features_of(x[0]), features_of(x[1]), shown, meaning(), config)

    for mine, hits, loss in zip((found.adapted, found.before), right, losses, strict=True):
        assert (mine.decay, mine.metric) == (0.1, pytest.approx(hits.mean()))
        assert mine.loss == pytest.approx(loss.mean(), abs=3e-3)
    assert found.images == 90
    assert found.right.value == pytest.approx(expected.difference.value)
    assert (found.right.low, found.right.high) == pytest.approx((expected.difference.low, expected.difference.high))
    assert found.loss.value == pytest.approx((losses[1] - losses[0]).mean(), abs=5e-3)
    assert found.loss.low < found.loss.value < found.loss.high


def test_each_kind_of_features_is_compared_at_its_own_best_penalty():
    config = settings()
    shown = samples(LABELS)
    folds = linear_solver.folds(shown, config)

    found = batch_statistics.compare(features_of(signal(4.0)), features_of(noise(2)), shown, meaning(), config)

    for mine, x in ((found.adapted, signal(4.0)), (found.before, noise(2))):
        scaled = linear_solver.Scale.of(features_of(x))(features_of(x))
        losses = linear_solver.cross_validate(scaled, "multiclass", 3, folds)
        assert mine.decay == min(losses, key=losses.get)
        assert mine.loss == pytest.approx(losses[mine.decay], rel=1e-5)
    assert found.adapted.decay < found.before.decay
    assert found.is_better


@pytest.mark.parametrize(
    ("ours", "theirs", "better"),
    [(3.0, 0.0, True), (0.0, 3.0, False), (1.0, 1.0, False)],
    ids=["better", "worse", "the same"],
)
def test_new_statistics_are_better_where_the_features_tell_more(ours, theirs, better):
    found = batch_statistics.compare(
        features_of(signal(ours)), features_of(signal(theirs)), samples(LABELS), meaning(), settings()
    )

    assert found.is_better is better


def test_by_chance_they_are_better_seldom():
    config = settings(weight_decay=1.0)
    taken = [
        batch_statistics.compare(
            features_of(noise(seed)), features_of(noise(1000 + seed)), samples(LABELS), meaning(), config
        ).is_better
        for seed in range(40)
    ]

    assert sum(taken) <= 4  # 2.5 % of 40 are expected; more than 4 have a chance of less than 1 in 250


def difference(low, high):
    return Difference(90, (low + high) / 2, low, high, 0.5, 0.1, "frame", 1, 90)


@pytest.mark.parametrize(
    ("loss", "right", "better"),
    [
        ((0.01, 0.2), (-0.02, 0.05), True),
        ((0.01, 0.2), None, True),
        ((-0.01, 0.2), (0.02, 0.05), False),
        ((0.0, 0.0), (0.0, 0.0), False),
        ((0.01, 0.2), (-0.05, -0.01), False),
        ((-0.2, -0.01), None, False),
    ],
)
def test_they_are_taken_where_the_loss_is_lower_beyond_chance_and_right_answers_are_not_fewer_beyond_chance(
    loss, right, better
):
    side = HeldOut(0.1, 0.9, 0.3)
    found = Comparison(90, "R2", side, side, right and difference(*right), difference(*loss))

    assert found.is_better is better
    assert found.in_words("as pretrained").endswith(": taken" if better else ": kept as pretrained")


def test_what_is_said_has_both_figures_their_difference_and_what_was_kept():
    sides = (HeldOut(0.1, 0.967, 0.1), HeldOut(1.0, 0.951, 0.12))
    found = Comparison(244, "top-1 accuracy", *sides, difference(-0.008, 0.040), difference(-0.01, 0.05))

    assert found.in_words("as pretrained") == (
        "adapted normalisation: held-out top-1 accuracy 0.967 with statistics of these images, 0.951 as pretrained, "
        "+1.6 points (95 %: -0.8 to +4.0), loss -0.02 (95 %: -0.05 to +0.01): kept as pretrained"
    )
    assert "0.951 as initialised" in found.in_words("as initialised")


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_several_classes_and_numbers_are_compared_by_their_loss_alone(task):
    targets = (noise(5, columns=2) > 0).astype(np.float32) if task == "multilabel" else noise(5, columns=2)
    shown = samples([0] * 90, values=[tuple(row) for row in targets.tolist()])
    clear = np.concatenate([targets + 0.2 * noise(6, columns=2), noise(7)], axis=1)

    found = batch_statistics.compare(
        features_of(clear, targets), features_of(noise(8), targets), shown, meaning(task, 2), settings()
    )

    assert found.is_better
    assert found.right is None
    assert "points" not in found.in_words("as pretrained")
    assert found.adapted.metric > found.before.metric
    title = {"multilabel": "mean average precision", "regression": "R2"}[task]
    assert found.in_words("as pretrained").startswith(f"adapted normalisation: held-out {title} 0.")


def test_images_of_a_group_are_one_event_so_that_few_groups_prove_nothing():
    x, before = features_of(signal(3.0)), features_of(noise(2))
    few = samples(LABELS, group=[f"drive {row // 18}" for row in range(90)])
    many = samples(LABELS, group=[f"drive {row // 3}" for row in range(90)])
    own = samples(LABELS, group=[f"{row}" for row in range(90)])

    found = [batch_statistics.compare(x, before, shown, meaning(), settings()) for shown in (few, many, own)]

    assert [one.loss.unit for one in found] == ["bag", "bag", "frame"]
    assert [one.loss.units for one in found] == [5, 30, 90]
    assert [one.is_better for one in found] == [False, True, True]


def test_neighbours_in_time_are_one_event_where_the_end_of_a_recording_or_times_of_one_group_are_held_out(capsys):
    x, before = features_of(signal(3.0)), features_of(noise(2))
    one_group = samples(LABELS, group=["one"] * 90)

    tail = batch_statistics.compare(x, before, samples(LABELS), meaning(), settings(split="tail"))
    assert capsys.readouterr().out == ""
    alone = batch_statistics.compare(x, before, one_group, meaning(), settings())

    assert (tail.loss.unit, alone.loss.unit) == ("time", "time")
    assert "chosen on other times of the same" in capsys.readouterr().out


def test_too_few_images_and_features_without_numbers_are_said_and_nothing_is_taken(tmp_path):
    few = features_of(noise(1, rows=2), [0, 1])
    broken = signal(3.0)
    broken[5, 2] = np.inf

    found = batch_statistics.compare(few, few, samples([0, 1]), meaning(), settings())
    other = batch_statistics.compare(features_of(broken), features_of(noise(2)), samples(LABELS), meaning(), settings())

    line = batch_statistics.note(tmp_path, found, "as pretrained")
    assert line == "adapted normalisation: too few training images to hold any out: kept as pretrained"
    assert batch_statistics.noted(tmp_path) == {"taken": False, "in_words": line}
    assert other == "the features are not finite"


# taken or kept


def test_statistics_that_hide_what_is_to_be_seen_are_replaced_and_nothing_else_is(photos, blind, tmp_path, capsys):
    run = probe_run(photos, tmp_path / "run", weights=str(blind))

    history = probe.fit(run)

    said = re.search(
        r"^adapted normalisation: held-out top-1 accuracy (\S+) with statistics of these images, (\S+) as pretrained, "
        r"\+(\S+) points \(95 %: \+\S+ to \+\S+\), loss -\S+ \(95 %: -\S+ to -\S+\): taken$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    now, before = float(said[1]), float(said[2])
    assert now > 0.8 > 0.5 > before
    assert float(said[3]) == pytest.approx(100 * (now - before), abs=0.11)
    saved, old = weights(tmp_path / "run" / "best.pt"), torch.load(blind)
    last = [name for name in saved if name.startswith([*saved][-1].rpartition(".")[0])]
    changed = {name for name in saved if not torch.equal(saved[name], old[name])} - {*last}
    assert changed == {name for name in saved if name.endswith(STATISTICS)}
    assert same(saved, weights(tmp_path / "run" / "last.pt"))
    assert history[-1].val_metric >= 0.75


def test_statistics_that_are_those_of_the_images_already_are_kept_bit_by_bit(photos, tmp_path, capsys):
    own = probe_run(photos, tmp_path / "first")
    batch_statistics.estimate(own.model, own.batches_of(own.data.part("train"), 0), CPU)
    torch.save(own.model.state_dict(), tmp_path / "own.pth")

    adapted = probe_run(photos, tmp_path / "adapted", weights=str(tmp_path / "own.pth"))
    probe.fit(adapted)
    said = capsys.readouterr().out
    plain = probe_run(photos, tmp_path / "plain", weights=str(tmp_path / "own.pth"), adapt_norm=False)
    probe.fit(plain)

    assert re.search(r"^adapted normalisation: .* \+0\.0 points .*: kept as pretrained$", said, re.MULTILINE)
    assert same(weights(tmp_path / "adapted" / "best.pt"), weights(tmp_path / "plain" / "best.pt"))
    assert same(batch_statistics.of(adapted.model), batch_statistics.of(own.model))
    assert "adapted normalisation" not in capsys.readouterr().out


def test_a_network_that_keeps_its_statistics_is_the_one_of_a_run_without_the_setting(
    photos, blind, tmp_path, monkeypatch
):
    monkeypatch.setattr(Comparison, "is_better", property(lambda _: False))
    adapted = probe_run(photos, tmp_path / "adapted", weights=str(blind))
    plain = probe_run(photos, tmp_path / "plain", weights=str(blind), adapt_norm=False)

    probe.fit(adapted)
    probe.fit(plain)

    assert same(weights(tmp_path / "adapted" / "best.pt"), weights(tmp_path / "plain" / "best.pt"))
    assert same(batch_statistics.of(adapted.model), batch_statistics.of(plain.model))
    assert np.array_equal(probe.cached(adapted)[0], probe.cached(plain)[0])


def test_neither_labels_nor_validation_images_have_a_part_in_the_statistics(photos, blind, tmp_path, monkeypatch):
    monkeypatch.setattr(Comparison, "is_better", property(lambda _: True))
    others = write_folder(tmp_path / "others", {"go": 4, "stop": 4}, first_seed=77)
    shown = iter(sorted(others.rglob("*.png")))
    plain = probe_run(photos, tmp_path / "plain", weights=str(blind))
    changed = probe_run(photos, tmp_path / "changed", weights=str(blind))
    told_otherwise = tuple(
        dataclasses.replace(sample, label=(sample.label + row) % 3)
        if sample.part == "train"
        else dataclasses.replace(sample, path=next(shown))
        for row, sample in enumerate(changed.data.samples)
    )
    changed = dataclasses.replace(changed, data=dataclasses.replace(changed.data, samples=told_otherwise))

    probe.fit(plain)
    probe.fit(changed)

    one, other = (weights(run.folder / "best.pt") for run in (plain, changed))
    assert not same(one, other)  # the layer has learned other labels
    assert all(torch.equal(one[name], other[name]) for name in one if name.endswith(STATISTICS))
    assert not all(torch.equal(one[name], torch.load(blind)[name]) for name in one if name.endswith("running_mean"))


@pytest.mark.parametrize("changes", [{}, {"grid": (2, 2)}, {"backbone": "mobilenet_v3_small"}])
def test_the_features_of_a_cut_network_are_those_of_its_new_statistics(changes, photos, tmp_path):
    run = probe_run(photos, tmp_path / "run", **changes)
    part = run.data.part("train")
    cut = probe.cut_of(run)
    before, _ = probe.features_of(run, cut, part)

    batch_statistics.estimate(run.model, run.batches_of(part, 0), CPU)

    after, _ = probe.features_of(run, cut, part)
    fresh = probe_run(photos, tmp_path / "fresh", **changes)
    fresh.model.load_state_dict(run.model.state_dict())
    assert np.array_equal(after, probe.features_of(fresh, probe.cut_of(fresh), part)[0])
    assert not np.allclose(before, after)


def test_layers_of_timm_are_adapted_and_where_a_grid_has_dissolved_them_that_is_refused(photos, tmp_path):
    pytest.importorskip("timm", reason="needs the optional timm")
    given = {"backbone": "timm:test_efficientnet", "input_size": (64, 96)}
    run = probe_run(photos, tmp_path / "run", **given)
    part = run.data.part("train")
    cut = probe.cut_of(run)
    before, _ = probe.features_of(run, cut, part)

    assert batch_statistics.estimate(run.model, run.batches_of(part, 0), CPU) > 5

    after, _ = probe.features_of(run, cut, part)
    fresh = probe_run(photos, tmp_path / "fresh", **given)
    fresh.model.load_state_dict(run.model.state_dict())
    assert np.array_equal(after, probe.features_of(fresh, probe.cut_of(fresh), part)[0])
    assert not np.allclose(before, after)
    dissolved = probe_run(photos, tmp_path / "grid", grid=(1, 1), **given)
    with pytest.raises(ConfigError, match="has no batch normalisation whose statistics could be adapted"):
        probe.fit(dissolved)


# used from then on


def test_the_run_keeps_what_was_compared_and_its_report_has_it(taken):
    report = json.loads((taken / "report.json").read_text())
    found = report["adapted_norm"]

    assert found == json.loads((taken / "adapted_norm.json").read_text())
    assert (found["taken"], found["images"], found["metric"]) == (True, 32, "top-1 accuracy")
    difference = found["adapted"]["metric"] - found["before"]["metric"]
    assert found["right"]["value"] == pytest.approx(difference)
    assert found["loss"]["value"] == pytest.approx(found["before"]["loss"] - found["adapted"]["loss"])
    assert found["in_words"] in (taken / "report.html").read_text()
    assert "--adapt-norm" in report["command"]
    assert report["val"]["top1"] >= 0.75


def test_a_run_without_the_setting_keeps_nothing_of_it(photos, tmp_path):
    assert train.main(command_line(photos, tmp_path / "run")) == EXIT_OK

    assert not (tmp_path / "run" / "adapted_norm.json").exists()
    assert "adapted_norm" not in json.loads((tmp_path / "run" / "report.json").read_text())


def test_a_run_that_is_repeated_or_resumed_gives_the_same(photos, blind, taken, tmp_path):
    expected = weights(taken / "best.pt")
    again = tmp_path / "again"
    words = command_line(photos, again, "--weights", str(blind), "--adapt-norm")

    assert train.main(words) == EXIT_OK
    assert same(weights(again / "best.pt"), expected)
    (again / "embeddings.npz").unlink()
    assert train.main(["--output", str(again), "--resume"]) == EXIT_OK

    assert same(weights(again / "best.pt"), expected)
    assert json.loads((again / "config.json").read_text())["adapt_norm"] is True


def test_features_are_found_by_other_runs_and_those_of_the_one_never_taken_for_the_other(
    photos, blind, taken, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(feature_cache.FOLDER, str(tmp_path / "kept"))
    probe.fit(probe_run(photos, tmp_path / "first", weights=str(blind)))
    capsys.readouterr()
    monkeypatch.setattr(probe, "predict", None)  # any image of which features are computed now fails
    probe.fit(probe_run(photos, tmp_path / "second", weights=str(blind)))
    monkeypatch.undo()
    monkeypatch.setenv(feature_cache.FOLDER, str(tmp_path / "kept"))
    found = re.findall(r"features of (\d+ of \d+) images are known", capsys.readouterr().out)
    plain = probe_run(photos, tmp_path / "plain", weights=str(blind), adapt_norm=False)
    probe.fit(plain)

    assert found == ["32 of 32", "32 of 32", "8 of 8"]
    assert "features of 32 of 40 images" in capsys.readouterr().out
    assert same(weights(tmp_path / "second" / "best.pt"), weights(taken / "best.pt"))
    kept, old = weights(tmp_path / "plain" / "best.pt"), torch.load(blind)
    assert all(torch.equal(kept[name], old[name]) for name in kept if name.endswith(STATISTICS))


def test_embeddings_of_a_run_are_found_only_by_a_network_with_the_statistics_that_made_them(photos, blind, tmp_path):
    run = probe_run(photos, tmp_path, weights=str(blind))
    own = batch_statistics.of(run.model)
    probe.fit(run)
    new = batch_statistics.of(run.model)

    seen = embeddings.of_run(run)["val"]
    straight = embeddings.predict(run.model, run.evaluation_batches("val"), run.device, "val")
    kept = probe.cached(run)
    batch_statistics.restore(run.model, own)

    assert not same(own, new)
    assert seen.logits == pytest.approx(straight.logits, rel=1e-4, abs=1e-4)
    assert kept is not None
    assert probe.cached(run) is None
    batch_statistics.restore(run.model, new)
    assert np.array_equal(probe.cached(run)[0], kept[0])


def test_the_model_file_answers_as_the_checkpoint_does(taken, blind, tmp_path):
    saved = checkpoint.load(taken / "best.pt")
    images = prepared(saved.val_images)
    model = network_with(saved.model)
    old = {**saved.model, **{name: v for name, v in torch.load(blind).items() if name.endswith(STATISTICS)}}
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
        without = network_with(old)(torch.from_numpy(images)).numpy()

    export.export(saved, tmp_path / "m.onnx", parity_images=4)

    outputs = OnnxModel(tmp_path / "m.onnx", SessionOptions(providers=("CPUExecutionProvider",))).run(images)
    logits = np.stack([output.logits for output in outputs])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(expected - without).max() > 0.1


# refused


@pytest.mark.parametrize("backbone", ["lenet5", "convnext_tiny", "vit_b_32", "layers: conv 4 3x3, relu, gap, fc"])
def test_a_network_without_statistics_is_refused_in_one_line_before_the_data_are_read(backbone, tmp_path, capsys):
    words = command_line(tmp_path / "nowhere", tmp_path / "run", "--adapt-norm")
    words[words.index(NETWORK)] = backbone
    words[words.index("32x40")] = "224x224"

    assert train.main(words) == EXIT_BAD_INPUT

    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: --adapt-norm: {backbone} has no batch normalisation whose statistics could be adapted; leave it out"
    )
    assert not (tmp_path / "run").exists()
