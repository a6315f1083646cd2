"""Owns: labelled images of some of a model's classes: what is measured on them, and what is said to be unknown.

The oracle is Pillow and numpy on a model whose logits are GAIN times the mean colour, a constant for other classes.
Leaves to others: how classes of data are found among a model's (test_classes_file), images of all (test_measured).
"""

from __future__ import annotations

import json

import foreign_graphs
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from tiny_images import picture, scene
from tiny_model import GAIN, write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK
from cnn_perception.image.messages import EncodedFile
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.model.spec import METADATA_KEY, ModelSpec
from cnn_perception.pipeline import Pipeline
from training.adopt.command import main

CPU = SessionOptions(providers=("CPUExecutionProvider",))
CLASSES = ("red", "green", "blue", "amber", "teal", "violet")
BIAS = (0.0, 0.0, 0.0, 4.75, -1.0, -1.0)
"""Three of them have no feature of their own: amber is answered wherever no colour has a mean above 0.475."""
DIM = 5
"""So many of the green validation images are dim."""
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
IMAGES = 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number, (part, count) in enumerate((("train", 6), ("val", IMAGES))):
        for place, (name, colour) in enumerate(COLOURS.items()):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                is_dim = (part, name) == ("val", "green") and index < DIM
                shown = tuple(channel // 2 for channel in colour) if is_dim else colour
                pixels = picture(shown, 10_000 * number + 1000 * place + index)
                Image.fromarray(pixels).save(root / part / name / f"{index:02}.png")
    return root


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The tiny model of six classes as somebody else's."""
    path = write_tiny_model(tmp_path_factory.mktemp("foreign") / "six.onnx", classes=CLASSES, bias=BIAS)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    (path.parent / "labels.txt").write_text("\n".join(CLASSES))
    return path


@pytest.fixture
def adopt(foreign, tmp_path, capsys):
    def run(*more):
        words = ["--model", foreign, "--output", tmp_path / "ours.onnx", "--classes", foreign.parent / "labels.txt"]
        words += ["--mean", 0, "--std", 1, "--resize-mode", "squash", "--output-name", "logits", *more]
        code = main([str(word) for word in words])
        return code, capsys.readouterr()

    return run


def description(path):
    return ModelSpec.from_json(read_onnx_file(path).metadata[METADATA_KEY])


def logits_of(photos):
    """(n, 6) of the validation images by Pillow and numpy, and their classes among the six."""
    rows, truth = [], []
    for label, name in enumerate(COLOURS):
        for path in sorted((photos / "val" / name).iterdir()):
            pixels = np.asarray(Image.open(path).resize((32, 24), Image.Resampling.BILINEAR), np.float64)
            rows.append(np.pad(GAIN * pixels.mean((0, 1)) / 255, (0, 3)) + BIAS)
            truth.append(label)
    return np.stack(rows), np.array(truth)


def test_accuracy_temperature_and_rule_are_those_of_all_outputs_on_the_images_there_are(adopt, photos, tmp_path):
    code, said = adopt("--data", photos)

    assert code == EXIT_OK, said.err
    spec = description(tmp_path / "ours.onnx")
    logits, truth = logits_of(photos)
    right = logits.argmax(axis=1) == truth
    assert len(truth) - right.sum() == DIM
    assert set(logits[~right].argmax(axis=1)) == {3}
    assert spec.class_names == CLASSES
    assert spec.training.metrics["val_top1"] == pytest.approx(right.mean())
    assert spec.training.val_images == len(truth)

    def loss(temperature):
        """With the normal prior of 1 / temperature around 1."""
        cooled = logits / temperature
        chosen = cooled[np.arange(len(truth)), truth]
        return (np.log(np.exp(cooled).sum(1)) - chosen).sum() + (1 / temperature - 1) ** 2 / 2

    assert loss(spec.temperature) < min(loss(0.95 * spec.temperature), loss(1.05 * spec.temperature))
    energies = np.sort(np.log(np.exp(logits).sum(axis=1)))
    assert (spec.unknown.method, spec.unknown.centres) == ("energy", ())
    assert spec.unknown.known_images == len(truth)
    allowed = int(0.05 * len(truth))
    assert energies[allowed - 1] - 0.02 < spec.unknown.threshold < energies[allowed] + 0.02


def test_of_how_many_classes_there_were_images_is_said_and_stays_in_the_file(adopt, photos, tmp_path):
    code, said = adopt("--data", photos)

    assert code == EXIT_OK
    (line,) = [line for line in said.out.splitlines() if "measured on images of" in line]
    assert line.startswith("note: measured on images of 3 of 6 classes; of the others nothing is known, nor how often")
    assert "the unknown rule (by energy) calls images of them unknown" in line
    spec = description(tmp_path / "ours.onnx")
    assert spec.training.metrics["val_classes"] == 3
    assert "anything of 3 of its 6 classes: no images of them were given" in spec.unproven()
    assert "no images of them were given" not in said.out  # which the line above says, and more
    prediction = Pipeline.load(tmp_path / "ours.onnx", CPU).run(
        EncodedFile((photos / "val" / "red" / "00.png").read_bytes(), "png")
    )
    assert prediction.prediction.class_names[:6] == CLASSES


def test_a_table_and_numbered_folders_say_the_same_as_named_folders(adopt, photos, tmp_path):
    adopt("--data", photos)
    expected = description(tmp_path / "ours.onnx")
    files = [
        (part, name, path)
        for part in ("train", "val")
        for name in COLOURS
        for path in sorted((photos / part / name).iterdir())
    ]
    rows = [f"{path},{name},{part}" for part, name, path in files]
    (tmp_path / "labels.csv").write_text("\n".join(["path,class,part", *rows]))
    for part, name, path in files:
        folder = tmp_path / "numbered" / part / str(CLASSES.index(name))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())

    for data in (tmp_path / "labels.csv", tmp_path / "numbered"):
        code, said = adopt("--data", data)

        assert code == EXIT_OK, said.err
        spec = description(tmp_path / "ours.onnx")
        assert spec.training.metrics == pytest.approx(expected.training.metrics)
        assert spec.temperature == pytest.approx(expected.temperature)
        assert spec.unknown.threshold == pytest.approx(expected.unknown.threshold)


def test_a_folder_that_is_no_class_of_the_model_is_named_with_one_that_is(adopt, photos, tmp_path):
    data = tmp_path / "photos"
    for name, called in (("red", "red"), ("green", "gren")):
        (data / called).mkdir(parents=True)
        for path in (photos / "val" / name).iterdir():
            (data / called / path.name).write_bytes(path.read_bytes())

    code, said = adopt("--data", data)

    assert code == EXIT_BAD_INPUT
    assert "its class 'gren' is none of the model's, which has 'green'" in said.err
    assert not (tmp_path / "ours.onnx").exists()


def test_images_of_all_classes_say_nothing_of_missing_ones(adopt, photos, tmp_path):
    rows = [
        f"{path},{name},{part}"
        for part in ("train", "val")
        for name in COLOURS
        for path in sorted((photos / part / name).iterdir())
    ]
    for place, name in enumerate(CLASSES[3:]):
        for index in range(8):
            path = tmp_path / f"{name}{index}.png"
            Image.fromarray(scene(100 * place + index)).save(path)
            rows.append(f"{path},{name},{'val' if index % 2 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(["path,class,part", *rows]))

    code, said = adopt("--data", tmp_path / "labels.csv")

    assert code == EXIT_OK, said.err
    spec = description(tmp_path / "ours.onnx")
    assert "measured on images of" not in said.out
    assert "val_classes" not in spec.training.metrics
    assert spec.unknown.method == "distance"
    assert len(spec.unknown.centres) == 6


def test_shares_of_some_classes_have_no_rule_and_it_is_said(tmp_path, capsys):
    """Scores have no energy, and a class without images has no centre."""
    made = foreign_graphs.mean_of_two()
    model, names = foreign_graphs.write(made, tmp_path)
    for place, name in enumerate(("bee", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(scene(100 * place + index)).save(tmp_path / "photos" / name / f"{index:02}.png")
    words = ["--model", model, "--classes", names, "--output", tmp_path / "ours.onnx", "--data", tmp_path / "photos"]

    assert main([str(word) for word in (*words, *made.options)]) == EXIT_OK

    said = capsys.readouterr().out
    assert description(tmp_path / "ours.onnx").unknown is None
    assert "measured on images of 2 of 5 classes; of the others nothing is known; it has no unknown rule" in said


def test_labels_of_some_classes_are_measured_as_of_a_model_of_these_alone(tmp_path, capsys):
    """Several labels an image: of the others no image says that it does not show them."""
    network = foreign_graphs.network(11)
    kept = [1, 2, 4]
    tables = ["path,classes", *(f"{index:02}.png,{('bee', 'eel', 'bee;cat', '')[index % 4]}" for index in range(40))]
    (tmp_path / "labels.csv").write_text("\n".join(tables))
    for index in range(40):
        Image.fromarray(scene(index)).save(tmp_path / f"{index:02}.png")
    found = []
    for name, rows in (("all", range(5)), ("some", kept)):
        sigmoid = helper.make_node("Sigmoid", ["scores"], ["tags"])
        proto = foreign_graphs.with_nodes(network, [], "image", "image", "tags", behind=[sigmoid])
        for tensor in [one for one in proto.graph.initializer if one.name in ("w3", "b3")]:
            values = numpy_helper.to_array(tensor)[list(rows)]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
        classes = [foreign_graphs.CLASSES[row] for row in rows]
        (tmp_path / "labels.txt").write_text("\n".join(classes))
        onnx.save(proto, tmp_path / "foreign.onnx")
        words = ["--model", tmp_path / "foreign.onnx", "--classes", tmp_path / "labels.txt", "--data"]
        words += [tmp_path / "labels.csv", "--output", tmp_path / f"{name}.onnx", *foreign_graphs.NORMALISED]
        assert main([str(word) for word in words]) == EXIT_OK
        said = capsys.readouterr().out
        spec = description(tmp_path / f"{name}.onnx")
        found.append((spec, dict(zip(spec.class_names, spec.thresholds, strict=True)), said))

    (whole, thresholds, said), (part, own, _) = found
    assert "measured on images of 3 of 5 classes" in said
    assert whole.temperature == pytest.approx(part.temperature)
    assert thresholds == pytest.approx(own | {"ant": 0.5, "dog": 0.5})
    metrics = dict(whole.training.metrics)
    assert metrics.pop("val_classes") == 3
    assert metrics == pytest.approx(part.training.metrics)


def test_json_is_the_description_whatever_is_remarked(adopt, photos, tmp_path):
    code, said = adopt("--data", photos, "--json")

    assert code == EXIT_OK
    assert json.loads(said.out)["result"] == json.loads(description(tmp_path / "ours.onnx").to_json())
