"""Owns: what the benchmark of the node's rate compares with. Leaves to others: the node (test/perception_node)."""

from __future__ import annotations

import math

import pytest

from benchmark.node_rate import Round, View, circumstances


def test_a_frame_that_needs_no_decoding_is_held_up_by_the_model_alone():
    assert View("640x480", "raw").decoding_hz() == math.inf


def test_of_a_jpeg_it_is_measured_what_one_core_decodes():
    assert 0 < View("160x120", "compressed").decoding_hz() < math.inf


def test_the_ratio_is_that_to_the_slower_of_model_and_decoding():
    assert Round(node_hz=9.0, limit_hz=10.0).ratio == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("threads", "view", "words"),
    [
        (0, View("640x480", "raw"), "resnet18, a thread a core, 640x480 rgb8"),
        (1, View("1280x720", "compressed"), "resnet18, 1 thread, 1280x720 JPEG"),
        (3, View("640x480", "raw"), "resnet18, 3 threads, 640x480 rgb8"),
    ],
)
def test_the_circumstances_tell_measurements_apart(threads, view, words):
    assert circumstances("resnet18", threads, view) == words
