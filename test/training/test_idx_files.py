"""Owns: MNIST's idx files as data, also when they are others later, and Nielsen's network on them by his recipe.

Leaves to others: other networks.
"""

from __future__ import annotations

import gzip
import json
import os
import struct

import cv2
import numpy as np
import onnxruntime
import pytest
from paths import SHARED_DATA
from sklearn.datasets import load_digits

from cnn_perception.errors import EXIT_OK, DataError
from training import export, idx_files, train
from training.data.load import load_images

MNIST = SHARED_DATA / "mnist"


def idx(numbers):
    """The bytes of an idx file, by LeCun's description: zeros, type 8, rank, sizes in big endian, then the numbers."""
    return struct.pack(f">BBBB{numbers.ndim}I", 0, 0, 8, numbers.ndim, *numbers.shape) + numbers.tobytes()


def write(folder, images, labels, part="train", pack=False):
    folder.mkdir(exist_ok=True)
    for name, numbers in (("images-idx3", images), ("labels-idx1", labels)):
        data = idx(numbers.astype(np.uint8))
        path = folder / f"{part}-{name}-ubyte{'.gz' if pack else ''}"
        path.write_bytes(gzip.compress(data, 1) if pack else data)


def digits():
    """scikit-learn's digits at MNIST's size, shuffled: images (n, 28, 28) uint8 and labels."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = [cv2.resize((image.reshape(8, 8) * 255 / 16).astype(np.uint8), (28, 28)) for image in pixels[order]]
    return np.stack(images), labels[order]


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A folder like MNIST's, with a plain and a packed part."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    images, labels = digits()
    write(folder, images[:1500], labels[:1500])
    write(folder, images[1500:], labels[1500:], "t10k", pack=True)
    return folder


def test_every_image_is_there_under_its_label_with_its_pixels_and_the_part_it_is_of(mnist):
    images, labels = digits()

    unpacked = idx_files.unpacked(mnist)

    for part, first, last in (("train", 0, 1500), ("test", 1500, len(labels))):
        files = sorted((unpacked / part).rglob("*.png"), key=lambda path: path.name)
        assert [int(path.parent.name) for path in files] == labels[first:last].tolist()
        for path, image in list(zip(files, images[first:last], strict=True))[::100]:
            np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), image)
    assert idx_files.unpacked(mnist) == unpacked  # as it is


def test_they_are_a_data_set_whose_test_part_is_kept(mnist):
    data = load_images(mnist)

    assert data.class_names == tuple("0123456789")
    assert len(data.part("test")) == 297
    assert len(data.part("train")) + len(data.part("val")) == 1500


@pytest.fixture(scope="module")
def trained(mnist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ["--data", str(mnist), "--recipe", "nielsen2015", "--output", str(folder), "--workers", "0"]
    assert train.main([*words, "--device", "cpu", "--cache-gb", "0"]) == EXIT_OK
    return folder


def test_nielsens_network_by_his_recipe_reaches_93_percent(trained):
    report = json.loads((trained / "report.json").read_text())

    kept = report["config"]
    assert (kept["backbone"], kept["loss"], kept["lr"], kept["batch_size"], kept["epochs"]) == (
        "mlp",
        "squared",
        3,
        10,
        30,
    )
    assert report["val"]["top1"] >= 0.93
    assert "warning: it has learned" not in (trained / "report.html").read_text()


def test_it_is_exported_and_answers_right_from_the_pixels_alone(trained, mnist, tmp_path):
    model = tmp_path / "digits.onnx"
    assert export.main(["--checkpoint", str(trained / "best.pt"), "--output", str(model)]) == EXIT_OK

    images, labels = digits()
    grey = images[1500:].astype(np.float32)[:, None] / 255  # the recipe takes pixels as they are, from 0 to 1
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": grey.repeat(3, axis=1)})

    assert (logits.argmax(1) == labels[1500:]).mean() >= 0.9


@pytest.mark.skipif(not idx_files.found(MNIST), reason="MNIST's files are not there")
def test_nielsens_network_reaches_95_percent_on_mnist(tmp_path):
    words = ["--data", str(MNIST), "--recipe", "nielsen2015", "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert train.main(words) == EXIT_OK
    assert json.loads((tmp_path / "run/report.json").read_text())["val"]["top1"] >= 0.95


def damaged(folder):
    whole = idx(np.zeros((4, 8, 8), np.uint8))
    labels = idx(np.zeros(4, np.uint8))
    folder.mkdir()
    return folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte", whole, labels


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda whole, labels: (whole[:-1], labels), "holds 255 of the 256 bytes it promises"),
        (lambda whole, labels: (b"<html>404</html>", labels), "is a web page; download the file itself"),
        (lambda whole, labels: (gzip.compress(whole)[:20], labels), "cannot be read"),
        (lambda whole, labels: (whole, None), "its labels, train-labels-idx1-ubyte, are missing"),
        (
            lambda whole, labels: (whole, labels[:4] + struct.pack(">I", 3) + labels[8:11]),
            "not as many images as labels",
        ),
        (lambda whole, labels: (whole[:2] + b"\x0d" + whole[3:], labels), "is no idx file of bytes"),
        (lambda whole, labels: (whole[:4] + struct.pack(">III", 1 << 31, 1 << 31, 1 << 31), labels), "promises"),
    ],
)
def test_what_is_damaged_is_one_line_that_names_the_file(tmp_path, change, said):
    images_path, labels_path, whole, labels = damaged(tmp_path / "data")
    images, others = change(whole, labels)
    images_path.write_bytes(images)
    if others is not None:
        labels_path.write_bytes(others)

    with pytest.raises(DataError, match=said) as caught:
        load_images(tmp_path / "data")

    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.joinpath("data").iterdir() if path.is_dir()] == []


def test_a_test_part_alone_is_refused(tmp_path):
    write(tmp_path / "data", np.zeros((4, 8, 8)), np.zeros(4), "t10k")

    with pytest.raises(DataError, match="no train-images-idx3-ubyte"):
        load_images(tmp_path / "data")


def pictures(unpacked):
    """Every pixel of what was unpacked, by its part, its label and its number."""
    return {
        str(path.relative_to(unpacked)): cv2.imread(str(path), cv2.IMREAD_UNCHANGED).tolist()
        for path in sorted(unpacked.rglob("*.png"))
    }


def written_anew(folder, seed, pack=False):
    """Writes other images of the same size, and returns what must be unpacked of them."""
    images = np.random.default_rng(seed).integers(0, 256, (6, 8, 9), np.uint8)
    labels = (np.arange(6) + seed) % 3
    write(folder, images, labels, pack=pack)
    return {f"train/{label}/{number}.png": images[number].tolist() for number, label in enumerate(labels)}


def test_other_files_of_the_same_size_and_time_are_unpacked_anew(tmp_path, capsys):
    data = tmp_path / "data"
    first = written_anew(data, 1)
    assert pictures(idx_files.unpacked(data)) == first
    times = {path: path.stat().st_mtime_ns for path in data.glob("*ubyte")}
    capsys.readouterr()

    second = written_anew(data, 2)
    for path, time_ns in times.items():
        os.utime(path, ns=(time_ns, time_ns))

    assert pictures(idx_files.unpacked(data)) == second != first
    assert f"{data / 'unpacked'}: was unpacked from other files than there are now" in capsys.readouterr().out
    assert [path.name for path in data.iterdir() if path.is_dir()] == ["unpacked"]
    assert idx_files.unpacked(data) == data / "unpacked"
    assert not capsys.readouterr().out


def test_a_part_that_comes_or_goes_later_is_unpacked_or_removed(tmp_path):
    data = tmp_path / "data"
    written_anew(data, 1)
    idx_files.unpacked(data)

    write(data, np.zeros((4, 8, 9)), np.zeros(4), "t10k", pack=True)
    assert (idx_files.unpacked(data) / "test").is_dir()

    for path in data.glob("t10k*"):
        path.unlink()
    assert not (idx_files.unpacked(data) / "test").exists()


def test_a_folder_of_which_nobody_knows_what_it_was_unpacked_from_is_not_trained_and_stays(tmp_path):
    data = tmp_path / "data"
    written_anew(data, 1)
    (data / "unpacked" / "train" / "0").mkdir(parents=True)

    with pytest.raises(DataError, match=r"unpacked: nothing tells whether it is of the idx files .*remove it"):
        load_images(data)
    assert (data / "unpacked" / "train" / "0").is_dir()


def test_what_is_damaged_later_is_said_and_what_was_unpacked_stays(tmp_path):
    data = tmp_path / "data"
    first = written_anew(data, 1)
    idx_files.unpacked(data)
    path = data / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(DataError, match="promises"):
        idx_files.unpacked(data)
    assert pictures(data / "unpacked") == first


def test_the_files_of_several_data_sets_are_refused_with_their_names(tmp_path):
    data = tmp_path / "data"
    for name in ("emnist-letters-", "emnist-balanced-"):
        for part in ("train", "test"):
            write(data, np.zeros((4, 8, 8)), np.zeros(4), name + part, pack=True)

    with pytest.raises(DataError) as error:
        load_images(data)
    for said in (
        "holds the idx files of 2 data sets (emnist-balanced-",
        "emnist-letters-",
        "into a folder of its own",
    ):
        assert said in str(error.value)
    assert not (data / "unpacked").exists()


def test_two_files_of_one_part_are_refused_and_a_packed_one_beside_the_same_plain_one_is_not(tmp_path):
    data = tmp_path / "data"
    plain = written_anew(data, 1)
    written_anew(data, 2, pack=True)
    assert pictures(idx_files.unpacked(data)) == plain

    for part in ("t10k", "test"):
        write(data, np.zeros((4, 8, 9)), np.zeros(4), part)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte and test-images-idx3-ubyte are of the same part"):
        idx_files.unpacked(data)
