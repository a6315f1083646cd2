"""Owns: callbacks of topics that are gone before it is their turn. Leaves to others: how a process ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import Participant, new_domain, participant
from std_msgs.msg import String

from cnn_perception.ros.supervised_executor import SupervisedExecutor, WaitingGroup

RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Held:
    """An executor of two threads, both of them busy until `release`; whatever is ready waits."""

    def __init__(self, ros: Participant) -> None:
        self.ros = ros
        self.node = ros.node
        self.failures: list[BaseException] = []
        self.executor = SupervisedExecutor(2, self.failures.append, ros.context)
        self.executor.add_node(self.node)
        self._released = threading.Event()
        self._busy = threading.Semaphore(0)
        self._timers = [self.node.create_timer(0.001, self._hold, MutuallyExclusiveCallbackGroup()) for _ in range(2)]
        self.spin_until(lambda: self.executor.overdue(0.0).count("Timer") == 2)

    def _hold(self) -> None:
        self._busy.release()
        self._released.wait(60)

    def spin_until(self, condition: Any) -> None:
        for _ in range(1000):
            if condition():
                return
            self.executor.spin_once(0.01)
        raise AssertionError("timed out")

    def spin_until_waiting(self, entity_type: str) -> None:
        """Until a callback of such an entity waits for a thread."""
        self.spin_until(lambda: any(type(entity).__name__ == entity_type for _, entity, _ in self.executor._tasks))

    def release(self) -> None:
        """Lets the threads go on until all that waited has had its turn."""
        for timer in self._timers:
            timer.cancel()
        self._released.set()
        self.executor.finish(60.0)


@pytest.fixture
def held() -> Iterator[Held]:
    with participant(new_domain()) as ros:
        ros._executor.remove_node(ros.node)
        one = Held(ros)
        yield one
        one.release()


def test_callback_that_waits_by_design_is_never_overdue():
    begun, goes_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        goes_on.wait(60)

    with participant(new_domain()) as ros:
        ros._executor.remove_node(ros.node)
        executor = SupervisedExecutor(2, lambda _: None, ros.context)
        executor.add_node(ros.node)
        timer = ros.node.create_timer(0.001, wait, WaitingGroup())
        while not begun.is_set():
            executor.spin_once(0.01)
        assert executor.overdue(0.0) == ""
        timer.cancel()
        goes_on.set()
        executor.finish(60.0)


def is_free(group: CallbackGroup) -> bool:
    """Whether the next callback of a group is run: rclpy itself counts who is under way."""
    return getattr(group, "_active_entity", None) is None


def test_message_of_a_subscription_that_is_gone_is_no_failure(held: Held):
    heard: list[Any] = []
    group = MutuallyExclusiveCallbackGroup()
    subscription = held.node.create_subscription(String, "words", heard.append, 1, callback_group=group)
    publisher = held.node.create_publisher(String, "words", 1)
    held.spin_until(publisher.get_subscription_count)
    publisher.publish(String(data="too late"))
    held.spin_until_waiting("Subscription")
    held.node.destroy_subscription(subscription)
    held.release()
    assert (held.failures, heard) == ([], [])
    assert is_free(group)


@pytest.mark.parametrize("gone", ["publisher", "subscription"])
def test_event_of_a_topic_that_is_gone_is_no_failure_and_blocks_no_other_callback(held: Held, gone: str):
    """As where a viewer of another quality of service comes while the models change."""
    told: list[Any] = []
    group = MutuallyExclusiveCallbackGroup()
    ours: Any
    if gone == "publisher":
        events = PublisherEventCallbacks(incompatible_qos=told.append, use_default_callbacks=False)
        ours = held.node.create_publisher(String, "words", BEST_EFFORT, callback_group=group, event_callbacks=events)
        held.node.create_subscription(String, "words", lambda _: None, RELIABLE)
    else:
        wanted = SubscriptionEventCallbacks(incompatible_qos=told.append, use_default_callbacks=False)
        ours = held.node.create_subscription(
            String, "words", lambda _: None, RELIABLE, callback_group=group, event_callbacks=wanted
        )
        held.node.create_publisher(String, "words", BEST_EFFORT)
    held.spin_until_waiting("EventHandler")
    destroy = held.node.destroy_publisher if gone == "publisher" else held.node.destroy_subscription
    destroy(ours)
    held.release()
    assert (held.failures, told) == ([], [])
    assert is_free(group)
