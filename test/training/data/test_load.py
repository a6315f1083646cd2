"""Owns: finding, reading and listing labelled images in folders, and batches of them.

Leaves to others: decoding, augmentation, what is wrong with data (test_check), how it is split (test_split), CSV files
(test_csv_table).
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from tiny_images import write_folder

from cnn_perception.errors import DataError
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from cnn_perception.pipeline.preprocess import preprocess
from training.batches.augment import Augmentation
from training.batches.loader import Images, Key, Order, data_loader
from training.config import make
from training.data.load import DataOptions, load_images

SPEC = InputSpec(16, 20, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def load(root, **changes):
    return load_images(root, DataOptions(**changes), root.parent / "findings.csv")


def parts_by_class(data):
    return Counter((data.class_names[s.label], s.part) for s in data.samples)


def test_a_plain_folder_is_split_class_by_class(tmp_path):
    data = load(write_folder(tmp_path / "d", {"stop": 12, "go": 7}), test_fraction=0.1)

    # 12 x 0.2 = 2.4 and 12 x 0.1 = 1.2; 7 x 0.2 = 1.4 and 7 x 0.1 = 0.7
    expected = {("stop", "val"): 2, ("stop", "test"): 1, ("stop", "train"): 9}
    expected |= {("go", "val"): 1, ("go", "test"): 1, ("go", "train"): 5}
    assert parts_by_class(data) == expected
    assert data.class_names == ("go", "stop")


def test_the_split_follows_from_the_seed(tmp_path):
    root = write_folder(tmp_path / "d", {"a": 20, "b": 20})

    assert load(root, seed=3).samples == load(root, seed=3).samples
    assert load(root, seed=3).samples != load(root, seed=4).samples


def test_a_val_folder_is_used_as_it_is(tmp_path):
    write_folder(tmp_path / "d" / "train", {"a": 5, "b": 4})
    write_folder(tmp_path / "d" / "val", {"a": 1, "b": 2}, first_seed=50)

    data = load(tmp_path / "d")

    assert parts_by_class(data) == {("a", "train"): 5, ("b", "train"): 4, ("a", "val"): 1, ("b", "val"): 2}


def test_without_a_val_folder_validation_is_held_out_of_train_and_test_stays(tmp_path):
    write_folder(tmp_path / "d" / "train", {"a": 10, "b": 10})
    write_folder(tmp_path / "d" / "test", {"a": 3, "b": 3}, first_seed=50)

    data = load(tmp_path / "d", test_fraction=0.5)

    assert Counter(s.part for s in data.samples) == {"train": 16, "val": 4, "test": 6}
    assert all("test" in s.path.parts for s in data.part("test"))


def test_what_is_no_image_is_ignored_and_counted(tmp_path):
    root = write_folder(tmp_path / "d", {"a": 4, "b": 4})
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / "._00.png").write_bytes(b"x")
    (root / "a" / "drawing.svg").write_bytes(b"<svg>")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        write_folder(root / folder, {"c": 3})
    (root / "readme.md").write_text("x")

    data = load(root)

    assert data.class_names == ("a", "b")
    assert len(data.samples) == 8
    assert data.ignored == {
        "not an image (.txt)": 1,
        "not an image (.svg)": 1,
        "hidden files": 1,
        "files outside class folders": 1,
    }


def test_a_loop_of_links_gives_each_real_file_once(tmp_path):
    root = write_folder(tmp_path / "d", {"a": 3, "b": 3})
    (root / "a" / "again").symlink_to(root / "a")
    (root / "b" / "copy.png").symlink_to(root / "b" / "00.png")

    data = load(root)

    assert sorted(s.path.name for s in data.samples) == ["00.png", "00.png", "01.png", "01.png", "02.png", "02.png"]
    assert data.ignored["folders linked twice"] == 1
    assert data.ignored["files linked twice"] == 1


def test_up_to_five_percent_of_broken_images_are_listed_and_left_out(tmp_path):
    root = write_folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "03.png").write_text("<html>not found</html>")

    data = load(root)

    assert len(data.samples) == 19
    rows = list(csv.reader((tmp_path / "findings.csv").open()))
    assert rows[0] == ["path", "reason", "action"]
    assert rows[1][0].endswith("a/03.png")
    assert rows[1][1].startswith("format")


def test_above_five_percent_of_broken_images_training_does_not_start(tmp_path):
    root = write_folder(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "03.png").write_bytes(b"")
    truncated = (root / "b" / "01.png").read_bytes()[:300]
    (root / "b" / "01.png").write_bytes(truncated)

    with pytest.raises(DataError, match=r"2 images cannot be used, first .*see .*findings\.csv"):
        load(root)
    assert len((tmp_path / "findings.csv").read_text().splitlines()) == 3


def test_every_unusable_folder_is_named(tmp_path):
    one = write_folder(tmp_path / "one", {"a": 5})
    few = write_folder(tmp_path / "few", {"a": 5, "b": 2})
    empty = write_folder(tmp_path / "empty", {"a": 5, "b": 0})
    write_folder(tmp_path / "differ" / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "differ" / "val", {"a": 5, "c": 5})
    write_folder(tmp_path / "parent" / "birds" / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "outer" / "birds", {"a": 5, "b": 5})
    write_folder(tmp_path / "alias" / "train", {"a": 5, "b": 5})
    write_folder(tmp_path / "alias" / "unlabelled", {"a": 5, "b": 5})
    (tmp_path / "nothing").mkdir()

    for root, message in (
        (one, "one class only \\('a'\\)"),
        (few, "class 'b' has 2 usable images in train, 3 are needed"),
        (empty, "class 'b' holds no image"),
        (tmp_path / "differ", "class 'b' has no image in val"),
        (tmp_path / "parent", "use --data .*birds"),
        (tmp_path / "outer", "use --data .*birds"),
        (tmp_path / "alias", "'unlabelled' beside train"),
        (tmp_path / "nothing", "no class folders"),
        (tmp_path / "missing", "no such folder"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            load(root)
        assert "\n" not in str(caught.value)


def test_a_class_name_may_hold_any_character(tmp_path):
    names = ("zone 30, große", "line\nbreak", "止まれ", "n" * 200)
    data = load(write_folder(tmp_path / "d", dict.fromkeys(names, 3)))

    assert data.class_names == tuple(sorted(names))


def test_the_digest_covers_names_labels_and_contents(tmp_path):
    root = write_folder(tmp_path / "d", {"a": 3, "b": 3})
    digest = hashlib.sha256()
    for path in sorted(root.glob("*/*.png")):
        digest.update(f"{path.parent.name}/{path.name}\0{path.parent.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    assert load(root).sha256 == digest.hexdigest()

    moved = root.rename(tmp_path / "elsewhere")
    assert load(moved).sha256 == digest.hexdigest()
    (moved / "a" / "00.png").rename(moved / "a" / "07.png")
    assert load(moved).sha256 != digest.hexdigest()


def samples_of(tmp_path, count=5):
    return load(write_folder(tmp_path / "d", {"a": count, "b": 3})).samples


def test_training_without_augmentation_sees_exactly_what_the_runtime_sees(tmp_path):
    samples = samples_of(tmp_path)

    (batch,) = data_loader(Images(samples, SPEC), Order(8, 8, shuffle_seed=1), workers=0, pin_memory=False)

    for row, image, label in zip(batch.rows, batch.images, batch.labels, strict=True):
        expected = preprocess(decode_file_bytes(samples[row].path.read_bytes()), SPEC)
        assert image.numpy().tobytes() == expected.tobytes()
        assert label == samples[row].label


def test_augmented_batches_do_not_depend_on_the_number_of_workers(tmp_path):
    samples = samples_of(tmp_path)
    config = make(data="d", output="o", augment=("light", "classic"), input_size=(16, 20))
    images = Images(samples, config.input, Augmentation.of(config, "multiclass"), seed=5)

    alone, shared = (
        torch.cat([b.images for b in data_loader(images, Order(8, 3, shuffle_seed=2), workers, pin_memory=False)])
        for workers in (0, 2)
    )

    assert torch.equal(alone, shared)


def test_every_epoch_augments_an_image_differently_and_reproducibly(tmp_path):
    config = make(data="d", output="o", augment=("classic",), input_size=(16, 20))
    images = Images(samples_of(tmp_path), config.input, Augmentation.of(config, "multiclass"), seed=5)

    first, again, next_epoch = (images[key].tensor for key in (Key(0, 1), Key(0, 1), Key(1, 1)))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_epoch)


def test_an_image_lost_during_training_is_named_and_left_out(tmp_path):
    samples = samples_of(tmp_path)
    samples[2].path.unlink()
    samples[4].path.write_bytes(b"broken")

    (batch,) = data_loader(Images(samples, SPEC), Order(8, 8, None), workers=0, pin_memory=False)

    assert batch.lost == (2, 4)
    assert batch.rows.tolist() == [0, 1, 3, 5, 6, 7]
    assert batch.images.shape == (6, 3, 16, 20)


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    order = Order(10, 4, shuffle_seed=7)
    epochs = []
    for order.epoch in (0, 1, 0):
        epochs.append([key.row for batch in order for key in batch])

    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert epochs[0] == epochs[2]


def test_an_epoch_begun_at_a_later_batch_is_the_rest_of_the_same_epoch():
    whole, rest = Order(10, 4, shuffle_seed=7), Order(10, 4, shuffle_seed=7)
    rest.first_batch = 1

    assert list(rest) == list(whole)[1:]
    assert (len(whole), len(rest)) == (3, 2)


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (9, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_a_single_left_over_image_is_no_training_batch(count, sizes):
    assert [len(batch) for batch in Order(count, 4, shuffle_seed=0)] == sizes
    assert sum(len(batch) for batch in Order(count, 4, shuffle_seed=None)) == count
