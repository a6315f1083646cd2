"""Owns: features of images that outlive a run. Leaves to others: what a probe does with them (test_head)."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from tiny_images import write_folder
from tiny_run import same, weights
from torch import nn

from training.batches import feature_cache
from training.batches.feature_cache import FeatureCache, digests_of, key_of
from training.config import make
from training.data.records import Sample
from training.loop import probe
from training.loop.run import open_run

CPU = torch.device("cpu")


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, 4)).astype(np.float32)


def test_what_was_added_is_found_by_content_in_any_order(tmp_path):
    first, second = rows(3), rows(2, 1)
    FeatureCache(tmp_path, "k").add(["a", "b", "c"], first)
    FeatureCache(tmp_path, "k").add(["d", "e"], second)

    found, known = FeatureCache(tmp_path, "k").read(["e", "x", "a", ""], 4)

    assert known.tolist() == [True, False, True, False]
    assert np.array_equal(found[[0, 2]], [second[1], first[0]])
    assert not FeatureCache(tmp_path, "other").read(["a"], 4)[1].any()
    assert not FeatureCache(None, "k").read(["a"], 4)[1].any()


def test_another_weight_preprocessing_or_device_is_another_key():
    network = nn.Linear(3, 2)
    before = key_of(network, ["resnet18", {"height": 224}], CPU)

    assert before == key_of(network, ["resnet18", {"height": 224}], CPU)
    assert before != key_of(network, ["resnet18", {"height": 225}], CPU)
    assert before != key_of(network, ["resnet18", {"height": 224}], torch.device("cuda"))
    with torch.no_grad():
        network.weight[0, 0] += 1e-6
    assert before != key_of(network, ["resnet18", {"height": 224}], CPU)


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"", lambda data: flipped(data)])
def test_a_damaged_file_is_removed_and_nothing_of_it_is_taken(damage, tmp_path):
    cache = FeatureCache(tmp_path, "k")
    cache.add(["a", "b"], rows(2))
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(damage(file.read_bytes()))

    assert not cache.read(["a", "b"], 4)[1].any()
    assert not file.exists()


def flipped(data):
    at = data.index(rows(2).tobytes()) + 5
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_what_was_used_longest_ago_goes_first(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path, "k")
    for number, name in enumerate("abc"):
        cache.add([name], rows(1, number))
        for file in tmp_path.glob("*.npz"):
            os.utime(file, (file.stat().st_mtime - 100,) * 2)
    cache.read(["a"], 4)  # reads all files of the key, and so uses them alike
    sizes = sum(file.stat().st_size for file in tmp_path.glob("*.npz"))
    oldest = sorted(tmp_path.glob("*.npz"))[0]
    os.utime(oldest, (0, 0))
    monkeypatch.setattr(feature_cache, "LIMIT_BYTES", sizes)

    cache.add(["d"], rows(1, 9))

    assert not oldest.exists()
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_a_folder_that_cannot_be_written_to_is_said_and_costs_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    FeatureCache(tmp_path / "file" / "below", "k").add(["a"], rows(1))

    assert "features are not kept for other runs" in capsys.readouterr().out


def test_an_image_that_cannot_be_read_has_no_digest(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")

    found = digests_of([Sample(tmp_path / name, 0, "train") for name in ("a.png", "b.png")])

    assert [bool(digest) for digest in found] == [True, False]


def test_a_second_run_of_another_setting_decodes_nothing_and_finds_the_same_features(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(feature_cache.FOLDER, str(tmp_path / "kept"))
    photos = write_folder(tmp_path / "d", {"go": 12, "stop": 15})
    settings = {"mode": "probe", "backbone": "mobilenet_v3_small", "weights": "none", "epochs": 20}
    probe_settings = {"weight_decay": 0.01, **settings}
    first = probe_run(photos, tmp_path / "first", probe_settings)
    probe.fit(first)

    monkeypatch.setattr(probe, "predict", None)  # any image that is decoded now fails
    capsys.readouterr()
    again = probe_run(photos, tmp_path / "again", probe_settings)
    probe.fit(again)
    other = probe_run(photos, tmp_path / "other", {**probe_settings, "weight_decay": 1.0, "val_fraction": 0.4})
    probe.fit(other)

    assert capsys.readouterr().out.count("features of 27 of 27 images are known from earlier runs") == 2
    assert same(weights(tmp_path / "first" / "best.pt"), weights(tmp_path / "again" / "best.pt"))
    assert not same(weights(tmp_path / "first" / "best.pt"), weights(tmp_path / "other" / "best.pt"))


def probe_run(photos, folder, settings):
    shared = {"input_size": (32, 40), "workers": 0, "device": "cpu", "batch_size": 8}
    return open_run(make(data=str(photos), output=str(folder), **shared, **settings))
