"""Subscriptions that are read when a message is wanted: what arrives in between costs no Python at all.

An executor would turn every image into a Python message, and walk all of the node's services and timers for each, only
for most of a fast camera's images to be thrown away. Here the middleware's own queue of depth 1 is the one slot in
which the newest frame waits, so latency never grows with a queue, however fast the camera is.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup
from rclpy.context import Context
from rclpy.event_handler import QoSSubscriptionEventType, SubscriptionEventCallbacks
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from cnn_perception.ros import topics, transport

MessageT = TypeVar("MessageT")
StreamT = TypeVar("StreamT", bound="Stream")

IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Matches every publisher; with `BEST_AVAILABLE` a `LatestSubscription` is reliable while each of its publishers is."""

FIT_PERIOD_S = 0.5
"""How often the QoS is fitted to the publishers: it takes 0.02 ms, and none of the node's threads is woken for it."""

_Policies: TypeAlias = tuple[ReliabilityPolicy, DurabilityPolicy]
_RELIABLE = (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
_LATCHED = (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
_UNLATCHED = (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)

_MOST_PUBLISHERS = 64
"""Of which it is known what has come: those of the latest messages."""

_LEASE_S = 30.0
"""A publisher that was killed is known for some time more, 20 s with Fast DDS, 10 s with Cyclone DDS: their lease."""


class _HiddenFromExecutor(CallbackGroup):
    """Hides what is in it from the executor."""

    def can_execute(self, entity: Any) -> bool:  # noqa: ANN401 rclpy's entities have no common public type
        return False

    def beginning_execution(self, entity: Any) -> bool:  # noqa: ANN401
        return False

    def ending_execution(self, entity: Any) -> None:  # noqa: ANN401
        pass


class _Losses:
    """How many messages the middleware has sent to a subscription in vain, asked for, never waited for."""

    def __init__(self, subscription: Any) -> None:  # noqa: ANN401 rclpy's generics differ by version
        """Begins to ask; a middleware that does not tell has lost nothing."""
        self._event: Any = None
        kind = QoSSubscriptionEventType.RCL_SUBSCRIPTION_MESSAGE_LOST
        with contextlib.suppress(rclpy_implementation.RCLError), subscription.handle:
            self._event = rclpy_implementation.EventHandle(subscription.handle, kind)

    @property
    def is_told(self) -> bool:
        """Whether the middleware tells of them."""
        return self._event is not None

    def take(self) -> int:
        """Returns how many there are since the call before."""
        status = None if self._event is None else self._event.take_event()
        return 0 if status is None else int(status.total_count_change)

    def destroy(self) -> None:
        """Ends it; to be called before the subscription ends."""
        if self._event is not None:
            self._event.destroy_when_not_in_use()
            self._event = None


class LatestSubscription(Generic[MessageT]):
    """A subscription whose messages are taken by one thread of the caller's.

    Of images that travel in fragments a best-effort subscription can lose every one; a reliable one matches no
    best-effort publisher. So with `BEST_AVAILABLE` it is reliable while every publisher of the topic is, else best
    effort, and `fit` subscribes anew when that changes. Until a publisher is known it is reliable: whoever appears with
    less is seen by the next `fit`, and no frame that was on its way is lost for it.

    What is published once and kept for who subscribes later, as a map server or a test publishes a picture and some
    drivers their calibration, is sent to subscriptions alone that ask for it (transient local), which receive nothing
    of publishers that keep nothing. So it asks while every publisher keeps.

    Attributes:
        kind: Message class.
        name: Of the topic, by which rclpy knows it, before remapping.
        topic: Its fully qualified name after remapping.
    """

    def __init__(
        self,
        node: Node,
        kind: type[MessageT],
        name: str,
        reliability: ReliabilityPolicy,
        on_overtaken: Callable[[int], None],
        on_lost: Callable[[int], None],
        depth: int = IMAGE_QOS.depth,
        qos_id: str | None = None,
        *,
        is_small: bool = False,
    ) -> None:
        """Subscribes.

        Args:
            node: Whose subscription this is; its executor never sees it.
            kind: Message class.
            name: Of the topic, fully qualified, before remapping; see `topics`.
            reliability: `BEST_AVAILABLE` fits the publishers; a qos_override of the topic wins.
            on_overtaken: Called by `take` with the number of messages that a newer one replaced before they were
                taken. It is what the publisher's sequence numbers leave out and was not lost: nothing is counted where
                the middleware does not tell them, or between the messages of two publishers.
            on_lost: Called by `take` and `fit` with the number of messages that never arrived, as the middleware says.
            depth: How many messages may wait to be taken; more than 1 is for `take_each`.
            qos_id: Of the parameters that override its QoS, where the node has another subscription of the topic.
            is_small: Whether nothing of its messages is lost by best effort, which matches every publisher that may
                come: with `BEST_AVAILABLE` it is reliable then only while all publishers keep their messages.

        Raises:
            ConfigError: If the QoS is overridden with what cannot be.
        """
        self._node = node
        self._is_small = is_small
        self._reliability = reliability
        self._on_overtaken = on_overtaken
        self._on_lost = on_lost
        self._depth = depth
        self._qos_id = qos_id
        self.kind = kind
        self.name = name
        self.topic = node.resolve_topic_name(name)
        self._announced_s: dict[bytes, float] = {}  # since when each publisher is known; for the thread that diagnoses
        # Replaced by the thread that takes. Diagnostics read them without a lock, once each: an old subscription still
        # tells its QoS.
        self._is_fitted = False
        none_known = _UNLATCHED if is_small else _RELIABLE
        self._subscription = self._subscribe(self._fitting() or none_known)
        self._losses = _Losses(self._subscription)
        self._before: Any = None  # the subscription that this one is to replace, until its first message
        self._latest = (b"", 0)  # publisher and sequence number of the latest message
        # The latest of each publisher: what one keeps comes once more. Without numbers, how many came, under b"".
        self._numbers: dict[bytes, int] = {}
        self._is_numbered = True  # as long as no message without a number has come
        self._latest_sent_ns = 0
        self._lost = 0  # messages that are left out of the numbers still to come

    def _subscribe(self, fitting: _Policies) -> Any:  # noqa: ANN401 rclpy's generics differ by version
        def choose(qos: QoSProfile) -> SetParametersResult:
            """Called by rclpy with the QoS that follows from the overrides, the last moment to change it."""
            self._is_fitted = qos.reliability == ReliabilityPolicy.BEST_AVAILABLE
            if self._is_fitted:
                qos.reliability, qos.durability = fitting
            return SetParametersResult(successful=True)

        qos = QoSProfile(depth=self._depth, reliability=self._reliability)  # a new one: rclpy writes into it
        with topics.refusing_overrides(self._node, self.topic, qos):
            # Without event callbacks: the middleware would wake the executor for them with every image.
            return self._node.create_subscription(
                self.kind,
                self.name,
                lambda _: None,
                qos,
                callback_group=_HiddenFromExecutor(),
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(
                    callback=choose, entity_id=self._qos_id
                ),
            )

    @property
    def type_name(self) -> str:
        """The message type as publishers announce it."""
        return topics.type_name(self.kind)

    @property
    def handles(self) -> list[Any]:
        """What a wait set waits for."""
        return [one.handle for one in (self._subscription, self._before) if one is not None]

    @property
    def is_reliable(self) -> bool:
        """Whether every message is asked for again until it has arrived."""
        return bool(self._subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE)

    @property
    def choice(self) -> str:
        """The reliability in words, and who has chosen it."""
        word = "reliable" if self.is_reliable else "best effort"
        return f"{word}, {'by qos_overrides' if self.is_overridden else 'as its publishers offer'}"

    @property
    def not_counted(self) -> str:
        """Says of which messages the middleware does not tell how many there are; empty if it tells all."""
        if not self._losses.is_told and not self._is_numbered:
            return f"lost, overtaken: {transport.name_in_use()} tells of neither"
        if not self._is_numbered:
            return f"overtaken: {transport.name_in_use()} does not number messages"
        if not self._losses.is_told:
            return f"lost: {transport.name_in_use()} does not tell of them, they are among the overtaken"
        return ""

    @property
    def is_overridden(self) -> bool:
        """Whether the reliability is not that which follows from the publishers."""
        return not self._is_fitted

    def fit(self) -> None:
        """Subscribes anew if the publishers of the topic offer something else; for the thread that takes."""
        self._count_losses()
        fitting = self._fitting()
        if not self._is_fitted or fitting in (None, _policies(self._subscription.qos_profile)):
            return
        self._destroy_before()
        # A new subscription is known to the publishers only some time later: until then the old one goes on.
        self._before = self._subscription
        self._losses.destroy()
        self._subscription = self._subscribe(fitting)
        self._losses = _Losses(self._subscription)
        if not self._before.get_publisher_count():
            self._destroy_before()

    def _fitting(self) -> _Policies | None:
        """Returns what the subscription should be by what publishers offer; None if there are none."""
        fitting = fitting_policies(self._node, self.name, self.type_name)
        return _UNLATCHED if self._is_small and fitting == _RELIABLE else fitting

    def _destroy_before(self) -> None:
        if self._before is not None:
            self._node.destroy_subscription(self._before)
            self._before = None

    def take(self) -> MessageT | None:
        """Returns the newest message without waiting; None if there is none."""
        newest = self._take_from(self._subscription.handle)
        if self._before is not None and newest is None:
            return self._take_from(self._before.handle)
        self._destroy_before()
        return newest

    def take_each(self) -> Iterator[tuple[bytes, int]]:
        """Yields each message that waits, the oldest first, without waiting for more.

        Yields:
            The message as CDR, as it came, and when it was received, nanoseconds since 1970.
        """
        before = self._before
        if before is not None:
            yield from self._take_each_from(before.handle)
        for message in self._take_each_from(self._subscription.handle):
            self._destroy_before()
            yield message

    def _take_each_from(self, handle: Any) -> Iterator[tuple[bytes, int]]:  # noqa: ANN401 as `_take_from`
        while (taken := handle.take_message(self.kind, True)) is not None:
            payload, info = taken
            if self._is_new(info):
                yield payload, int(info.get("received_timestamp") or time.time_ns())

    def _take_from(self, handle: Any) -> MessageT | None:  # noqa: ANN401 rclpy's handles have no public type
        newest: MessageT | None = None
        # Usually once; a qos_override can make the queue longer, and a frame can arrive meanwhile.
        while (taken := handle.take_message(self.kind, False)) is not None:
            message, info = taken
            if not self._is_new(info):
                continue
            if newest is not None:
                self._on_overtaken(1)
            newest = message
        return newest

    def _is_new(self, info: Mapping[str, Any]) -> bool:
        """Counts what is left out before a message; returns False if it has come already, as what is kept may."""
        number = info.get("publication_sequence_number")
        publisher = info.get("publisher_gid")
        self._is_numbered = number is not None
        if number is None:
            return self._is_sent_later(int(info.get("source_timestamp") or 0))
        if publisher is None and self._node.count_publishers(self.topic) > 1:
            return True
        publisher_id = b"" if publisher is None else _as_id(publisher["data"])
        # What is kept comes once more with each new subscription, perhaps after another publisher's message. Who has no
        # id may be one that was started again, whose numbers begin anew.
        may_come_again = bool(publisher_id) or self._before is not None
        if may_come_again and number <= self._numbers.get(publisher_id, -1):
            return False
        self._numbers.pop(publisher_id, None)
        self._numbers[publisher_id] = number
        if len(self._numbers) > _MOST_PUBLISHERS:
            del self._numbers[next(iter(self._numbers))]
        previous_id, previous_number = self._latest
        self._latest = publisher_id, number
        if publisher_id != previous_id or previous_number < 1:
            self._count_losses()
            self._lost = 0  # of those before the first message no number tells
        elif number > previous_number + 1:
            self._count_left_out(number - previous_number - 1)
        return True

    def _is_sent_later(self, sent_ns: int) -> bool:
        """Returns False for a message that the subscription before has had already, where messages have no numbers."""
        if sent_ns and self._before is not None and sent_ns <= self._latest_sent_ns:
            return False
        self._latest_sent_ns = sent_ns
        self._numbers[b""] = self._numbers.get(b"", 0) + 1
        return True

    def _count_left_out(self, count: int) -> None:
        """Divides messages that no number came of into those that were lost and those that were overtaken."""
        self._count_losses()
        lost = min(count, self._lost)
        self._lost -= lost
        if count > lost:
            self._on_overtaken(count - lost)

    def _count_losses(self) -> None:
        lost = self._losses.take()
        self._lost += lost
        if lost:
            self._on_lost(lost)

    def publishers(self) -> list[Any]:
        """Returns who publishes the topic, rclpy's `TopicEndpointInfo` of each."""
        found: list[Any] = self._node.get_publishers_info_by_topic(self.name)
        return found

    def misfits(self) -> list[str]:
        """Says which publishers of the topic cannot be received because their QoS does not fit, and why."""
        return topics.misfits(self.publishers(), self._wanted_qos)

    @property
    def _wanted_qos(self) -> QoSProfile:
        return IMAGE_QOS if self._is_fitted else self._subscription.qos_profile

    def sent_once(self) -> str:
        """Returns which nodes publish the topic, where each has sent one message in all and keeps it; otherwise ''.

        These are silent by their nature, as who publishes a map or a test picture: a stream has sent more.
        """
        found = [one for one in self.publishers() if one.topic_type == self.type_name]
        for one in found:
            number = self._numbers.get(_as_id(one.endpoint_gid))
            if number is None and len(found) == 1:  # where messages have no number, or no publisher
                number = self._numbers.get(b"")
            if number != 1 or one.qos_profile.durability != DurabilityPolicy.TRANSIENT_LOCAL:
                return ""
        return ", ".join(sorted(topics.node_of(one) for one in found))

    def mixed(self, now_s: float) -> str:
        """Says that several publish the topic, whose messages are mixed, and what to do; empty where it is one.

        The graph is asked, nothing is counted by message. A driver that is started again has two publishers for as long
        as the one that was killed is known; so only what has been known for longer counts.

        Args:
            now_s: The monotonic clock, seconds; to be called again and again, by one thread.
        """
        of_type = [one for one in self.publishers() if one.topic_type == self.type_name]
        found = [one for one in of_type if not topics.misfits([one], self._wanted_qos)]
        known = {bytes(one.endpoint_gid): one for one in found}
        self._announced_s = {gid: self._announced_s.get(gid, now_s) for gid in known}
        lasting = [
            topics.node_of(known[gid]) for gid, since_s in self._announced_s.items() if now_s - since_s > _LEASE_S
        ]
        if len(lasting) < 2:
            return ""
        return f"{len(lasting)} publishers at once mix their frames: {', '.join(sorted(lasting))}; remap all but one"

    def destroy(self) -> None:
        """Unsubscribes; nobody may be waiting any more."""
        self._losses.destroy()
        self._destroy_before()
        self._node.destroy_subscription(self._subscription)


def fitting_policies(node: Node, name: str, type_name: str) -> _Policies | None:
    """Returns with what most is received of all publishers of a topic; None if there are none.

    Args:
        node: That asks.
        name: Of the topic, before remapping: rclpy remaps it here, too, though its documentation says no.
        type_name: Of the messages; publishers of others do not count.
    """
    infos = node.get_publishers_info_by_topic(name)
    offers = {_policies(info.qos_profile) for info in infos if info.topic_type == type_name}
    if not offers:
        return None
    if offers == {_LATCHED}:
        return _LATCHED
    return _RELIABLE if {reliability for reliability, _ in offers} == {ReliabilityPolicy.RELIABLE} else _UNLATCHED


def _as_id(gid: Iterable[int]) -> bytes:
    """Returns who a publisher is: some distributions fill one of the two places where it stands up with zeros."""
    return bytes(gid).rstrip(b"\0")


def _policies(qos: QoSProfile) -> _Policies:
    return qos.reliability, qos.durability


class Stream(Protocol):
    """What a `SubscriptionSet` needs to know of a camera."""

    @property
    def subscription(self) -> LatestSubscription[Any]:
        """Its subscription."""

    @property
    def min_period_s(self) -> float:
        """Least time between two of its frames, in seconds; 0 for no limit."""

    def note_nothing(self) -> None:
        """Is told, by the thread that waits, that it has looked for a frame and there was none."""


@dataclass(frozen=True)
class Taken(Generic[StreamT]):
    """A message, and whose it is.

    Attributes:
        stream: Its camera.
        message: The message.
        taken_s: When taking it, which copies it, began and ended, `time.perf_counter`.
    """

    stream: StreamT
    message: Any
    taken_s: tuple[float, float]


class SubscriptionSet(Generic[StreamT]):
    """Waits for several cameras at once and takes their newest frames in small batches; none can starve another.

    Each subscription holds the newest frame of its camera. A batch takes what is there, at most one frame a camera, and
    the next batch begins with the camera after the last one taken: with more cameras than a batch holds, each has its
    turn.
    """

    def __init__(self, context: Context, streams: Sequence[StreamT], max_batch_size: int) -> None:
        """Begins to wait for frames of these cameras."""
        self._streams = list(streams)
        self._max_batch_size = max_batch_size
        # For the thread that waits and takes alone; others only trigger the guard condition and set the event.
        self._taken_s = [-math.inf] * len(self._streams)
        self._first = 0
        self._fitted_s = -math.inf
        self._news = GuardCondition(None, None, context=context)
        self._is_closed = threading.Event()
        handle = context.handle
        assert handle is not None
        with handle:
            # While a `LatestSubscription` is replaced it has two.
            self._wait_set = rclpy_implementation.WaitSet(2 * len(self._streams), 1, 0, 0, 0, 0, handle)

    def wait(self) -> bool:
        """Waits until a camera whose turn it may be has a frame; returns False once the set is closed."""
        while not self._is_closed.is_set():
            self._fit_publishers()
            waits_s = self._waits_s()
            self._wait_set.clear_entities()
            self._wait_set.add_guard_condition(self._news.handle)
            due = [stream for stream, wait_s in zip(self._streams, waits_s, strict=True) if wait_s <= 0]
            numbers = [[self._wait_set.add_subscription(one) for one in stream.subscription.handles] for stream in due]
            until_s = min([FIT_PERIOD_S, *(wait_s for wait_s in waits_s if wait_s > 0)])
            self._wait_set.wait(math.ceil(until_s * 1e9))
            if self._tell_who_has_nothing(due, numbers):
                return not self._is_closed.is_set()
        return False

    def _tell_who_has_nothing(self, due: Sequence[StreamT], numbers: Sequence[Sequence[int]]) -> bool:
        """Returns whether any of the cameras that were waited for has a frame; the others are told."""
        is_any_ready = False
        for stream, own in zip(due, numbers, strict=True):
            if any(self._wait_set.is_ready("subscription", number) for number in own):
                is_any_ready = True
            else:
                stream.note_nothing()
        return is_any_ready

    def _fit_publishers(self) -> None:
        """Here, because no other thread may replace what this one waits for."""
        now_s = time.monotonic()
        if now_s - self._fitted_s >= FIT_PERIOD_S:
            self._fitted_s = now_s
            for stream in self._streams:
                stream.subscription.fit()

    def _waits_s(self) -> list[float]:
        """How long each camera's next frame must wait for its rate limit."""
        now_s = time.monotonic()
        pairs = zip(self._streams, self._taken_s, strict=True)
        return [taken_s + stream.min_period_s - now_s for stream, taken_s in pairs]

    def take(self) -> list[Taken[StreamT]] | None:
        """Returns the newest frame of each camera that is due and has one, without waiting; None if there is none."""
        taken: list[Taken[StreamT]] = []
        waits_s = self._waits_s()
        count = len(self._streams)
        first = self._first
        for step in range(count):
            number = (first + step) % count
            if waits_s[number] > 0:
                continue
            stream = self._streams[number]
            began_s = time.perf_counter()
            message = stream.subscription.take()
            if message is None:
                continue
            self._taken_s[number] = time.monotonic()
            taken.append(Taken(stream, message, (began_s, time.perf_counter())))
            self._first = number + 1
            if len(taken) == self._max_batch_size:
                break
        return taken or None

    def wake(self) -> None:
        """Lets a `wait` under way see that a rate limit has changed."""
        self._news.trigger()

    def close(self) -> None:
        """Ends every present and future `wait`; may be called from another thread."""
        self._is_closed.set()
        self._news.trigger()

    def destroy(self) -> None:
        """Frees what `wait` needed; nobody may be waiting any more."""
        self._news.destroy()
