"""Owns: what a run leaves for a human: report.html, its diagrams, its worst images, its command and versions.

Leaves to others: what is fitted (test_fit), the scores (test_metrics), the course of training (test_train).
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from paths import ROOT
from tiny_images import write_folder
from torch.nn import functional

from cnn_perception import metrics
from cnn_perception.errors import EXIT_OK
from cnn_perception.pages.rendering import render
from training import checkpoint, evaluate
from training.config import make, parse
from training.data.records import Sample
from training.report import diagrams, provenance, worst_images
from training.tasks.by_name import task_of
from training.train import main


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def arguments(data, run, *more):
    common = ["--data", str(data), "--output", str(run), "--backbone", "resnet18", "--device", "cpu", "--mode", "probe"]
    return [*common, "--weights", "none", "--input-size", "32x40", "--batch-size", "8", "--workers", "0", *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A probe of three classes, one training image of which lies in the wrong folder; and images of none."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("report")
    data = write_folder(root / "signs & <more>", {"go": 15, "stop": 15, "turn": 15})
    (data / "go" / "14.png").replace(data / "stop" / "99.png")
    others = write_folder(root / "others", {"x": 5, "y": 4}, first_seed=77)
    more = ("--test-fraction", "0.3", "--outside", str(others), "--false-alarm-rate", "0.2")
    assert main(arguments(data, root / "run", *more)) == EXIT_OK
    return root / "run"


class Page(HTMLParser):
    """What a page refers to, its headings, pictures and texts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.references, self.pictures, self.text = [], [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.references += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.pictures.append(values["alt"])

    def handle_data(self, data):
        self.text.append(data)

    def says(self, text):
        return text in " ".join(self.text)


def test_the_page_needs_no_other_file_and_no_script(run):
    page = Page(run / "report.html")

    assert all(reference.startswith("data:image/") for reference in page.references)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in (run / "report.html").read_text()


def test_every_part_of_the_report_is_there_with_the_figures_of_report_json(run):
    page, report = Page(run / "report.html"), json.loads((run / "report.json").read_text())

    for heading in (
        "Learning curves", "Confusion", "Per class", "Do the scores mean what they say?",
        "Images of none of the classes", "Worst val images", "Data", "Run it again",
    ):  # fmt: skip
        assert page.says(heading)
    assert page.says("resnet18 on signs & <more>")
    headline = report["val"]["headline"]
    assert page.says(f"{headline['top1']['value']:.1%}")
    assert page.says(f"95 %: {headline['top1']['low']:.1%} to {headline['top1']['high']:.1%}")
    assert page.says(f"val, after: ECE {report['calibration']['val']['ece']:.1%}")
    assert page.says(f"{report['calibration']['unknown']['auroc']:.3f}")
    outside = report["calibration"]["unknown"]["outside"]["called_unknown"]
    share = f"{outside['value']:.1%} ({100 * outside['low']:.1f} to {outside['high']:.1%})"
    assert page.says(f"of 9 images of none of the classes {share} are called unknown")
    assert page.says(report["command"])
    assert page.says(torch.__version__)
    assert page.says(report["training"]["data_sha256"])
    # the curves; then each of the worst twelve val images with four training images
    of_the_data = 12 + report["val"]["images"] + 1  # training images, those of val, which are fewer, and the balance
    assert len(page.pictures) == 1 + min(12, report["val"]["images"]) * (1 + 4) + of_the_data
    assert page.tags.count("svg") == 2 + 1


def test_the_test_part_is_not_looked_at_and_the_report_says_how_to_score_it_once(run):
    page, report = Page(run / "report.html"), json.loads((run / "report.json").read_text())

    assert report["test"].keys() == {"images", "scored", "command"}
    assert (report["test"]["images"], report["test"]["scored"]) == (13, False)
    assert page.says("the test part, 13 images, was not looked at")
    with (run / "split.csv").open() as file:
        held_back = [Path(row["path"]).name for row in csv.DictReader(file) if row["part"] == "test"]
    assert len(held_back) == 13
    assert report["calibration"]["unknown"]["called_unknown"].keys() == {"val", "outside"}
    words = shlex.split(report["test"]["command"])
    assert words[:3] == ["python", "-m", "training.evaluate"]
    assert evaluate.main(words[3:]) == EXIT_OK


def test_names_of_folders_and_files_are_shown_as_they_are_and_never_as_markup(tmp_path):
    names = ("<script>alert(1)", "\"now\" & 'here' onload=", "two\n<b>lines<b>")
    data = write_folder(tmp_path / "<script>", dict.fromkeys(names, 8))
    for name in names:  # one byte that is no UTF-8
        for path in (data / name).glob("*.png"):
            path.rename(path.with_name(f"<i>{path.stem}\udcff.png"))

    assert main(arguments(data, tmp_path / "run")) == EXIT_OK

    page = Page(tmp_path / "run" / "report.html")
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(reference.startswith("data:image/") for reference in page.references)
    assert all(page.says(name) for name in names)
    assert page.says(r"<i>00\udcff.png, loss")


def test_what_was_fitted_is_in_the_checkpoint_and_in_report_json(run):
    best, found = checkpoint.load(run / "best.pt"), json.loads((run / "report.json").read_text())["calibration"]

    rule = best.calibration.unknown
    assert best.calibration.temperature == found["temperature"]
    assert (rule.method, rule.threshold) == (found["unknown"]["method"], found["unknown"]["threshold"])
    assert rule.outside_images == 9
    assert rule.auroc == max(found["unknown"]["auroc_of_methods"].values())
    assert rule.false_alarm_rate <= 0.2
    assert found["unknown"]["called_unknown"].keys() == {"val", "outside"}
    outside = found["unknown"]["outside"]
    assert (outside["images"], outside["auroc"]["value"]) == (9, rule.auroc)
    assert outside["called_unknown"]["value"] == found["unknown"]["called_unknown"]["outside"]
    assert found["val"].keys() == {"ece_before", "ece", "loss_before", "loss"}


def test_a_finished_run_takes_another_rule_without_training_again(run):
    before = (run / "history.csv").read_text()

    assert main(["--output", str(run), "--resume", "--unknown", "energy", "--device", "cpu"]) == EXIT_OK

    best = checkpoint.load(run / "best.pt")
    assert best.calibration.unknown.method == "energy"
    assert main(["--output", str(run), "--resume", "--unknown", "none", "--device", "cpu"]) == EXIT_OK
    assert checkpoint.load(run / "best.pt").calibration.unknown is None
    assert not Page(run / "report.html").says("Images of none of the classes")
    columns = [line.rsplit(",", 2)[0] for line in before.splitlines()]
    assert [line.rsplit(",", 2)[0] for line in (run / "history.csv").read_text().splitlines()] == columns


def write_table(root, header, row_of):
    folder = write_folder(root / "pictures", {"a": 12, "b": 12, "c": 12})
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *header])
        writer.writerows([path.relative_to(root), *row_of(path)] for path in sorted(folder.rglob("*.png")))
    return root / "table.csv"


def test_several_labels_get_thresholds_a_table_and_their_worst_images(tmp_path):
    table = write_table(tmp_path, ["classes"], lambda path: ["red;warm" if path.parent.name == "a" else "cold"])

    assert main(arguments(table, tmp_path / "run")) == EXIT_OK

    page, best = Page(tmp_path / "run" / "report.html"), checkpoint.load(tmp_path / "run" / "best.pt")
    assert best.task == "multilabel"
    assert len(best.calibration.thresholds) == 3
    assert best.calibration.unknown is None
    for text in ("mean average precision, val", "average precision", "Worst val images", "val, after: ECE"):
        assert page.says(text)


def test_numbers_are_shown_in_their_units(tmp_path):
    numbers = {"a": -40.0, "b": 0.0, "c": 55.0}
    table = write_table(tmp_path, ["angle"], lambda path: [numbers[path.parent.name] + int(path.stem) / 100])

    assert main(arguments(table, tmp_path / "run", "--targets", "angle:deg")) == EXIT_OK

    page, best = Page(tmp_path / "run" / "report.html"), checkpoint.load(tmp_path / "run" / "best.pt")
    assert best.calibration == checkpoint.UNCALIBRATED
    assert page.says("MAE, val")
    assert page.says("Worst val images")
    assert not page.says("Do the scores mean")
    assert re.search(r"angle -?[\d.]+ deg", " ".join(page.text))


def test_an_answer_with_several_labels_goes_by_the_fitted_thresholds():
    names, sample = ("red", "warm", "cold"), Sample(Path("x.png"), 0, "val", (1.0, 0.0, 0.0))
    meaning = SimpleNamespace(class_names=names)
    scores, thresholds = np.array([0.3, 0.3, 0.6]), np.array([0.2, 0.25, 0.7])

    text = task_of("multilabel").verdict(scores, sample, meaning, thresholds).text

    # red is seen and there, warm is seen and not there, cold is neither
    assert "warm 30" in text
    assert "red 30" not in text
    assert "cold" not in text


def test_the_loss_of_an_image_is_that_of_torch():
    rng = np.random.default_rng(0)
    logits, labels = torch.from_numpy(rng.normal(0, 2, (6, 3))), torch.tensor([0, 1, 2, 2, 1, 0])
    several = torch.from_numpy(rng.integers(0, 2, (6, 3)).astype(np.float64))

    of_one = task_of("multiclass").image_losses(logits.softmax(1).numpy(), labels.numpy())
    of_several = task_of("multilabel").image_losses(logits.sigmoid().numpy(), several.numpy())
    of_numbers = task_of("regression").image_losses(logits.numpy(), several.numpy())

    assert of_one == pytest.approx(functional.cross_entropy(logits, labels, reduction="none").numpy())
    bce = functional.binary_cross_entropy_with_logits(logits, several, reduction="none").sum(1)
    assert of_several == pytest.approx(bce.numpy())
    assert of_numbers == pytest.approx((logits - several).abs().mean(1).numpy())


def test_neighbours_are_those_in_the_same_direction():
    others = np.float32([[1, 0], [0, 9], [5, 5], [-1, 0], [3, 4]])

    (found,) = worst_images.nearest(np.float32([[0, 2]]), others)

    assert [row for row, _ in found] == [1, 4, 2, 0]
    assert [cosine for _, cosine in found] == pytest.approx([1, 0.8, 0.5**0.5, 0])


def test_the_reliability_diagram_has_a_bar_as_high_as_each_bin_is_right():
    scores = np.array([[0.95, 0.05]] * 4 + [[0.6, 0.4]] * 2)

    found = metrics.ece(scores, np.array([0, 0, 0, 1, 0, 1]), bins=10)
    drawn = render("training.report", "reliability.html", part=diagrams.Reliability("val", found.bins))

    bars = re.findall(r'height="([\d.]+)" fill="#2b6cb0"', drawn)
    (ground,) = (float(height) for height in re.findall(r'height="([\d]+)" fill="#f6f8fa"', drawn))
    assert sorted(float(height) / ground for height in bars) == pytest.approx([0.5, 0.75], abs=0.01)


def test_the_histogram_marks_the_threshold_between_the_scores():
    scores = {"val": np.array([3.0, 4.0, 5.0]), "outside": np.array([1.0, 1.0])}

    drawn = render("training.report", "histogram.html", part=diagrams.histogram(scores, 2.0, "energy"))

    (place,) = re.findall(r'<line x1="([\d.]+)"', drawn)
    lefts = {tip.split(",")[0]: float(x) for x, tip in re.findall(r'<rect x="([\d.]+)"[^>]*><title>([^<]*)', drawn)}
    assert lefts["outside"] < float(place) < lefts["val"]
    assert "threshold 2" in drawn


@pytest.mark.parametrize("threshold", [1.0, 1.1, 5.0])
def test_numbers_below_the_histogram_never_lie_on_each_other(threshold):
    scores = {"val": np.array([1.0, 5.0])}

    drawn = render("training.report", "histogram.html", part=diagrams.histogram(scores, threshold, "energy"))

    below = sorted(float(x) for x in re.findall(r'<text x="([\d.]+)" y="295"', drawn))
    assert len(below) == 2
    assert below[1] - below[0] > 70


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "probe"},
        {"mode": "probe", "weight_decay": 0.5, "input_size": (64, 96), "resize_mode": "squash", "channels_last": False},
        {"epochs": 9, "augment": ("flip", "rotate"), "dropout": 0.2, "lr": 3e-4, "warmup_epochs": 2.0},
        {"mode": "scratch", "augment": (), "schedule": "step", "test_fraction": 0.1, "outside": "o p"},
        {"group_pattern": "-([a-z]+)$", "classes": "it's #1.txt", "mean": (0.5, 0.25, 0.0), "std": (1.0, 0.5, 0.125)},
    ],
)
def test_the_command_gives_the_same_settings_again(given):
    config = make(data="/data/my signs", output="runs/a", **given)

    words = shlex.split(provenance.command(config))

    assert words[:3] == ["python", "-m", "training.train"]
    assert make(**parse(words[3:])) == config


def test_versions_name_torch_python_and_the_commit():
    found = provenance.versions()

    assert found["torch"] == torch.__version__
    assert re.fullmatch(r"3\.\d+\.\d+\S*", found["python"])
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?" if (ROOT / ".git").exists() else "", found["commit"])
