"""Owns: `python -m training.baselines` and the baselines in a run's report.

Leaves to others: features (test_features), what is fitted and by which images it is chosen (test_fitting).
"""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from tiny_images import write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.intervals import wilson
from training import checkpoint, train
from training.baselines import command, comparison, methods
from training.baselines.command import main
from training.baselines.rows import Cost, Row
from training.data.records import Sample

COLOURS = "colour histogram + logistic regression"
EDGES = "HOG + linear SVM"
CONSTANT = "always the most frequent class"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """One thread; and no small network, which alone is slow: test_fitting has it."""
    torch.set_num_threads(1)
    everything = methods.all_of
    monkeypatch.setattr(methods, "all_of", lambda task: everything(task)[:-1])


def of_colour(label, rng):
    """Noise everywhere, whose every place is as likely; red or blue."""
    image = rng.integers(0, 100, (48, 48, 3), np.uint8)
    image[..., 2 * label] += 120
    return image


def of_shape(label, rng):
    """Stripes, upright or level, of two colours drawn anew for each image."""
    wave = np.arange(48) // int(rng.integers(5, 9)) + int(rng.integers(0, 2))
    stripes = np.broadcast_to(wave % 2, (48, 48)) if label == 0 else np.broadcast_to(wave[:, None] % 2, (48, 48))
    return rng.integers(0, 256, (2, 3), np.uint8)[stripes] // 2 + rng.integers(0, 60, (48, 48, 3), np.uint8)


def write_drawn(root, draw, counts=(40, 40)):
    for label, count in enumerate(counts):
        (root / "ab"[label]).mkdir(parents=True)
        for number in range(count):
            image = draw(label, np.random.default_rng(500 * label + number))
            Image.fromarray(image.astype(np.uint8)).save(root / "ab"[label] / f"{number:03}.png")
    return root


def arguments(data, *more):
    return ["--data", str(data), "--input-size", "48", "--resize-mode", "squash", "--val-fraction", "0.4", *more]


def read(folder):
    report = json.loads((folder / "baselines.json").read_text())
    return report, {row["name"]: row for row in report["rows"]}


def test_where_colour_alone_decides_the_histogram_of_colours_is_never_wrong(tmp_path, capsys):
    data = write_drawn(tmp_path / "data", of_colour)

    assert main(arguments(data, "--output", str(tmp_path / "out"))) == EXIT_OK

    report, by_name = read(tmp_path / "out")
    assert by_name[COLOURS]["top1"] == 1.0
    assert by_name[CONSTANT]["top1"] == 0.5
    found = wilson(32, 32)
    assert by_name[COLOURS]["interval"] == [found.low, found.high]
    shown = capsys.readouterr().out
    assert all(name in shown for name in by_name)
    assert f"1.000  {found.low:.3f} to {found.high:.3f}" in shown
    assert report["part"] == "val"


def test_where_shape_alone_decides_the_histogram_of_gradients_wins_and_colours_tell_nothing(tmp_path):
    data = write_drawn(tmp_path / "data", of_shape)

    assert main(arguments(data, "--output", str(tmp_path / "out"))) == EXIT_OK

    _, by_name = read(tmp_path / "out")
    assert by_name[EDGES]["top1"] == 1.0
    low, high = by_name[COLOURS]["interval"]
    assert low < 0.5 < high


def test_both_files_hold_the_same_figures_and_files_of_others_stay(tmp_path, capsys):
    data = write_drawn(tmp_path / "data", of_colour, (12, 12))
    out = tmp_path / "out"
    assert main(arguments(data, "--output", str(out))) == EXIT_OK
    report, _ = read(out)
    with (out / "baselines.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in report["rows"]]
    assert [float(row["top1"]) for row in rows] == [row["top1"] for row in report["rows"]]
    assert main(arguments(data, "--output", str(out))) == EXIT_OK  # its own are replaced

    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "baselines.csv").write_text("mine")
    assert main(arguments(data, "--output", str(tmp_path / "others"))) == EXIT_BAD_INPUT
    assert (tmp_path / "others" / "baselines.csv").read_text() == "mine"
    assert "choose another --output" in capsys.readouterr().err


def test_a_cap_on_the_training_images_is_said(tmp_path, capsys):
    data = write_drawn(tmp_path / "data", of_colour, (30, 30))

    assert main(arguments(data, "--most-images", "20", "--output", str(tmp_path / "out"))) == EXIT_OK

    _, by_name = read(tmp_path / "out")
    assert {row["training_images"] for row in by_name.values()} == {20}
    assert "learned from 20 of the 36 training images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--backbone", "resnet18"), "--backbone has no effect without --weights"),
        (("--most-images", "3"), "--most-images: 3 is too few"),
        (("--part", "test"), "has no images for --part test"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, more, said):
    data = write_drawn(tmp_path / "data", of_colour, (6, 6))

    assert main(arguments(data, *more)) == EXIT_BAD_INPUT

    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]


def test_without_data_or_a_run_nothing_is_done(capsys):
    assert main([]) == EXIT_BAD_INPUT
    assert "--data is missing" in capsys.readouterr().err


def training(data, run, *more):
    common = ["--data", str(data), "--output", str(run), "--backbone", "lenet5", "--weights", "none", "--device", "cpu"]
    common += ["--input-size", "32x40", "--resize-mode", "squash", "--batch-size", "8", "--workers", "0"]
    return [*common, "--augment", "none", "--cache-gb", "0", "--epochs", "2", *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network fine-tuned on three colours, whose report has the baselines, with images kept for the test."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("run")
    data = write_folder(root / "signs", {"go": 20, "stop": 25, "turn": 22})
    assert train.main(training(data, root / "run", "--seed", "3", "--test-fraction", "0.2")) == EXIT_OK
    return root / "run"


def asked(**own):
    given = {"given": {}, "checkpoint": None, "part": "val", "most_images": 1000, "output": None} | own
    return command.Asked(**given)


def split_of(run, part):
    with (run / "split.csv").open() as file:
        return [row["path"] for row in csv.DictReader(file) if row["part"] == part]


def test_the_split_is_that_of_a_training_with_the_same_options(run):
    given = {"data": str(run.parent / "signs"), "seed": 3, "test_fraction": 0.2}

    setting = command._of_data(asked(given=given))

    assert [str(sample.path) for sample in setting.samples] == split_of(run, "val")
    assert [str(sample.path) for sample in setting.data.part("train")] == split_of(run, "train")
    other = command._of_data(asked(given=given | {"seed": 4}))
    assert [str(sample.path) for sample in other.samples] != split_of(run, "val")


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_run_is_compared_on_its_own_split_beside_its_networks_own_answers(run, tmp_path, capsys, part):
    words = ["--checkpoint", str(run / "best.pt"), "--part", part, "--output", str(tmp_path)]

    assert main([*words, "--device", "cpu"]) == EXIT_OK

    report, by_name = read(tmp_path)
    own = by_name["lenet5, this run"]
    assert own["images"] == len(split_of(run, part))
    assert "features of lenet5, this run + logistic regression" in by_name
    weights = checkpoint.load(run / "best.pt").model
    assert own["size_bytes"] == sum(tensor.nbytes for tensor in weights.values())
    recorded = json.loads((run / "report.json").read_text())
    assert own["fit_s"] == recorded["seconds"]["training"]
    if part == "val":
        assert own["top1"] == recorded["val"]["top1"]
        cheap = {row["name"]: row for row in recorded["baselines"]["rows"]}
        for name in (CONSTANT, COLOURS, EDGES):
            assert (by_name[name]["top1"], by_name[name]["chosen"]) == (cheap[name]["top1"], cheap[name]["chosen"])
    compared = report["comparison"]
    plain = [row for row in report["rows"] if not row["of_network"]]
    assert compared["tried"] == len(plain)
    assert by_name[compared["baseline"]]["top1"] == max(row["top1"] for row in plain)
    assert compared["in_words"] in capsys.readouterr().out


def test_a_runs_own_split_cannot_be_changed(run, capsys):
    assert main(["--checkpoint", str(run / "best.pt"), "--val-fraction", "0.5"]) == EXIT_BAD_INPUT
    assert "--val-fraction: is that of the run of --checkpoint; leave it out" in capsys.readouterr().err


def test_other_images_than_the_networks_are_told(run, tmp_path, capsys):
    other = write_folder(tmp_path / "other", {"go": 8, "stop": 8, "turn": 8}, first_seed=500)
    assert main(["--checkpoint", str(run / "best.pt"), "--data", str(other), "--device", "cpu"]) == EXIT_OK
    assert "beware: the network was trained on other images than the baselines" in capsys.readouterr().out

    foreign = write_folder(tmp_path / "foreign", {"x": 8, "y": 8})
    assert main(["--checkpoint", str(run / "best.pt"), "--data", str(foreign)]) == EXIT_BAD_INPUT
    assert "its classes are not those of" in capsys.readouterr().err


def test_the_report_of_a_run_says_whether_the_network_is_worth_its_cost(run):
    report, page = json.loads((run / "report.json").read_text()), (run / "report.html").read_text()

    found = report["baselines"]
    assert [row["name"] for row in found["rows"]] == [CONSTANT, COLOURS, EDGES, "the network"]
    assert found["rows"][-1]["top1"] == report["val"]["top1"]
    assert found["rows"][-1]["interval"] == report["val"]["intervals"]["top1"]
    assert "Is the network worth its cost here?" in page
    for row in found["rows"]:
        assert f"<td>{row['name']}</td><td>{row['top1']:.3f}</td>" in page
    assert f"is the network worth its cost here? {found['comparison']['verdict']}: " in page
    assert report["seconds"]["baselines"] > 0


def test_without_baselines_a_run_says_how_to_have_them(run, tmp_path, capsys):
    data = run.parent / "signs"

    assert train.main(training(data, tmp_path / "run", "--mode", "scratch", "--epochs", "1")) == EXIT_OK

    assert "baselines" not in json.loads((tmp_path / "run" / "report.json").read_text())
    assert "Is the network worth" not in (tmp_path / "run" / "report.html").read_text()
    assert f"python -m training.baselines --checkpoint {tmp_path / 'run' / 'best.pt'}" in capsys.readouterr().out


def row_of(name, outputs, truth, *, of_network=False, task="multiclass"):
    """Answers to images 0.png, 1.png and so on, which show classes (n,) or numbers (n, 1)."""
    labels, values = (truth, [()] * len(truth)) if task == "multiclass" else ([0] * len(truth), map(tuple, truth))
    shown = enumerate(zip(labels, values, strict=True))
    samples = tuple(Sample(f"{number}.png", int(label), "val", numbers) for number, (label, numbers) in shown)
    data = SimpleNamespace(task=task, class_names=("a", "b"), units=("", ""), scaling=((0.0, 1.0),))
    return Row(name, of_network, "", 10, Cost(1.0, 2.0, 3000), samples, np.asarray(outputs, np.float32), data)


def answers(right, truth):
    """Outputs that are right where they are said to be."""
    return np.eye(2)[np.where(right, truth, 1 - truth)]


@pytest.mark.parametrize(
    ("gained", "lost", "verdict"), [(12, 2, "yes"), (2, 12, "no"), (6, 4, "not shown"), (0, 0, "not shown")]
)
def test_the_statement_is_mcnemars_exact_test_on_the_same_images(gained, lost, verdict):
    truth = np.arange(60) % 2
    ours, theirs = np.ones(60, bool), np.ones(60, bool)
    ours[:lost] = False
    theirs[lost : lost + gained] = False
    best = row_of("best", answers(theirs, truth), truth)
    worse = row_of("worse", answers(np.zeros(60, bool), truth), truth)
    of_network = row_of("features of it", answers(np.ones(60, bool), truth), truth, of_network=True)

    found = comparison.compare(row_of("net", answers(ours, truth), truth), [worse, best, of_network])

    assert (found.baseline, found.tried) == ("best", 2)
    assert (found.paired.gained, found.paired.lost) == (gained, lost)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.paired.chance == pytest.approx(expected)
    assert found.verdict == verdict
    assert f"{gained} are right by the network alone and {lost} by the baseline alone" in found.in_words()
    for estimate in (wilson(60 - lost, 60), wilson(60 - gained, 60)):
        assert f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})" in found.in_words()


def test_numbers_are_compared_by_their_error_on_each_image():
    truth = np.linspace(-1, 1, 40)[:, None]
    near = row_of("net", truth + 0.1, truth, task="regression")
    far = row_of("ridge", truth + np.where(np.arange(40) % 2, 0.5, 0.3)[:, None], truth, task="regression")

    found = comparison.compare(near, [far])

    assert found.paired is None
    assert found.difference.value == pytest.approx(0.3)
    assert found.verdict == "yes"
    assert comparison.compare(far, [near]).verdict == "no"
    assert "+0.3 better on average" in found.in_words()


def test_only_images_that_both_answered_are_compared():
    truth = np.arange(10) % 2
    net = row_of("net", answers(np.ones(10, bool), truth), truth)
    part = row_of("part", answers(np.zeros(4, bool), truth[:4]), truth[:4])

    found = comparison.compare(net, [part])

    assert (found.paired.images, found.paired.gained) == (4, 4)
    assert comparison.compare(net, []) is None
