"""Owns: reference images in the model file: which, how they are read, what is nearest; oracle: scikit-learn.

Leaves to others: the embeddings of the graph themselves (test_export), training (test_train).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_distances
from tiny_images import write_folder
from tiny_model import tiny_spec, write_tiny_model

pytest.importorskip("torch", reason="needs what training needs")

from checkpoints import MADE
from tiny_run import command_line, write_photos

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, DataError, ModelError
from cnn_perception.image.messages import EncodedFile
from cnn_perception.model.gallery import Gallery, Neighbour
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import GALLERY_KEY, METADATA_KEY, GallerySpec, ModelSpec
from cnn_perception.pipeline.pipeline import Pipeline
from training import checkpoint, export, train
from training.graphs import gallery

CPU = SessionOptions(providers=("CPUExecutionProvider",))
CORNERS = Gallery(("right", "up", "left", "also right"), np.array([[1, 0], [0, 1], [-1, 0], [1, 0]], np.float32))


def text_of(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


# ---- on the robot


def test_the_nearest_come_first_with_their_cosine_distances_and_equal_ones_in_order():
    found = CORNERS.nearest(np.array([3.0, 4.0], np.float32), 4)

    assert [neighbour.name for neighbour in found] == ["up", "right", "also right", "left"]
    assert [neighbour.distance for neighbour in found] == pytest.approx([0.2, 0.4, 0.4, 1.6], abs=1e-6)


def test_distances_are_those_of_scikit_learn_whatever_the_length_of_the_embedding():
    random = np.random.default_rng(0)
    rows = random.standard_normal((50, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(str(index) for index in range(50))
    for length in (1e-3, 1.0, 1e4):
        embedding = (length * random.standard_normal(512)).astype(np.float32)
        expected = cosine_distances(embedding[None].astype(float), rows.astype(float))[0]
        found = Gallery(names, rows).nearest(embedding, 5)
        assert [int(neighbour.name) for neighbour in found] == np.argsort(expected)[:5].tolist()
        assert [neighbour.distance for neighbour in found] == pytest.approx(np.sort(expected)[:5], abs=1e-6)


def test_never_more_neighbours_than_references_and_none_where_none_are_wanted():
    embedding = np.array([1, 0], np.float32)
    assert len(CORNERS.nearest(embedding, 99)) == 4
    assert CORNERS.nearest(embedding, 0) == []
    assert CORNERS.nearest(embedding, 1) == [Neighbour("right", 0.0)]


def test_an_embedding_of_zeros_is_near_to_nothing():
    assert {neighbour.distance for neighbour in CORNERS.nearest(np.zeros(2, np.float32), 4)} == {1.0}


def test_a_gallery_is_read_as_it_was_written():
    random = np.random.default_rng(1).standard_normal((3, 7))
    rows = (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)
    text = Gallery(("a", "b\nc", "ä"), rows).to_metadata()

    read = Gallery.from_metadata(GallerySpec(("a", "b\nc", "ä"), 7), text)

    assert read.names == ("a", "b\nc", "ä")
    np.testing.assert_array_equal(read.embeddings, rows)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), rows.ravel())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its gallery has 0 bytes, 2 images of 2 numbers are 16"),
        (text_of(1, 0, 1), "its gallery has 12 bytes"),
        (text_of(1, 0, 0, 1, 0), "its gallery has 20 bytes"),
        ("%%%%", "not base64"),
        (text_of(1, 0, 0, 1) + "\n", "not base64"),
        ("ä" * 24, "not base64"),
        (text_of(1, 0, 0, 1)[:-1], "not base64"),
        (text_of(1, 0, float("nan"), 1), "the embedding of 'b' has the length nan"),
        (text_of(float("inf"), 0, 0, 1), "the embedding of 'a' has the length inf"),
        (text_of(1, 0, 0, 0), "the embedding of 'b' has the length 0"),
        (text_of(1, 0, 1, 1), "the embedding of 'b' has the length 1.41421"),
    ],
)
def test_a_damaged_gallery_is_refused_in_one_line(text, message):
    with pytest.raises(ModelError, match=message) as caught:
        Gallery.from_metadata(GallerySpec(("a", "b"), 2), text)
    assert "\n" not in str(caught.value)


def with_metadata(path: Path, spec: GallerySpec, **extra: str) -> Path:
    described = dataclasses.replace(tiny_spec(), gallery=spec)
    write_tiny_model(path, spec=described)
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {METADATA_KEY: described.to_json(), **extra})
    onnx.save(proto, path)
    return path


def test_a_loaded_model_knows_its_gallery(tmp_path):
    spec = GallerySpec(("red.png", "blue.png"), 3)
    path = with_metadata(tmp_path / "m.onnx", spec, **{GALLERY_KEY: text_of(1, 0, 0, 0, 0, 1)})
    Image.new("RGB", (40, 30), (0, 0, 200)).save(tmp_path / "frame.png")

    pipeline = Pipeline(OnnxModel(path, CPU))
    frame = EncodedFile((tmp_path / "frame.png").read_bytes(), "png")

    assert pipeline.model.gallery.nearest(pipeline.run(frame).prediction.embedding, 2) == [
        Neighbour("blue.png", 0.0),
        Neighbour("red.png", 1.0),
    ]
    assert OnnxModel(write_tiny_model(tmp_path / "plain.onnx"), CPU).gallery is None


@pytest.mark.parametrize(
    ("dimensions", "metadata", "message"),
    [
        (3, {}, "its spec names a gallery, but it carries no cnn_perception.gallery"),
        (3, {GALLERY_KEY: text_of(1, 0)}, "its gallery has 8 bytes, 1 images of 3 numbers are 12"),
        (2, {GALLERY_KEY: text_of(1, 0)}, "its gallery has embeddings of 2 numbers, the graph gives 3"),
    ],
)
def test_a_model_whose_gallery_is_not_its_own_is_not_loaded(tmp_path, dimensions, metadata, message):
    path = with_metadata(tmp_path / "m.onnx", GallerySpec(("a",), dimensions), **metadata)

    with pytest.raises(ModelError, match=message) as caught:
        OnnxModel(path, CPU)

    assert str(caught.value).startswith(f"{path}: ")


# ---- which images


def listed(folder: Path, targets, **fields):
    """A checkpoint of empty files 00, 01, ... with these targets."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:02}.png" for number in range(len(targets))]
    for path in paths:
        path.touch()
    images = tuple(map(str, paths))
    return dataclasses.replace(MADE, train_images=images, train_targets=targets, **fields)


def names_of(references):
    return [int(reference.name.removesuffix(".png")) for reference in references]


def test_images_of_each_class_lie_evenly_in_its_list(tmp_path):
    # class 0 has the images 0 to 8, class 1 the two after them
    made = listed(tmp_path, ((0,),) * 9 + ((1,),) * 2)

    assert names_of(gallery.of_training(made, 3)) == [0, 4, 8, 9, 10]
    assert names_of(gallery.of_training(made, 1)) == [0, 9]
    assert names_of(gallery.of_training(made, 99)) == list(range(11))


def test_an_image_of_several_classes_counts_for_each_and_one_of_none_is_a_group_of_its_own(tmp_path):
    made = listed(tmp_path, ((1, 1), (1, 0), (0, 1), (0, 0), (0, 0)), task="multilabel")

    assert names_of(gallery.of_training(made, 1)) == [0, 3]
    assert names_of(gallery.of_training(made, 2)) == [0, 1, 2, 3, 4]


def test_without_classes_all_images_are_one(tmp_path):
    drive = ((0.5, -1.0),) * 5
    assert names_of(gallery.of_training(listed(tmp_path, drive, task="regression"), 3)) == [0, 2, 4]
    old = dataclasses.replace(listed(tmp_path, drive, task="multilabel"), train_targets=())
    assert names_of(gallery.of_training(old, 3)) == [0, 2, 4]


def test_deleted_images_are_passed_over_until_none_is_left(tmp_path):
    made = listed(tmp_path, ((0,),) * 3)
    (tmp_path / "00.png").unlink()
    assert names_of(gallery.of_training(made, 2)) == [1, 2]
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="--gallery: no training image of the checkpoint is where it was"):
        gallery.of_training(made, 2)


def test_images_of_a_folder_are_named_by_their_place_in_it(tmp_path):
    write_folder(tmp_path / "seen", {"ä b": 1, "c": 1})
    (tmp_path / "seen" / "notes.txt").touch()
    (tmp_path / "seen" / "c" / "._00.png").touch()

    assert [reference.name for reference in gallery.of_folder(tmp_path / "seen")] == ["c/00.png", "ä b/00.png"]


def test_too_many_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_IMAGES", 3)
    write_folder(tmp_path / "seen", {"go": 4})

    with pytest.raises(DataError, match="a gallery of 4 images is too large; 3 are the most"):
        gallery.of_folder(tmp_path / "seen")


# ---- from training to the robot


@dataclasses.dataclass
class Trained:
    photos: Path
    checkpoint: Path
    model: OnnxModel
    printed: str


def exported(checkpoint_file: Path, output: Path, *options: str) -> OnnxModel:
    assert export.main(["--checkpoint", str(checkpoint_file), "--output", str(output), *options]) == EXIT_OK
    return OnnxModel(output, CPU)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A LeNet-5 of 3 classes, exported with the gallery by default."""
    folder = tmp_path_factory.mktemp("gallery")
    printed = io.StringIO()
    photos = write_photos(folder / "photos")
    best = folder / "run" / "best.pt"
    assert train.main(command_line(photos, best.parent, epochs=1)) == EXIT_OK
    with contextlib.redirect_stdout(printed):
        model = exported(best, folder / "m.onnx", "--gallery")
    return Trained(photos, best, model, printed.getvalue())


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_every_reference_image_is_its_own_nearest_neighbour(trained, tmp_path, precision):
    model = trained.model
    if precision != "fp32":
        options = (f"--{precision}", "--max-accuracy-loss", "1", "--gallery", "2")
        model = exported(trained.checkpoint, tmp_path / "m.onnx", *options)
        assert len(model.gallery.names) == 6

    pipeline = Pipeline(model)
    for name in model.gallery.names:
        embedding = pipeline.run(EncodedFile((trained.photos / name).read_bytes(), "png")).prediction.embedding
        first, second = model.gallery.nearest(embedding, 2)
        assert first.name == name
        assert first.distance < 1e-6
        assert second.distance > 10 * first.distance


def test_by_default_ten_training_images_a_class_travel_and_their_names_below_the_folder_alone(trained):
    images = [Path(path) for path in checkpoint.load(trained.checkpoint).train_images]
    of_class = Counter(path.parent.name for path in images)

    names = trained.model.gallery.names
    assert Counter(name.split("/")[0] for name in names) == {name: min(n, 10) for name, n in of_class.items()}
    assert {trained.photos / name for name in names} <= set(images)
    shares = [of_class[name] / len(images) for name in ("go", "stop", "turn")]
    assert trained.model.spec.statistics.class_shares == pytest.approx(shares)
    assert trained.model.spec.statistics.images == 8
    assert f"gallery     {len(names)} images of 84 numbers" in trained.printed
    assert str(trained.photos.parent).encode() not in trained.model.path.read_bytes()


def test_a_network_without_training_takes_references_from_a_folder(tmp_path, trained):
    argv = ["--backbone", "lenet5", "--classes", "3", "--size", "32", "40", "--output", str(tmp_path / "m.onnx")]

    assert export.main([*argv, "--gallery-images", str(trained.photos / "go")]) == EXIT_OK

    model = OnnxModel(tmp_path / "m.onnx", CPU)
    assert model.gallery.names == tuple(f"{number:02}.png" for number in range(12))
    assert model.spec.statistics is None
    (entry,) = [e for e in onnx.load(tmp_path / "m.onnx").metadata_props if e.key == METADATA_KEY]
    assert ModelSpec.from_json(entry.value) == model.spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gallery", "0"], "--gallery 0: at least 1 image of a class is needed"),
        (["--gallery-images", "nowhere"], "--gallery-images nowhere: holds no image"),
    ],
)
def test_wrong_options_are_refused_in_one_line(trained, tmp_path, capsys, options, message):
    assert (
        export.main(["--checkpoint", str(trained.checkpoint), "--output", str(tmp_path / "m"), *options])
        == EXIT_BAD_INPUT
    )

    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_a_damaged_reference_image_is_named_and_no_file_is_left(trained, tmp_path, capsys):
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "a.png").write_bytes(b"\x89PNG")
    argv = [
        "--checkpoint",
        str(trained.checkpoint),
        "--output",
        str(tmp_path / "m"),
        "--gallery-images",
        str(tmp_path / "seen"),
    ]

    assert export.main(argv) == EXIT_BAD_INPUT

    assert "a.png: this reference image cannot be read any more" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--backbone", "lenet5", "--classes", "3", "--gallery"],
        ["--checkpoint", "best.pt", "--gallery", "--gallery-images", "x"],
    ],
)
def test_options_that_exclude_each_other_are_refused(options):
    with pytest.raises(SystemExit, match="2"):
        export.main(["--output", "m.onnx", *options])
