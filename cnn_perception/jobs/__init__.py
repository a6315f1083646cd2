"""The same work on many items, each in a process of its own: one that fails or is killed costs its item only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.jobs.outcome import Outcome as Outcome
    from cnn_perception.jobs.processes import Processes as Processes
    from cnn_perception.jobs.ray_cluster import RayCluster as RayCluster

__getattr__, __dir__ = lazy(__name__, {"Outcome": "outcome", "Processes": "processes", "RayCluster": "ray_cluster"})
