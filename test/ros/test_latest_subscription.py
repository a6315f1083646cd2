"""Owns: how a subscription that is read by hand is replaced by one that fits its publishers. DDS is a stub.

Leaves to others: that DDS announces and matches it so (test_node_qos).
"""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from cnn_perception.ros import latest_subscription
from cnn_perception.ros.latest_subscription import IMAGE_QOS, LatestSubscription

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, TRANSIENT = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


class Subscription:
    """A subscription whose queue the test fills with (publisher, number)."""

    def __init__(self, qos_profile: QoSProfile, publishers: int) -> None:
        self.qos_profile, self.handle = qos_profile, self
        self.queue: list[tuple[str, int]] = []
        self.kinds: set[bool] = set()
        self.received_ns: dict[int, int] = {}
        self.lost = 0  # since the last time somebody asked
        self.is_numbered = True
        self._publishers = publishers

    def get_publisher_count(self) -> int:
        return self._publishers

    def take_message(self, kind: type, raw: bool) -> Any:
        if not self.queue:
            return None
        self.kinds.add(raw)
        publisher, number = self.queue.pop(0)
        info = {"publication_sequence_number": number, "publisher_gid": {"data": publisher.encode()}}
        info["received_timestamp"] = self.received_ns.get(number, 0)
        info["source_timestamp"] = number
        if not self.is_numbered:
            info["publication_sequence_number"] = None
        return f"{publisher}{number}", info


class Losses:
    """What the middleware says of a stub."""

    is_told = True

    def __init__(self, subscription: Subscription) -> None:
        self._subscription: Subscription | None = subscription

    def take(self) -> int:
        assert self._subscription is not None
        lost, self._subscription.lost = self._subscription.lost, 0
        return lost

    def destroy(self) -> None:
        self._subscription = None


@pytest.fixture(autouse=True)
def losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest_subscription, "_Losses", Losses)


class Node:
    """A node that knows of what the test has put into `offers`."""

    def __init__(self) -> None:
        self.offers: list[ReliabilityPolicy] = []
        self.latched = 0  # the first of them keep what they have published
        self.override: ReliabilityPolicy | None = None
        self.matched = 1
        self.subscriptions: list[Subscription] = []

    def resolve_topic_name(self, name: str) -> str:
        return name

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        kind = "sensor_msgs/msg/Image"
        offers = [
            QoSProfile(depth=1, reliability=r, durability=d)
            for r, d in zip(self.offers, self._durabilities, strict=True)
        ]
        return [SimpleNamespace(topic_type=kind, qos_profile=offer) for offer in offers]

    @property
    def _durabilities(self) -> list[DurabilityPolicy]:
        return [TRANSIENT] * self.latched + [VOLATILE] * (len(self.offers) - self.latched)

    def create_subscription(
        self, kind: type, topic: str, callback: object, qos: QoSProfile, *, qos_overriding_options: Any, **_: object
    ) -> Subscription:
        if self.override is not None:
            qos.reliability = self.override
        assert qos_overriding_options.callback(qos).successful
        self.subscriptions.append(Subscription(qos, self.matched))
        return self.subscriptions[-1]

    def destroy_subscription(self, subscription: Subscription) -> None:
        self.subscriptions.remove(subscription)


class Bench:
    """A subscription of images, and what it has told of frames that were overtaken or lost."""

    def __init__(self, *offers: ReliabilityPolicy, override: ReliabilityPolicy | None = None) -> None:
        self.node = Node()
        self.node.offers, self.node.override = list(offers), override
        self.overtaken: list[int] = []
        self.lost: list[int] = []
        best = ReliabilityPolicy.BEST_AVAILABLE
        arguments: Any = (self.node, Image, "/image_raw", best, self.overtaken.append, self.lost.append)
        self.subscription: LatestSubscription[Any] = LatestSubscription(*arguments)

    def offer(self, *offers: ReliabilityPolicy) -> list[ReliabilityPolicy]:
        """Changes the publishers; returns the subscriptions that there are then, the newest last."""
        self.node.offers = list(offers)
        self.subscription.fit()
        return self.subscribed

    @property
    def kinds_of_take(self) -> set[bool]:
        """Whether messages were taken serialised."""
        return set().union(*(one.kinds for one in self.node.subscriptions))

    @property
    def subscribed(self) -> list[ReliabilityPolicy]:
        return [one.qos_profile.reliability for one in self.node.subscriptions]


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([], RELIABLE),
        ([RELIABLE], RELIABLE),
        ([RELIABLE, RELIABLE], RELIABLE),
        ([BEST_EFFORT], BEST_EFFORT),
        ([RELIABLE, BEST_EFFORT], BEST_EFFORT),
        ([ReliabilityPolicy.UNKNOWN], BEST_EFFORT),
    ],
)
def test_subscription_is_reliable_while_every_publisher_is(offers: list[ReliabilityPolicy], expected: object):
    assert Bench(*offers).subscribed == [expected]


@pytest.mark.parametrize(
    ("offers", "latched", "of_images", "of_small"),
    [
        ([], 0, (RELIABLE, VOLATILE), (BEST_EFFORT, VOLATILE)),
        ([RELIABLE], 0, (RELIABLE, VOLATILE), (BEST_EFFORT, VOLATILE)),
        ([RELIABLE], 1, (RELIABLE, TRANSIENT), (RELIABLE, TRANSIENT)),
        ([RELIABLE, RELIABLE], 2, (RELIABLE, TRANSIENT), (RELIABLE, TRANSIENT)),
        ([RELIABLE, RELIABLE], 1, (RELIABLE, VOLATILE), (BEST_EFFORT, VOLATILE)),
        ([RELIABLE, BEST_EFFORT], 1, (BEST_EFFORT, VOLATILE), (BEST_EFFORT, VOLATILE)),
        ([BEST_EFFORT], 1, (BEST_EFFORT, VOLATILE), (BEST_EFFORT, VOLATILE)),
    ],
)
def test_subscription_asks_for_what_is_kept_while_every_publisher_keeps_it(
    offers: list[ReliabilityPolicy], latched: int, of_images: object, of_small: object
):
    bench = Bench()
    bench.node.offers, bench.node.latched = offers, latched
    arguments: Any = (bench.node, Image, "/image_raw", ReliabilityPolicy.BEST_AVAILABLE, print, print)
    LatestSubscription(*arguments)
    LatestSubscription(*arguments, is_small=True)
    found = [(one.qos_profile.reliability, one.qos_profile.durability) for one in bench.node.subscriptions[-2:]]
    assert found == [of_images, of_small]


def test_picture_that_one_publisher_keeps_is_no_news_once_another_has_gone():
    bench = Bench(RELIABLE)
    bench.node.subscriptions[0].queue += [("kept", 1), ("live", 2)]
    assert bench.subscription.take() == "live2"
    bench.node.latched = 1
    bench.offer(RELIABLE)
    _, new = bench.node.subscriptions
    assert new.qos_profile.durability == TRANSIENT
    new.queue += [("kept", 1)]
    assert bench.subscription.take() is None
    new.queue += [("kept", 3)]
    assert bench.subscription.take() == "kept3"
    new.queue += [("kept", 3)]  # which may come later than a message of another publisher
    assert bench.subscription.take() is None
    new.queue += [("restarted", 1)]
    assert bench.subscription.take() == "restarted1"


def test_publishers_that_are_gone_change_nothing():
    bench = Bench(BEST_EFFORT)
    assert bench.offer() == [BEST_EFFORT]


def test_same_offer_subscribes_only_once():
    bench = Bench(RELIABLE)
    (before,) = bench.node.subscriptions
    bench.offer(RELIABLE, RELIABLE)
    assert bench.node.subscriptions == [before]


def test_subscription_that_matches_nobody_is_replaced_at_once():
    bench = Bench()
    bench.node.subscriptions[0]._publishers = 0
    assert bench.offer(BEST_EFFORT) == [BEST_EFFORT]


def test_old_subscription_goes_on_until_the_new_one_has_a_message():
    bench = Bench(RELIABLE)
    assert bench.offer(RELIABLE, BEST_EFFORT) == [RELIABLE, BEST_EFFORT]
    old, new = bench.node.subscriptions
    assert bench.subscription.handles == [new, old]
    old.queue.append(("a", 1))
    assert bench.subscription.take() == "a1"
    new.queue.append(("a", 2))
    assert bench.subscription.take() == "a2"
    assert bench.node.subscriptions == bench.subscription.handles == [new]
    assert bench.overtaken == []


def test_message_that_comes_by_both_is_taken_once():
    bench = Bench(RELIABLE)
    bench.offer(RELIABLE, BEST_EFFORT)
    old, new = bench.node.subscriptions
    old.queue.append(("a", 1))
    assert bench.subscription.take() == "a1"
    new.queue.append(("a", 1))
    assert bench.subscription.take() is None
    old.queue.append(("a", 2))
    new.queue.append(("a", 2))
    assert bench.subscription.take() == "a2"
    assert bench.subscription.take() is None
    assert bench.overtaken == []


def test_each_message_is_taken_once_in_order_serialised_while_the_subscription_is_replaced():
    bench = Bench(RELIABLE)
    bench.offer(RELIABLE, BEST_EFFORT)
    old, new = bench.node.subscriptions
    old.queue += [("a", 1), ("a", 2), ("a", 3)]
    assert [message for message, _ in bench.subscription.take_each()] == ["a1", "a2", "a3"]
    old.queue += [("a", 4), ("a", 5)]
    new.queue += [("a", 4), ("a", 5), ("a", 6)]
    assert [message for message, _ in bench.subscription.take_each()] == ["a4", "a5", "a6"]
    assert bench.node.subscriptions == [new]
    new.queue += [("a", 9)]
    assert [message for message, _ in bench.subscription.take_each()] == ["a9"]
    assert (bench.overtaken, bench.kinds_of_take) == ([2], {True})


def test_time_of_reception_is_the_middlewares_or_now_where_it_tells_none():
    bench = Bench(RELIABLE)
    (only,) = bench.node.subscriptions
    only.queue += [("a", 1), ("a", 2)]
    only.received_ns = {1: 7}
    (_, first_ns), (_, second_ns) = bench.subscription.take_each()
    assert (first_ns, abs(time.time_ns() - second_ns) < 60 * 10**9) == (7, True)


def test_changes_that_follow_each_other_leave_at_most_two_subscriptions():
    bench = Bench(RELIABLE)
    for offer in [BEST_EFFORT, RELIABLE] * 5:
        assert len(bench.offer(offer)) == 2
    bench.subscription.destroy()
    assert bench.subscribed == []


@pytest.mark.parametrize("override", [RELIABLE, BEST_EFFORT])
def test_override_is_kept_whatever_publishers_offer(override: ReliabilityPolicy):
    bench = Bench(RELIABLE, override=override)
    for offer in (BEST_EFFORT, RELIABLE):
        assert bench.offer(offer) == [override]


def test_override_of_one_subscription_leaves_the_defaults_of_others():
    Bench(override=RELIABLE)
    assert IMAGE_QOS.reliability == BEST_EFFORT


@pytest.mark.parametrize(
    ("numbers", "lost_before_each", "overtaken", "lost"),
    [
        ([1, 2, 3], [0, 0, 0], 0, 0),
        ([1, 5, 6], [0, 0, 0], 3, 0),
        ([1, 5, 6], [0, 3, 0], 0, 3),
        ([1, 5, 9], [0, 2, 1], 3, 3),
        ([40, 41, 44], [39, 0, 0], 2, 39),
        ([1, 3, 5], [0, 2, 0], 0, 2),
    ],
    ids=["all", "overtaken", "lost", "both", "lost before the first", "lost later, told earlier"],
)
def test_numbers_that_are_left_out_were_lost_or_else_overtaken(
    numbers: list[int], lost_before_each: list[int], overtaken: int, lost: int
):
    bench = Bench(BEST_EFFORT)
    (subscription,) = bench.node.subscriptions
    for number, count in zip(numbers, lost_before_each, strict=True):
        subscription.queue.append(("a", number))
        subscription.lost += count
        assert bench.subscription.take() == f"a{number}"
    bench.subscription.fit()
    assert (sum(bench.overtaken), sum(bench.lost)) == (overtaken, lost)


def test_losses_are_told_although_no_message_ever_arrives():
    bench = Bench(BEST_EFFORT)
    bench.node.subscriptions[0].lost = 55
    bench.subscription.fit()
    assert (bench.subscription.take(), bench.lost) == (None, [55])


def test_messages_of_two_publishers_are_no_gaps_of_each_other():
    bench = Bench(RELIABLE)
    bench.node.subscriptions[0].queue += [("a", 1)]
    bench.subscription.take()
    bench.node.subscriptions[0].queue += [("b", 90)]
    bench.subscription.take()
    assert bench.overtaken == []


def test_message_without_a_number_that_comes_by_both_is_taken_once():
    bench = Bench(RELIABLE)
    bench.offer(RELIABLE, BEST_EFFORT)
    old, new = bench.node.subscriptions
    for one in (old, new):
        one.is_numbered = False
    old.queue.append(("a", 1))
    assert bench.subscription.take() == "a1"
    new.queue.append(("a", 1))
    assert bench.subscription.take() is None
    new.queue += [("a", 2), ("a", 5)]
    assert bench.subscription.take() == "a5"
    assert bench.overtaken == [1]  # what was seen to be replaced, no number needed


@pytest.mark.parametrize(
    ("is_numbered", "is_told", "said"),
    [
        (True, True, ""),
        (False, True, "overtaken: rmw_of_nobody does not number messages"),
        (True, False, "lost: rmw_of_nobody does not tell of them, they are among the overtaken"),
        (False, False, "lost, overtaken: rmw_of_nobody tells of neither"),
    ],
)
def test_counts_that_the_middleware_does_not_tell_are_named(
    monkeypatch: pytest.MonkeyPatch, is_numbered: bool, is_told: bool, said: str
):
    monkeypatch.setattr(latest_subscription.transport, "name_in_use", lambda: "rmw_of_nobody")
    monkeypatch.setattr(Losses, "is_told", is_told)
    bench = Bench(BEST_EFFORT)
    (subscription,) = bench.node.subscriptions
    subscription.is_numbered = is_numbered
    subscription.queue.append(("a", 1))
    bench.subscription.take()
    assert bench.subscription.not_counted == said


def test_a_middleware_without_events_of_losses_is_survived(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()  # the real class

    def unsupported(*_: object) -> None:
        raise rclpy_implementation.UnsupportedEventTypeError("subscription event is unsupported")

    monkeypatch.setattr(latest_subscription.rclpy_implementation, "EventHandle", unsupported)
    losses = latest_subscription._Losses(SimpleNamespace(handle=contextlib.nullcontext()))
    assert (losses.is_told, losses.take()) == (False, 0)
    losses.destroy()


@pytest.mark.parametrize(
    ("offer", "override", "said"),
    [
        (RELIABLE, None, "reliable, as its publishers offer"),
        (BEST_EFFORT, None, "best effort, as its publishers offer"),
        (RELIABLE, BEST_EFFORT, "best effort, by qos_overrides"),
        (BEST_EFFORT, RELIABLE, "reliable, by qos_overrides"),
    ],
)
def test_reliability_is_said_and_who_chose_it(offer: ReliabilityPolicy, override: ReliabilityPolicy | None, said: str):
    bench = Bench(offer, override=override)
    assert bench.subscription.choice == said
    assert bench.subscription.is_overridden == (override is not None)
