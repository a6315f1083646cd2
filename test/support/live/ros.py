"""Real nodes in real processes, and a participant of the test's own to talk to them over real DDS."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState
from paths import ROOT
from rcl_interfaces.srv import GetParameterTypes
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from cnn_perception.live_replay.domain import claim_address
from cnn_perception.ros import transport

TIMEOUT_S = 60.0
"""After so long a wait is for ever, however busy the machine is."""
ENDS_WITHIN_S = 20.0
"""A robot waits three seconds for a process to end; on a busy machine more than that only tells slow from never."""
MADE_ONCE = (ChangeState, Trigger)
"""Requests that have another answer when they are made again."""
ASK_AGAIN_S = 20.0
"""A request that is not answered for so long was lost: loading a model takes less, however busy the machine is."""
REPEAT_S = 1.0
"""What has not been answered for so long may have been lost."""
_DOMAINS = itertools.count(os.getpid())
_CLAIMS: deque[socket.socket] = deque()
_KEPT_CLAIMS = 24
"""More than one module needs; with all that a whole run needs, a second run beside it would have none left."""


def new_domain() -> int:
    """A ROS domain that no other running test uses, of this run or another; 1 to 100 is what Linux's port range allows.

    A domain is claimed by a socket of its name, which goes with the process.
    """
    for number in itertools.islice(_DOMAINS, 100):
        domain = 1 + number % 100
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(claim_address(domain))
        except OSError:
            claim.close()
            continue
        _CLAIMS.append(claim)
        if len(_CLAIMS) > _KEPT_CLAIMS:
            _CLAIMS.popleft().close()
        return domain
    raise AssertionError("other tests on this machine use every ROS domain; run fewer at a time")


class Participant:
    """A node of the test's own process; `wait_for` spins until something is true."""

    def __init__(self, domain: int) -> None:
        os.environ.update(transport.environment())
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node("test", context=self.context)
        self._clients: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)

    def wait_for(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"timed out after {timeout_s} s waiting for {what}"
            self._executor.spin_once(timeout_sec=0.1)
        return value

    def repeat(self, publish: Callable[[], None], condition: Callable[[], Any], what: str) -> Any:
        """Publishes, and once in a while again until something is true: best effort may lose any message.

        Whatever arrives late may so arrive twice; nothing does once the answer to the latest message is there.
        """
        publish()
        published_s = time.monotonic()

        def is_true() -> Any:
            nonlocal published_s
            value = condition()
            if not value and time.monotonic() > published_s + REPEAT_S:
                publish()
                published_s = time.monotonic()
            return value

        return self.wait_for(is_true, what)

    def collect(self, kind: Any, topic: str, qos: Any = 10) -> list[Any]:
        """Subscribes; the list grows while the participant spins."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def publisher(self, kind: Any, topic: str, qos: Any = 10) -> Any:
        """Returns a publisher once somebody subscribes to it."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.wait_for(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def topics_published_by(self, name: str) -> set[str]:
        """Returns the topics of a node without a namespace; its messages may come before its name is known."""
        self.wait_for(lambda: name in self.node.get_node_names(), f"{name} to be known")
        return {topic for topic, _ in self.node.get_publisher_names_and_types_by_node(name, "/")}

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """Returns the answer of a service of a node; a request that may be made twice is repeated until it is answered.

        A server drops the answer to a client that it has not discovered, and a request can go to one that has ended.
        """
        client = self._clients.get(service) or self.node.create_client(kind, service)
        self._clients[service] = client
        if kind in MADE_ONCE:
            self._introduce(service.rpartition("/")[0])
        self.wait_for(client.service_is_ready, f"service {service}")
        return self._answer(client, request, f"the answer of {service}", math.inf if kind in MADE_ONCE else ASK_AGAIN_S)

    def _introduce(self, node: str) -> None:
        """Waits until a node has discovered every client there is: it does so in their order, and this is the last."""
        client = self.node.create_client(GetParameterTypes, f"{node}/get_parameter_types")
        self.wait_for(client.service_is_ready, f"the services of {node}")
        self._answer(client, GetParameterTypes.Request(), f"any answer of {node}", REPEAT_S)
        self.node.destroy_client(client)

    def _answer(self, client: Any, request: Any, what: str, again_s: float) -> Any:
        futures = [client.call_async(request)]
        asked_s = time.monotonic()

        def answered() -> list[Any]:
            nonlocal asked_s
            if time.monotonic() > asked_s + again_s:
                futures.append(client.call_async(request))
                asked_s = time.monotonic()
            return [future for future in futures if future.done()]

        return self.wait_for(answered, what)[0].result()

    def forget(self) -> None:
        """Ends every subscription and publication of one test."""
        for subscription in list(self.node.subscriptions):
            self.node.destroy_subscription(subscription)
        for publisher in list(self.node.publishers):
            if publisher.topic_name not in ("/parameter_events", "/rosout"):
                self.node.destroy_publisher(publisher)

    def close(self) -> None:
        self._executor.shutdown()
        transport.let_ended_nodes_go(self.node)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


OF_EVERY_FRAME = {"perception_node": {"views_max_rate_hz": 0.0, "views_max_share": 1.0}}
"""Parameters with which tests see all that is made of each frame, however soon they send the next."""


class Process:
    """`python -m cnn_perception.<module>`, which is the console script of the same name, with its log in a file."""

    def __init__(self, module: str, domain: int, log: Path, *arguments: str, **parameters: object) -> None:
        self.module = module
        self.domain = domain
        self.log_path = log
        environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
        environment |= {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        environment |= {"ROS_LOG_DIR": str(log.parent / "ros_log"), "PYTHONUNBUFFERED": "1"}
        parameters = OF_EVERY_FRAME.get(module, {}) | parameters
        settings = [word for name, value in parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")]
        command = [sys.executable, "-m", f"cnn_perception.{module}", "--ros-args", *settings, *arguments]
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def libraries(self) -> str:
        """What the process has mapped so far; empty once it has ended."""
        try:
            return Path(f"/proc/{self._process.pid}/maps").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Returns the exit code."""
        return self._process.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ends it as Ctrl-C would; it must go quietly and soon."""
        if self.running:
            self.signal(signal.SIGINT)
        try:
            code = self.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"still running {ENDS_WITHIN_S} s after SIGINT:\n{self.log}") from None
        assert "Traceback" not in self.log, self.log
        assert code >= 0, f"died of signal {-code}:\n{self.log}"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def running(module: str, domain: int, log: Path, *arguments: str, **parameters: object) -> Iterator[Process]:
    process = Process(module, domain, log, *arguments, **parameters)
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def participant(domain: int) -> Iterator[Participant]:
    one = Participant(domain)
    try:
        yield one
    finally:
        one.close()
