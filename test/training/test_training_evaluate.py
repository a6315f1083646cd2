"""Owns: checkpoints scored on images: alone, with ten crops, as an ensemble (`training.evaluate`).

Leaves to others: the scores themselves (test_metrics, test_train), data sets (test_load).
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import UNWRITABLE
from PIL import Image
from scipy.stats import binomtest
from sklearn import metrics as oracle
from tiny_images import write_folder
from torch import nn
from torchvision.transforms import v2

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, UnknownRule
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint
from training.calibration import ensemble
from training.checkpoint import Calibration, Checkpoint
from training.config import make
from training.data.load import DataOptions, load_images
from training.evaluate import main
from training.networks import backbones

SPEC = InputSpec(32, 40, "crop", 0.8, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
NAMES = ("go", "stop", "turn")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 12, "stop": 15, "turn": 13})


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """Two networks that answer something else for every image, of different sizes and temperatures."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    images = load_images(photos, DataOptions(val_fraction=0.3, seed=3))
    for seed, (name, size) in enumerate({"a": SPEC, "b": dataclasses.replace(SPEC, height=40, width=48)}.items()):
        torch.manual_seed(seed)
        model = backbones.build("resnet18", 3)
        nn.init.normal_(model.get_submodule("fc").weight, std=0.3)
        (root / name).mkdir()
        checkpoint.save(root / name / "best.pt", saved(model, images, size, temperature=2.0 - seed))
    return root


def saved(model, images, size, temperature=1.0):
    config = make(data=str(images.root), output="o", val_fraction=0.3, seed=3)
    return Checkpoint(
        backbone="resnet18",
        task="multiclass",
        class_names=images.class_names,
        units=(),
        scaling=(),
        input=size,
        model=model.state_dict(),
        training={},
        train_images=tuple(str(sample.path.absolute()) for sample in images.part("train")),
        val_images=tuple(str(sample.path.absolute()) for sample in images.part("val")),
        calibration=Calibration(temperature, (), None),
        config=config.to_dict(),
        resume=None,
    )


def expected(path, ten_crop=False):
    """Mean softmax on the validation images, with torchvision's ten crops."""
    found = checkpoint.load(path)
    model = backbones.build(found.backbone, 3).eval()
    model.load_state_dict(found.model)
    size = found.input
    rows = []
    for name in found.val_images:
        image = decode_file_bytes(open(name, "rb").read())  # noqa: PTH123, SIM115
        if not ten_crop:
            batch = torch.from_numpy(preprocess(image, size)).unsqueeze(0)
        else:
            crops = torchvision_crops(image, size)
            batch = torch.stack([v2.functional.normalize(c.float() / 255, size.mean, size.std) for c in crops])
        with torch.inference_mode():
            rows.append(torch.softmax(model(batch) / found.calibration.temperature, 1).mean(0))
    return torch.stack(rows).numpy(), np.array([NAMES.index(name.split("/")[-2]) for name in found.val_images])


def torchvision_crops(image, size):
    """Resize to cover input / crop_fraction, then torchvision's ten crops, as uint8 tensors."""
    rows, columns = round(size.height / size.crop_fraction), round(size.width / size.crop_fraction)
    height, width = image.shape[:2]
    scale = max(rows / height, columns / width)
    resized = Image.fromarray(image).resize(
        (max(columns, int(width * scale)), max(rows, int(height * scale))), Image.Resampling.BILINEAR
    )
    crops = v2.functional.ten_crop(v2.functional.pil_to_tensor(resized), [size.height, size.width])
    return [crops[i] for i in (0, 1, 2, 3, 4, 6, 5, 8, 7, 9)]  # it mirrors the image, and left becomes right


@pytest.mark.parametrize("shape", [(90, 200), (200, 90), (50, 50), (23, 30)])
def test_ten_views_are_torchvisions_ten_crops_and_the_centre_is_the_robots(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = RgbImage(np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)))

    views = ensemble.ten_views(image, SPEC)

    for view, crop in zip(views, torchvision_crops(image, SPEC), strict=True):
        difference = np.abs(view.astype(int) - crop.permute(1, 2, 0).numpy().astype(int))
        assert difference.max() <= 1
    as_it_is = dataclasses.replace(SPEC, resize_mode="squash", crop_fraction=1.0)
    # one level: Pillow filters rows or columns first by the size of what it is given, and the robot gives it less
    level = 1 / 255 / min(SPEC.std)
    assert np.allclose(preprocess(views[4], as_it_is), preprocess(image, SPEC), rtol=0, atol=1.01 * level)
    assert np.array_equal(views[9], views[4][:, ::-1])


def test_ten_views_of_any_size_lie_inside_the_image_at_crop_fraction_one():
    whole = InputSpec(28, 28, "crop", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    for height in range(20, 100):
        image = RgbImage(np.full((height, 64, 3), 9, np.uint8))
        for view in ensemble.ten_views(image, whole):
            assert (view == 9).all()


@pytest.mark.parametrize("shape", [(64, 58), (58, 64), (33, 97), (28, 28), (56, 200)])
def test_ten_views_at_crop_fraction_one_are_torchvisions_ten_crops(shape):
    """Nothing is cut off along the shorter side: there the corners meet, and an edge may lie a hair outside."""
    whole = InputSpec(28, 28, "crop", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    image = RgbImage(np.asarray(Image.fromarray(noise).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)))

    views = ensemble.ten_views(image, whole)

    for view, crop in zip(views, torchvision_crops(image, whole), strict=True):
        assert np.abs(view.astype(int) - crop.permute(1, 2, 0).numpy().astype(int)).max() <= 1


def test_the_headline_is_top_1_with_the_rule_of_the_checkpoint_and_without(photos, runs, tmp_path, capsys):
    best = checkpoint.load(runs / "a" / "best.pt")
    scores, truth = expected(runs / "a" / "best.pt")
    logits = np.log(scores) * best.calibration.temperature  # but for a constant of each image
    energies = []
    model = backbones.build("resnet18", 3).eval()
    model.load_state_dict(best.model)
    for name in best.val_images:
        image = preprocess(decode_file_bytes(Path(name).read_bytes()), best.input)
        with torch.inference_mode():
            energies.append(torch.logsumexp(model(torch.from_numpy(image[None])).double(), 1).item())
    threshold = float(np.median(energies))
    fitted = dataclasses.replace(best.calibration, unknown=UnknownRule("energy", threshold, 0.05, None, 0, ()))
    checkpoint.save(tmp_path / "ruled.pt", dataclasses.replace(best, calibration=fitted))

    argv = ["--checkpoint", str(tmp_path / "ruled.pt"), "--data", str(photos), "--device", "cpu"]
    assert main([*argv, "--output", str(tmp_path / "out")]) == EXIT_OK

    (row,) = json.loads((tmp_path / "out" / "report.json").read_text())["scores"].values()
    known, is_right = np.array(energies) >= threshold, logits.argmax(1) == truth
    headline = row["headline"]
    assert headline["top1"]["value"] == pytest.approx((known & is_right).mean())
    assert headline["top1_without_rule"]["value"] == pytest.approx(is_right.mean()) == row["top1"]
    assert headline["coverage"]["value"] == pytest.approx(known.mean()) == 0.5
    ends = binomtest(int(is_right.sum()), 12).proportion_ci(0.95, "wilson")
    assert row["intervals"]["top1"] == pytest.approx([ends.low, ends.high])
    assert "with the unknown rule, " in capsys.readouterr().out


def test_single_ten_crop_and_ensemble_average_the_scores(photos, runs, tmp_path, capsys):
    a, b = runs / "a" / "best.pt", runs / "b" / "best.pt"
    argv = ["--checkpoint", str(a), "--ensemble", str(b), "--data", str(photos), "--ten-crop", "--device", "cpu"]

    assert main([*argv, "--output", str(tmp_path / "out")]) == EXIT_OK

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    table = capsys.readouterr().out.splitlines()
    for way, ten_crop in (("", False), (", ten-crop", True)):
        (of_a, truth), (of_b, _) = expected(a, ten_crop), expected(b, ten_crop)
        rows = {"a/best.pt": of_a, "b/best.pt": of_b, "ensemble of 2": (of_a + of_b) / 2}
        for name, scores in rows.items():
            found = report["scores"][name + way]
            loss = -np.log(scores[np.arange(len(truth)), truth]).mean()
            assert found["loss"] == pytest.approx(loss, rel=0.02 if ten_crop else 1e-4)  # a grey level of the crops
            assert found["top1"] == pytest.approx((scores.argmax(1) == truth).mean(), abs=0.1 if ten_crop else 1e-9)
            assert any(line.startswith(name + way) and f"{found['top1']:.3f}" in line for line in table)
    assert (report["part"], report["images"]) == ("val", 12)
    assert report["trained_on"] == {"a/best.pt": 0, "b/best.pt": 0}
    assert not any(line.startswith("beware") for line in table)


def test_images_that_were_trained_on_are_told(photos, runs, tmp_path, capsys):
    """The same images, another split: seed 3 of the checkpoint's own run is what the first checkpoint says."""
    other = dataclasses.replace(checkpoint.load(runs / "a" / "best.pt"))
    config = {**other.config, "seed": 4}
    checkpoint.save(tmp_path / "other.pt", dataclasses.replace(other, config=config))

    assert main(["--checkpoint", str(tmp_path / "other.pt"), "--data", str(photos), "--device", "cpu"]) == EXIT_OK

    out = capsys.readouterr().out
    assert "beware" in out
    assert "was trained on" in out


@pytest.mark.parametrize("parts", [(), ("train", "val")])
def test_of_images_that_nobody_has_learned_from_all_are_scored_and_it_is_said_when_they_are_not(
    parts, runs, tmp_path, capsys
):
    folder = tmp_path / "another"
    for part in parts or ("",):
        write_folder(folder / part, dict.fromkeys(NAMES, 10), first_seed=50 + 100 * len(part))
    count = 30 * max(len(parts), 1)
    words = ["--checkpoint", str(runs / "a" / "best.pt"), "--data", str(folder), "--device", "cpu"]

    assert main([*words, "--output", str(tmp_path / "some")]) == EXIT_OK
    said = capsys.readouterr().out
    assert main([*words, "--part", "all", "--output", str(tmp_path / "all")]) == EXIT_OK

    some, every = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("some", "all"))
    assert some["images"] + some["left_out"] == count
    assert f"{some['left_out']} of the images are of other parts than val" in said
    assert (every["images"], every["left_out"]) == (count, 0)
    assert every["scores"]["a/best.pt"]["images"] == count
    assert "beware" not in capsys.readouterr().out


def write_table(root, header, cells):
    folder = write_folder(root / "pictures", {"a": 10, "b": 10})
    paths = sorted(folder.rglob("*.png"))
    rows = [",".join(["path", *header]), *(",".join([str(path), *cells(path)]) for path in paths)]
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root / "table.csv"


def two_of(table, folder, task, outputs, given, **changes):
    """Two checkpoints of random networks for a table, and what each answers for the validation images."""
    images = load_images(table, DataOptions(val_fraction=0.3, seed=3, targets=given.get("targets", ())))
    config = make(data=str(table), output="o", val_fraction=0.3, seed=3, **given).to_dict()
    paths, answers = [folder / "one.pt", folder / "two.pt"], []
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        model = backbones.build("resnet18", outputs).eval()
        nn.init.normal_(model.get_submodule("fc").weight, std=0.3)
        own = {name: values[seed] for name, values in changes.items()}
        made = dataclasses.replace(saved(model, images, SPEC), task=task, units=images.units, config=config, **own)
        checkpoint.save(path, made)
        batch = [preprocess(decode_file_bytes(Path(name).read_bytes()), SPEC) for name in made.val_images]
        with torch.inference_mode():
            answers.append(model(torch.from_numpy(np.stack(batch))).numpy())
    return images, paths, answers


def scores_of(paths, table, output):
    argv = ["--checkpoint", str(paths[0]), "--ensemble", str(paths[1]), "--data", str(table), "--device", "cpu"]
    assert main([*argv, "--output", str(output)]) == EXIT_OK
    return list(json.loads((output / "report.json").read_text())["scores"].values())


def test_numbers_of_an_ensemble_are_averaged_in_their_units(tmp_path, capsys):
    table = write_table(
        tmp_path, ["angle"], lambda path: [str(int(path.stem) * (1 if path.parent.name == "a" else -1))]
    )
    scaling = (((10.0, 2.0),), ((-3.0, 5.0),))
    images, paths, answers = two_of(table, tmp_path, "regression", 1, {"targets": ("angle:deg",)}, scaling=scaling)

    one, two, both = scores_of(paths, table, tmp_path / "out")

    numbers = [out[:, 0] * std + mean for out, ((mean, std),) in zip(answers, scaling, strict=True)]
    truth = np.array([images.in_units(sample).values[0] for sample in images.part("val")])
    for found, expected in ((one, numbers[0]), (two, numbers[1]), (both, (numbers[0] + numbers[1]) / 2)):
        assert found["mae"] == pytest.approx(np.abs(expected - truth).mean(), rel=1e-4)
    assert main(["--checkpoint", str(paths[0]), "--data", str(table), "--ten-crop"]) == EXIT_BAD_INPUT
    assert "may change sign in a mirrored image" in capsys.readouterr().err


def test_several_labels_are_seen_from_the_thresholds_of_the_checkpoints(tmp_path):
    table = write_table(tmp_path, ["classes"], lambda path: ["x;y" if path.parent.name == "a" else "y;z"])
    fitted = (Calibration(2.0, (0.3, 0.5, 0.7), None), Calibration(0.5, (0.5, 0.5, 0.1), None))
    images, paths, answers = two_of(table, tmp_path, "multilabel", 3, {}, calibration=fitted)

    one, _, both = scores_of(paths, table, tmp_path / "out")

    truth = np.array([sample.values for sample in images.part("val")])
    shares = [1 / (1 + np.exp(-out / c.temperature)) for out, c in zip(answers, fitted, strict=True)]
    for found, score, least in ((one, shares[0], (0.3, 0.5, 0.7)), (both, sum(shares) / 2, (0.4, 0.5, 0.4))):
        expected = oracle.f1_score(truth, score >= np.array(least), average=None, zero_division=0)
        assert [row["f1"] for row in found["per_class"].values()] == pytest.approx(expected)


def test_every_refusal_is_one_line_and_exit_code_2(photos, runs, tmp_path, capsys):
    best = checkpoint.load(runs / "a" / "best.pt")
    fitted = dataclasses.replace(best.input, resize_mode="letterbox", crop_fraction=1.0)
    made = {
        "others.pt": dataclasses.replace(best, class_names=("go", "halt", "turn")),
        "turned.pt": dataclasses.replace(best, class_names=("turn", "stop", "go")),
        "fitted.pt": dataclasses.replace(best, input=fitted),
        "copy.pt": best,
    }
    for name, value in made.items():
        checkpoint.save(tmp_path / name, value)
    one, data = ["--checkpoint", str(runs / "a" / "best.pt")], ["--data", str(photos)]
    cases = (
        (
            [*one, *data, "--ensemble", str(tmp_path / "others.pt")],
            "only the former has 'stop'; only the latter 'halt'",
        ),
        ([*one, *data, "--ensemble", str(tmp_path / "turned.pt")], "in another order"),
        ([*one, *data, "--ensemble", one[1]], "named twice"),
        ([*one, *data, "--ensemble", str(tmp_path / "copy.pt")], "copy.pt: holds the weights of a/best.pt"),
        (["--checkpoint", str(tmp_path / "others.pt"), *data], "its classes are not those of"),
        (["--checkpoint", str(tmp_path / "fitted.pt"), *data, "--ten-crop"], "--ten-crop needs"),
        ([*one, *data, "--part", "test"], "no images for --part test"),
        ([*one, *data, "--batch-size", "0"], "--batch-size"),
        (["--checkpoint", str(tmp_path / "gone.pt"), *data], "no such checkpoint"),
        ([*one, "--data", str(tmp_path / "gone")], "no such folder"),
        ([*one, *data, "--output", str(UNWRITABLE)], "free or choose another --output"),
    )
    for argv, message in cases:
        assert main([*argv, "--device", "cpu"]) == EXIT_BAD_INPUT
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert message in errors[0]


@pytest.fixture
def run_with_a_test_part(runs, tmp_path):
    """Data with a test part, and a run's folder for it."""
    root = tmp_path / "parts"
    for part, first in (("train", 0), ("val", 300), ("test", 600)):
        write_folder(root / part, dict.fromkeys(NAMES, 6), first)
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint.save(folder / "best.pt", checkpoint.load(runs / "a" / "best.pt"))
    return folder, root


def test_a_test_part_that_was_scored_before_is_said_to_be_unseen_no_longer(run_with_a_test_part, tmp_path, capsys):
    folder, root = run_with_a_test_part
    command = ["--checkpoint", str(folder / "best.pt"), "--device", "cpu", "--data"]

    def said(data: Path, *more: str) -> list[str]:
        assert main([*command, str(data), *more]) == EXIT_OK
        return [line for line in capsys.readouterr().out.splitlines() if "test part" in line]

    assert said(root, "--part", "val") == []
    assert said(root, "--part", "test") == []
    year = str(datetime.datetime.now(datetime.timezone.utc).year)
    (again,) = said(root, "--part", "test")
    assert again.startswith(f"beware: for the run in {folder} the test part has been scored before, once, on {year}-")
    assert "no longer unseen" in again
    moved = root.rename(tmp_path / "moved")
    (third,) = said(moved, "--part", "test")  # known by its content
    assert "scored before, 2 times, last on " in third
    (folder / "test_part_scored.csv").write_text("mine")
    (fourth,) = said(moved, "--part", "test")
    assert "cannot be noted" in fourth
    assert (folder / "test_part_scored.csv").read_text() == "mine"
