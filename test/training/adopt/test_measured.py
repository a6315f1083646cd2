"""Owns: what labelled images say of an adopted file, what its certificate leaves open, and that programs say so.

Leaves to others: the answers (test_foreign_layouts), the node (test_node_adopted).
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from evaluating import Page, colour_bag
from evaluating import run as evaluate
from PIL import Image
from tiny_images import picture
from tiny_model import GAIN, write_tiny_model

from cnn_perception.doctor.machine import check_model
from cnn_perception.image.messages import EncodedFile
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import METADATA_KEY, TAKEN_FOR_EXCLUSIVE, ModelSpec
from cnn_perception.pipeline import Pipeline
from training.adopt.command import main
from training.adopt.remarks import Remark
from training.inspect.command import main as inspect

CPU = SessionOptions(providers=("CPUExecutionProvider",))
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
WRONG = 4
IMAGES = 24
"""Validation images of each class; of red ones `WRONG` are blue."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A data set with its parts: bars of a colour on a grey ground."""
    root = tmp_path_factory.mktemp("photos")
    for number, (part, count) in enumerate((("train", 6), ("val", IMAGES))):
        for place, (name, colour) in enumerate(COLOURS.items()):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                shown = COLOURS["blue"] if (part, name) == ("val", "red") and index < WRONG else colour
                pixels = picture(shown, 10_000 * number + 1000 * place + index)
                Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return root


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The tiny model as somebody else's: without its description, with the embedding as a second output."""
    path = write_tiny_model(tmp_path_factory.mktemp("foreign") / "colours.onnx")
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    (path.parent / "labels.txt").write_text("red\ngreen\nblue\n")
    return path


def adopt(foreign, output, capsys, *more):
    words = [
        "--model",
        foreign,
        "--output",
        output,
        "--classes",
        foreign.parent / "labels.txt",
        "--mean",
        0,
        "--std",
        1,
    ]
    words += ["--resize-mode", "squash", "--output-name", "logits", *more]
    assert main([str(word) for word in words]) == 0
    spec = ModelSpec.from_json(read_onnx_file(output).metadata[METADATA_KEY])
    return spec, capsys.readouterr().out


@pytest.fixture
def measured(foreign, photos, tmp_path, capsys):
    return adopt(foreign, tmp_path / "measured.onnx", capsys, "--data", photos)


def test_accuracy_is_that_of_the_dominant_colour_with_wilsons_interval(measured, photos):
    spec, said = measured

    right, count = 3 * IMAGES - WRONG, 3 * IMAGES
    share, z = right / count, 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    assert spec.training.metrics["val_top1"] == pytest.approx(share)
    assert spec.training.metrics["val_top1_low"] == pytest.approx(centre - half, abs=1e-4)
    assert spec.training.metrics["val_top1_high"] == pytest.approx(centre + half, abs=1e-4)
    assert (spec.training.val_images, spec.training.train_images) == (count, 0)
    assert spec.training.data == photos.name
    assert len(spec.training.data_sha256) == 64
    assert f"val_top1 {share:.3f} (95 % interval" in said


def test_temperature_explains_the_labels_better_than_its_neighbours(measured, photos):
    spec, _ = measured

    logits, truth = [], []
    for label, name in enumerate(COLOURS):
        for path in sorted((photos / "val" / name).iterdir()):
            pixels = Image.open(path).resize((32, 24), Image.Resampling.BILINEAR)
            logits.append(GAIN * np.asarray(pixels, np.float64).mean((0, 1)) / 255)
            truth.append(label)

    def loss(temperature):
        """With the normal prior of 1 / temperature around 1."""
        cooled = np.stack(logits) / temperature
        chosen = cooled[np.arange(len(truth)), truth]
        return (np.log(np.exp(cooled).sum(1)) - chosen).sum() + (1 / temperature - 1) ** 2 / 2

    assert loss(spec.temperature) < min(loss(0.95 * spec.temperature), loss(1.05 * spec.temperature))


def test_unknown_rule_is_fitted_to_the_files_own_answers(measured):
    spec, _ = measured

    assert spec.unknown is not None
    assert spec.unknown.method == "distance"
    assert spec.unknown.known_images == 3 * IMAGES
    assert spec.unknown.false_alarm_rate <= 0.05 + 0.05


def test_certificate_with_labelled_images_compares_those_and_leaves_training_open(measured, photos):
    spec, said = measured

    assert spec.parity.source == "validation"
    assert {check.output for check in spec.parity.outputs} == {"logits", "scores", "embedding", "activation"}
    not_said = [line for line in spec.unproven() if f"not proven: {line}" not in said.splitlines()]
    assert not_said == [TAKEN_FOR_EXCLUSIVE]  # which a line says of this graph
    assert spec.is_calibrated
    assert any("was trained: unknown" in line for line in spec.unproven())
    assert any(f"images of {photos.name} are none that it was trained on" in line for line in spec.unproven())
    assert not any("noise" in line for line in spec.unproven())


def test_certificate_without_labelled_images_says_what_was_not_measured(foreign, tmp_path, capsys):
    spec, said = adopt(foreign, tmp_path / "plain.onnx", capsys)

    assert (spec.temperature, spec.unknown, spec.statistics, spec.gallery) == (1.0, None, None, None)
    assert not spec.is_calibrated
    assert spec.training.metrics == {}
    assert spec.parity.source == "noise"
    assert any("noise alone" in line for line in spec.unproven())
    assert any("no labelled images were given" in line for line in spec.unproven())
    assert said.count("no labelled images were given") == 1
    assert "torch" not in said


def test_graph_that_has_our_names_and_a_second_output_keeps_both_apart(foreign, tmp_path, capsys):
    adopt(foreign, tmp_path / "ours.onnx", capsys)
    rows = np.zeros((24, 32, 3), np.uint8)
    rows[:] = (255, 51, 0)
    Image.fromarray(rows).save(tmp_path / "p.png")

    found = OnnxModel(tmp_path / "ours.onnx", CPU).run(rows.transpose(2, 0, 1)[np.newaxis] / np.float32(255))[0]

    np.testing.assert_allclose(found.logits, [10, 2, 0], atol=1e-5)
    np.testing.assert_allclose(found.embedding, [1, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(found.activation, np.full((3, 4), 10), atol=1e-5)
    prediction = Pipeline.load(tmp_path / "ours.onnx", CPU).run(EncodedFile((tmp_path / "p.png").read_bytes(), "png"))
    assert prediction.prediction.top == 0


def test_a_remark_is_told_by_its_kind_and_not_by_what_it_says():
    assert Remark("warning: so").in_words() == "note: warning: so"
    assert Remark("two\nlines", "not proven").in_words() == "not proven: two\\nlines"


def test_classes_of_the_images_other_than_the_models_are_refused(foreign, photos, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("red\ngreen\nviolet\n")
    words = ["--model", foreign, "--output", tmp_path / "o.onnx", "--classes", tmp_path / "labels.txt", "--mean", 0]
    words += ["--std", 1, "--resize-mode", "squash", "--output-name", "logits", "--data", photos]

    assert main([str(word) for word in words]) == 2
    assert "blue" in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


def test_reports_doctor_and_inspect_claim_nothing_of_training(measured, tmp_path, capsys):
    path = tmp_path / "measured.onnx"

    code, _, rows = evaluate(tmp_path, path, "--bag", colour_bag(tmp_path / "bag"))
    page = (tmp_path / "out" / "report.html").read_text()
    findings = list(check_model(path))
    capsys.readouterr()
    inspected = inspect(["--model", str(path)])

    Page(page)
    assert code == 0
    assert len(rows) == 10
    assert "unknown: adopted from colours.onnx" in page
    assert "parity with the original graph" in page
    assert "parity with torch" not in page
    assert page.count("not proven") == 4
    assert findings[0].level == "ok"
    assert inspected == 0
    assert "GlobalAveragePool" in (listed := capsys.readouterr().out) or "AveragePool" in listed
