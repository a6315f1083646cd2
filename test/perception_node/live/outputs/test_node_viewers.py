"""Owns: that no viewer, however slow what it wants, changes which frames are answered, or gets what is of another time.

The score map of the node in these tests is stuck until it is let go. Leaves to others: the threads (test_viewers), what
is in the messages (test_node_results), defects (test_injection).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from injection import InjectedNode, Injection
from lifecycle_msgs.msg import Transition
from perception import NODE, ask, camera_of, diagnosis, image, set_parameter, stamp, transition, wait_until
from ros import Participant
from sensor_msgs.msg import Image
from tiny_model import write_models
from vision_msgs.msg import Classification

WORKER = "cnn_perception.background.worker"
STUCK = Injection(
    "cnn_perception.perception_node.frame_stages:dense_scores", error=None, constants=[(f"{WORKER}:_OVERDUE_S", 0.05)]
)


def frame(second: int) -> Image:
    return image((second, 0), np.full((48, 80, 3), (255, 0, 0), np.uint8))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The one in use, and one to swap it for."""
    folder = tmp_path_factory.mktemp("viewers")
    return write_models(folder)[0], write_models(folder / "below")[0]


@pytest.fixture(scope="module")
def node(
    domain: int, models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, talker: Participant
) -> Iterator[InjectedNode]:
    folder = tmp_path_factory.mktemp("node")
    one = InjectedNode("perception_node", domain, folder, STUCK, [], model=models[0], diagnostics_period_s=0.05)
    wait_until(talker, "active")
    yield one
    one.kill()


class Looking:
    """Somebody who looks at the answers, the overlays and the score maps of a node."""

    def __init__(self, graph: Participant) -> None:
        self.graph = graph
        self.answers = graph.collect(Classification, f"{NODE}/classification")
        self.overlays = graph.collect(Image, f"{NODE}/activation/overlay")
        self.maps = graph.collect(Image, f"{NODE}/score_map")
        self.camera: Any = camera_of(graph, self.answers, self.overlays, self.maps)

    def ask(self, second: int) -> None:
        ask(self.graph, self.camera, frame(second), self.answers)

    def counts(self) -> dict[str, str]:
        return {pair.key: pair.value for pair in diagnosis(self.graph, "viewers").values}

    def is_stuck(self) -> bool:
        return "score map: at one frame for" in diagnosis(self.graph, "viewers").message

    def wait_for_one_of(self, second: int, messages: list[Any]) -> None:
        self.graph.wait_for(lambda: second in seconds(messages), f"what was made of the frame of {second}")

    def ask_for_map(self, second: int) -> None:
        ask(self.graph, self.camera, frame(second), self.maps)


@pytest.fixture
def looking(node: InjectedNode, talker: Participant) -> Iterator[Looking]:
    yield Looking(talker)
    talker.forget()


def test_every_frame_is_answered_and_drawn_while_a_score_map_takes_for_ever(looking: Looking, node: InjectedNode):
    before = looking.counts()
    node.arm()
    for second in range(1, 11):
        looking.ask(second)
        looking.wait_for_one_of(second, looking.overlays)
    assert sorted(set(seconds(looking.answers))) == list(range(1, 11))
    assert looking.maps == []
    assert looking.is_stuck()
    after = looking.counts()
    assert after["score map: published"] == before["score map: published"]
    # The first is under way and the last waits.
    assert int(after["score map: overtaken"]) - int(before["score map: overtaken"]) >= 8
    node.disarm()
    looking.wait_for_one_of(10, looking.maps)
    made = set(seconds(looking.maps))  # of the last, and of the one that was under way: the first, or one soon after
    assert 10 in made
    assert len(made) <= 2


def seconds(messages: list[Any]) -> list[int]:
    return [stamp(message)[0] for message in messages]


def swap(graph: Participant, models: tuple[Path, Path]) -> None:
    assert set_parameter(graph, "model", str(models[1])).successful


def deactivate_and_activate(graph: Participant, models: tuple[Path, Path]) -> None:
    assert transition(graph, Transition.TRANSITION_DEACTIVATE)
    assert transition(graph, Transition.TRANSITION_ACTIVATE)


def configure_anew(graph: Participant, models: tuple[Path, Path]) -> None:
    for number in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        assert transition(graph, number)


@pytest.mark.parametrize("change", [deactivate_and_activate, configure_anew, swap])
def test_change_waits_for_no_score_map_and_none_of_before_comes_after_it(
    looking: Looking, node: InjectedNode, models: tuple[Path, Path], change: Callable[..., None]
):
    node.arm()
    looking.ask(1)
    looking.graph.wait_for(looking.is_stuck, "the score map to be stuck")
    looking.ask(2)  # which waits behind it
    change(looking.graph, models)
    node.disarm()
    looking.ask_for_map(3)
    assert set(seconds(looking.maps)) == {3}
    assert "no score map" not in node.log


# ---- the last one: it ends the node


def test_signal_ends_a_node_whose_score_map_is_stuck(looking: Looking, node: InjectedNode):
    node.arm()
    looking.ask(1)
    looking.graph.wait_for(looking.is_stuck, "the score map to be stuck")
    node.terminate()
    assert node.code() == 0, node.log
    assert "Traceback" not in node.log
