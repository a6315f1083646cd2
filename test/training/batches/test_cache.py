"""Owns: decoded training images on the disk. Leaves to others: decoding, preprocessing, batches without them."""

from __future__ import annotations

import dataclasses
import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_images import scene

from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import decode_file_bytes
from training.batches import cache
from training.batches.augment import Augmentation
from training.batches.cache import HEADER, close_cache, kept_size, open_cache
from training.batches.loader import Images, Order, data_loader
from training.config import make
from training.data.records import Sample

SMALL, LARGE = (24, 40), (300, 400)
PIXELS = 24 * 40 * 3 + HEADER.size


def settings(tmp_path, **given):
    values = {"input_size": (16, 20), "augment": ("light",), **given}
    return make(data="d", output=str(tmp_path / "run"), **values)


def pictures(tmp_path, count, size=SMALL, first_seed=0):
    """Samples whose JPEG files hold noise."""
    samples = []
    for index in range(count):
        pixels = np.random.default_rng(first_seed + index).integers(0, 256, (*size, 3), np.uint8)
        path = tmp_path / f"{first_seed + index}.jpg"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, index % 2, "train"))
    return tuple(samples)


def opened(samples, config):
    return open_cache(samples, config, Augmentation.of(config, "multiclass"))


def kept(config):
    return sorted(cache.folder(config).glob("*"))


def decoded(sample):
    return decode_file_bytes(sample.path.read_bytes())


def batches_of(samples, config, stored, workers=0):
    images = Images(samples, config.input, Augmentation.of(config, "multiclass"), 3, stored)
    order = Order(len(samples), 4, shuffle_seed=2)
    return torch.cat([batch.images for batch in data_loader(images, order, workers, pin_memory=False)])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_and_without(tmp_path, workers):
    config, samples = settings(tmp_path, augment=("light", "classic")), pictures(tmp_path, 8)

    stored = opened(samples, config)
    with_cache = batches_of(samples, config, stored, workers)

    assert None not in stored.files
    assert torch.equal(with_cache, batches_of(samples, config, None))


def test_pixels_come_from_the_disk_and_not_from_the_picture_file(tmp_path):
    config, samples = settings(tmp_path), pictures(tmp_path, 3)
    expected = [decoded(sample) for sample in samples]

    stored = opened(samples, config)
    for sample in samples:
        sample.path.unlink()

    for row, sample in enumerate(samples):
        assert np.array_equal(stored.image(row, sample.path), expected[row])


def test_a_large_picture_is_kept_as_pillow_resizes_it_whether_there_is_room_or_not(tmp_path):
    config, samples = settings(tmp_path, augment=("color",)), pictures(tmp_path, 1, LARGE)
    # 1.5 x (16 / 0.875, 20 / 0.875) = (27, 34) is covered by 27 rows and 27 * 400 / 300 = 36 columns
    expected = np.asarray(Image.fromarray(decoded(samples[0])).resize((36, 27), Image.Resampling.BILINEAR))

    on_disk = opened(samples, config)
    no_room = opened(samples, dataclasses.replace(config, cache_gb=1e-9, cache_dir=str(tmp_path / "other")))

    assert on_disk.files[0] is not None
    assert no_room.files == (None,)
    assert np.array_equal(on_disk.image(0, samples[0].path), expected)
    assert np.array_equal(no_room.image(0, samples[0].path), expected)


def test_more_is_kept_where_the_augmentation_zooms_in(tmp_path):
    def size(*switches, **given):
        config = settings(tmp_path, input_size=(224, 224), augment=switches, **given)
        return kept_size(config.input, Augmentation.of(config, "multiclass"))[0]

    assert size("color") == 384  # 1.5 x 224 / 0.875
    assert size("crop", crop_area=0.35) == 384  # 224 / sqrt(0.35) = 379 is less
    assert size("crop", crop_area=0.08) == 792  # 224 / sqrt(0.08)
    assert size("scale", scale_factor=2.0) == 512  # 256 x 2
    assert size("none") == 384


def test_a_second_run_finds_what_the_first_one_left(tmp_path, monkeypatch):
    config, samples = settings(tmp_path, cache_dir=str(tmp_path / "shared")), pictures(tmp_path, 4)
    first = opened(samples[:3], config)
    monkeypatch.setattr(cache, "decode_file_bytes", lambda data: pytest.fail("decoded again"))

    assert opened(samples[:3], config) == first
    assert opened(samples[:2], config).files == first.files[:2]
    close_cache(config)
    assert len(kept(config)) == 3


def test_other_pictures_and_other_ways_to_keep_them_are_other_files(tmp_path):
    config, (one, two) = settings(tmp_path, cache_dir=str(tmp_path / "shared")), pictures(tmp_path, 2)
    before = opened((one,), config).files[0]

    larger = opened((one,), settings(tmp_path, cache_dir=config.cache_dir, input_size=(160, 160))).files[0]
    one.path.write_bytes(two.path.read_bytes())
    changed = opened((one,), config)

    assert len({before, larger, changed.files[0]}) == 3
    assert np.array_equal(changed.image(0, one.path), decoded(two))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "text", "missing"])
def test_a_damaged_file_is_written_again(tmp_path, damage):
    config, samples = settings(tmp_path), pictures(tmp_path, 2)
    file = opened(samples, config).files[0]
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        broken = {"flipped": flipped, "truncated": whole[:-1], "empty": b"", "text": b"x" * len(whole)}
        file.write_bytes(broken[damage])

    stored = opened(samples, config)

    assert stored.files[0] == file
    assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", [None, b"", b"cnnp"])
def test_a_file_that_vanishes_during_training_is_decoded_instead(tmp_path, damage):
    config, samples = settings(tmp_path), pictures(tmp_path, 1)
    stored = opened(samples, config)
    stored.files[0].unlink()
    if damage is not None:
        stored.files[0].write_bytes(damage)

    assert np.array_equal(stored.image(0, samples[0].path), decoded(samples[0]))


def test_the_bound_holds_and_the_rest_is_decoded(tmp_path, capsys):
    samples = pictures(tmp_path, 6)
    config = settings(tmp_path, cache_gb=(3 * PIXELS + 100) / 1e9)

    stored = opened(samples, config)

    assert len(kept(config)) == 3
    assert sum(file.stat().st_size for file in kept(config)) <= config.cache_gb * 1e9
    assert sum(file is None for file in stored.files) == 3
    assert "3 of 6 images are decoded in every epoch" in capsys.readouterr().out
    assert torch.equal(batches_of(samples, config, stored), batches_of(samples, config, None))


def test_the_bound_of_a_shared_folder_drops_what_was_unused_longest(tmp_path):
    config = settings(tmp_path, cache_dir=str(tmp_path / "shared"), cache_gb=(3 * PIXELS + 100) / 1e9)
    old, used, new = (pictures(tmp_path, 1, first_seed=seed) for seed in (10, 20, 30))
    files = [opened(samples, config).files[0] for samples in (old, used)]
    for file in files:
        os.utime(file, (0, 0))
    opened(old, config)  # now the second is the older one

    now = opened(new + pictures(tmp_path, 1, first_seed=40), config)

    assert None not in now.files
    assert files[0].exists()
    assert not files[1].exists()


def test_zero_bytes_keep_nothing_and_give_the_same_pixels(tmp_path):
    samples = [Sample(tmp_path / "large.png", 0, "train")]
    Image.fromarray(scene(3, 300, 500)).save(samples[0].path)
    config = settings(tmp_path, cache_gb=0.0)

    nothing = opened(samples, config)

    assert not cache.folder(config).exists()
    some = opened(samples, settings(tmp_path, cache_gb=1.0))
    assert some.files != nothing.files == (None,)
    assert nothing.image(0, samples[0].path).shape != (300, 500, 3)
    assert np.array_equal(nothing.image(0, samples[0].path), some.image(0, samples[0].path))


def test_a_full_disk_ends_the_writing_and_not_the_run(tmp_path, monkeypatch, capsys):
    config, samples = settings(tmp_path), pictures(tmp_path, 2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.Path, "replace", full)
    stored = opened(samples, config)

    assert stored.files == (None, None)
    assert kept(config) == []
    assert "No space left on device" in capsys.readouterr().out
    assert np.array_equal(stored.image(0, samples[0].path), decoded(samples[0]))


def test_a_file_lost_before_it_was_kept_is_left_out_of_the_batch_and_named(tmp_path):
    config, samples = settings(tmp_path), pictures(tmp_path, 3)
    samples[1].path.write_bytes(b"broken")
    samples[2].path.unlink()
    stored = opened(samples, config)

    (batch,) = data_loader(
        Images(samples, config.input, None, 0, stored), Order(3, 3, None), workers=0, pin_memory=False
    )

    assert batch.lost == (1, 2)
    assert batch.rows.tolist() == [0]


def test_the_folder_of_a_run_is_removed_with_its_end_and_one_that_cannot_be_made_is_named(tmp_path):
    config = settings(tmp_path)
    opened(pictures(tmp_path, 1), config)
    close_cache(config)
    assert not cache.folder(config).exists()

    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another --cache-dir"):
        opened((), settings(tmp_path, cache_dir=str(tmp_path / "file")))
