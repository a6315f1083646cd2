"""Owns: what the soak test calls growth. Leaves to others: the node under load (`make soak`)."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmark.support.growth import LIMITS, Sample, growth, sample_process, slope


def samples(memory_mb, threads=10, handles=20):
    return [Sample(float(t), mb, mb, threads, handles) for t, mb in enumerate(memory_mb)]


def test_leak_is_found_in_the_noise():
    rng = np.random.default_rng(0)
    leaking = samples(600 + 0.5 * np.arange(121) + rng.normal(0, 3, 121))
    # half a MB a second over the last 60 of 120 seconds
    assert growth(leaking)["rss_mb"] == pytest.approx(30, abs=4)
    assert growth(leaking)["rss_mb"] > LIMITS["rss_mb"]
    assert growth(leaking)["threads"] == 0


def test_what_only_comes_and_goes_or_came_at_the_start_is_no_growth():
    t = np.arange(121)
    warm = 300 * (1 - np.exp(-t / 5))
    swaps = np.where(t % 15 < 4, 200.0, 0.0)
    assert abs(growth(samples(600 + warm + swaps))["pss_mb"]) < 1


def test_a_thread_left_behind_every_ten_seconds_is_growth():
    leaking = [Sample(float(t), 600.0, 600.0, 10 + t // 10, 20) for t in range(121)]
    assert growth(leaking)["threads"] == pytest.approx(6, abs=0.5)
    assert growth(leaking)["threads"] > LIMITS["threads"]


def test_slope_is_the_median_of_all_pairs():
    # slopes of the three pairs: 1, 4, 7
    assert slope([0, 1, 2], [0, 1, 8]) == 4


def test_slope_of_hours_of_samples_is_as_steep_as_of_minutes():
    assert slope(range(10_000), np.arange(10_000) * 0.25) == 0.25


def test_sample_counts_threads_and_handles_of_a_process(tmp_path: Path):
    now_s = time.perf_counter()
    before = sample_process(os.getpid(), now_s, now_s + 2.0)
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    with (tmp_path / "open").open("w"):
        after = sample_process(os.getpid(), now_s, now_s + 3.0)
    release.set()
    thread.join()

    assert (after.threads - before.threads, after.handles - before.handles) == (1, 1)
    assert (before.time_s, after.time_s) == (pytest.approx(2.0), pytest.approx(3.0))
    assert 0 < after.pss_mb <= after.rss_mb
