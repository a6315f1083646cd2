"""Owns: that work is done by Ray, whose retries cover a killed process, and what is said where there is no Ray."""

from __future__ import annotations

import sys

import pytest
from job_works import obey

from cnn_perception.errors import ConfigError
from cnn_perception.jobs.ray_cluster import LOCAL, RayCluster


def test_without_ray_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(ConfigError, match=r"--ray needs Ray; install it with pip install -r requirements/fleet\.txt"):
        RayCluster(obey, [], LOCAL, 1)


def test_a_cluster_that_is_not_there_is_one_line():
    pytest.importorskip("ray", reason="Ray is an optional extra")

    with pytest.raises(ConfigError, match=r"--ray 127\.0\.0\.1:1: cannot be reached"):
        RayCluster(obey, [], "127.0.0.1:1", 1)


def test_on_a_local_cluster_a_failed_task_costs_itself_and_is_tried_once_more_unless_its_input_is_bad(tmp_path):
    pytest.importorskip("ray", reason="Ray is an optional extra")
    words = ("fine", "die once", "die", "no memory", "refuse")

    outcomes = RayCluster(obey, [(word, str(tmp_path)) for word in words], LOCAL, 2).outcomes()
    found = {words[one.index]: one for one in outcomes}

    assert {word: one.result for word, one in found.items()} == {
        "fine": "fine", "die once": "die once", "die": None, "no memory": None, "refuse": None
    }  # fmt: skip
    assert {word: len((tmp_path / word).read_text().split()) for word in words} == {
        "fine": 1, "die once": 2, "die": 2, "no memory": 2, "refuse": 1
    }  # fmt: skip
    assert found["refuse"].failure == "this cannot be used"
    assert found["no memory"].failure == "this finds no memory"
    assert "WorkerCrashedError" in found["die"].failure
