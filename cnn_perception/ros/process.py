"""Runs a node as a process: images cross without loss, signals end it quietly, errors are one line."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import itertools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from cnn_perception.commands import Done, end_after, end_at_once
from cnn_perception.errors import (
    EXIT_BAD_INPUT,
    EXIT_DEFECT,
    EXIT_OK,
    LONGEST_MESSAGE,
    ConfigError,
    PerceptionError,
    one_line,
    with_kind,
)
from cnn_perception.ros import transport
from cnn_perception.ros.given_parameters import mistaken_files, refused_arguments
from cnn_perception.ros.heartbeat import Heartbeat
from cnn_perception.ros.parameter_requests import refuse_unreadable
from cnn_perception.ros.supervised_executor import SupervisedExecutor
from cnn_perception.ros.throttled_log import ThrottledLog

NodeT = TypeVar("NodeT", bound=Node)

CONTEXT_CLOSED = (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle)
"""What rclpy raises when a signal closes the context under a callback; look at `context.ok()` before ignoring it."""

STALL_S = 5.0
"""A timer whose callback is so much later than its period hangs, or whatever calls it does."""

_CONSTRUCTION_S = 60.0
"""A node whose construction takes longer hangs: a camera behind a network may take half of it to open."""
_POLL_S = 0.2
"""How often the main thread sees whether the process should end."""
_GRACE_S = 1.5
"""What is still busy this long after a signal or a defect, such as a model, is left: a robot waits two seconds."""
_HELD_S = 1.0
"""How much later the process ends where clean-up keeps Python's lock, so that the thread which ends it cannot run."""
_LAST_WORD_S = 0.2
"""How long the reason may take to be said at the very end, where whoever met it has not come so far."""
_LAST_CALLBACKS_S = 0.5
"""How long callbacks under way may take at the end: the answer to a lifecycle `shutdown` is sent by one."""


class Shutdown:
    """Says to every thread that the process ends, and with which code: its work is done, or something met a defect.

    Whoever meets it says so here and does no more, for clean-up may wait for that thread. The main thread, which spins,
    sees it, cleans up and returns the exit code. `supervise`, in a thread that does nothing else, ends the process with
    the same code where that takes too long, and because of a heartbeat that has stopped.

    Attributes:
        error: What was met first, in one line, for `--json`; empty where nothing was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below where they are written; each is read whole
        self._code = EXIT_OK
        self._has_failed = False
        self.error = ""
        self._untold = ""
        self._is_doomed = threading.Event()
        self._has_begun = threading.Event()
        self._is_watching = False
        self._heartbeats: list[Heartbeat] = []

    @property
    def code(self) -> int:
        """The exit code as far as it is known: a defect is never forgotten, and an error not by a success."""
        return EXIT_DEFECT if self._has_failed else self._code

    @property
    def has_begun(self) -> bool:
        """Whether the process should end."""
        return self._has_begun.is_set()

    def doom(self, code: int) -> bool:
        """Says that the work is about to end, with this exit code: from now on nothing holds that up for long.

        Returns:
            Whether no error was the reason before: the first one is what the user reads.
        """
        with self._lock:
            is_first = self.code == EXIT_OK
            self._has_failed |= code == EXIT_DEFECT
            self._code = self._code or code
        self._is_doomed.set()
        return is_first

    @contextlib.contextmanager
    def telling(self, reason: str) -> Iterator[None]:
        """Has the process end with this line where the block, which tells more, does not come to its end in time."""
        self._untold = reason
        yield
        self._untold = ""

    def begin(self, code: int) -> None:
        """Ends the work, whose exit code this is; may be called from any thread."""
        self.doom(code)
        self._has_begun.set()

    def expect(self, what: str, within_s: float) -> Heartbeat:
        """Returns a heartbeat without which the process ends, from when its node spins.

        Args:
            what: Is said of its silence, such as `no diagnostics`.
            within_s: So many seconds without a beat mean that something hangs.
        """
        heartbeat = Heartbeat(what, within_s)
        self._heartbeats.append(heartbeat)
        return heartbeat

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Has the heartbeats watched during this block."""
        self._is_watching = True
        try:
            yield
        finally:
            self._is_watching = False

    def supervise(self, context: Context) -> None:
        """Ends the process soon after a signal, a defect or the end of its work, whatever its threads are doing."""
        try:
            self._watch(context)
            time.sleep(_GRACE_S)
        except BaseException as error:  # without this thread nobody would see that another one hangs
            _end_by_error(self, error)
        finally:
            try:
                self.tell_what_is_untold()
            finally:
                end_at_once(self.code, self.error)

    def tell_what_is_untold(self) -> None:
        """Prints the reason for the end that whoever met it did not come to tell; nothing where it was told."""
        if reason := self._untold:
            # In a thread of its own: what hangs may be whoever reads the log.
            last_word = threading.Thread(target=print, args=(f"error: {reason}",), kwargs={"file": sys.stderr})
            last_word.daemon = True
            last_word.start()
            last_word.join(_LAST_WORD_S)

    def _watch(self, context: Context) -> None:
        before_s = time.monotonic()
        while context.ok() and not self._is_doomed.wait(_POLL_S):
            now_s = time.monotonic()
            silent = [one.what for one in self._heartbeats if self._is_watching and one.watch(now_s - before_s)]
            before_s = now_s
            if silent:
                self.doom(EXIT_DEFECT)
                # In a thread of its own: what hangs may be whoever reads the log.
                threading.Thread(target=_tell_of_silence, args=(silent,), daemon=True).start()
                self._has_begun.set()


def _tell_of_silence(silent: Sequence[str]) -> None:
    faulthandler.dump_traceback(all_threads=True)
    print(f"error: a defect ends this process: {', '.join(silent)}: a thread hangs, see above", file=sys.stderr)


def run(make_node: Callable[[Shutdown], NodeT], work: Callable[[NodeT], int], argv: Sequence[str] | None = None) -> int:
    """Makes a node, lets it work, and cleans up.

    Args:
        make_node: Makes the node once rclpy is initialised; what it gets is for the node's own threads.
        work: Returns the exit code when the node is done, usually after `spin`.
        argv: Command line without the program's name; None takes the process's.

    Returns:
        The exit code: `EXIT_BAD_INPUT` after printing one line if a setting is unusable, `EXIT_DEFECT` after printing a
        traceback and one line if anything raised what it should not.
    """
    transport.prepare_process()
    # rclpy's handler ends the spin; Python's would raise KeyboardInterrupt anywhere, and twice under a launch file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shutdown = Shutdown()
    threading.excepthook = functools.partial(_end_by_thread, shutdown)
    sys.unraisablehook = _tell_of_destructor
    node: NodeT | None = None
    try:
        _initialise(argv)
        supervise = functools.partial(shutdown.supervise, rclpy.get_default_context())
        threading.Thread(target=supervise, name="supervisor", daemon=True).start()
        node = _made(make_node, shutdown)
        refuse_unreadable(node)
        shutdown.begin(work(node))
    except BaseException as error:  # a SystemExit, too: with its code a defect could look like success
        _end_by_error(shutdown, error)
    _clean_up(node, shutdown)
    shutdown.tell_what_is_untold()
    return Done(shutdown.code, error=shutdown.error)


def _made(make_node: Callable[[Shutdown], NodeT], shutdown: Shutdown) -> NodeT:
    """Returns a new node; the process ends if that takes too long."""
    nodes: list[NodeT] = []
    heartbeat = shutdown.expect("no node has been made", _CONSTRUCTION_S)
    make = heartbeat.only_within(lambda: nodes.append(make_node(shutdown)))
    with shutdown.watching():
        make()
    return nodes[0]


def _clean_up(node: Node | None, shutdown: Shutdown) -> None:
    shutdown.begin(shutdown.code)
    # Fast DDS, as the wheels have it, may wait for ever in there while another node appears or ends, as after Ctrl-C of
    # a launch file, and rclpy does not give Python's lock away meanwhile. Source: eProsima/Fast-DDS#6513.
    end_after(_GRACE_S + _HELD_S, shutdown.code)
    try:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    except BaseException as error:
        _end_by_error(shutdown, error)


def _end_by_error(shutdown: Shutdown, error: BaseException) -> None:
    """Ends the work because of an error, of which one line says the reason; in any thread."""
    if isinstance(error, CONTEXT_CLOSED) and not rclpy.ok():
        return  # no error: a signal came in the middle of something
    code = EXIT_BAD_INPUT if isinstance(error, PerceptionError) else EXIT_DEFECT
    is_first = shutdown.doom(code)  # before all else: who reads what is printed may hang
    try:
        if is_first:
            _tell(shutdown, error)
        else:
            print(f"error: met while this process ended: {with_kind(error)}", file=sys.stderr)
    finally:
        shutdown.begin(code)


def _tell(shutdown: Shutdown, error: BaseException) -> None:
    shutdown.error = one_line(error, LONGEST_MESSAGE) if isinstance(error, PerceptionError) else with_kind(error)
    if isinstance(error, PerceptionError):
        print(f"error: {shutdown.error}", file=sys.stderr)
        return
    reason = f"a defect ends this process: {with_kind(error)}"
    with shutdown.telling(reason):
        traceback.print_exception(error)
        print(f"error: {reason}", file=sys.stderr)


def _end_by_callback(shutdown: Shutdown, error: BaseException) -> None:
    if not (isinstance(error, CONTEXT_CLOSED) and shutdown.has_begun):  # the node goes under a callback
        _end_by_error(shutdown, error)


def _end_by_thread(shutdown: Shutdown, raised: threading.ExceptHookArgs) -> None:
    """Of a thread that nobody looks after; a SystemExit is how such a thread is ended on purpose."""
    if raised.exc_value is not None and not isinstance(raised.exc_value, SystemExit):
        _end_by_error(shutdown, raised.exc_value)


def _tell_of_destructor(raised: sys.UnraisableHookArgs) -> None:
    """Prints what nobody can be told of, but not what destructors meet in objects that a signal has left half made."""
    if rclpy.ok() or not isinstance(raised.exc_value, (AttributeError, *CONTEXT_CLOSED)):
        sys.__unraisablehook__(raised)


def fail(node: Node, log: ThrottledLog, shutdown: Shutdown, error: BaseException) -> None:
    """Ends the process because of a defect that a thread of a node has met; to be called in that thread.

    Args:
        node: Whose thread it is.
        log: Is told the traceback, where no other error is the reason already.
        shutdown: Of the process.
        error: What was raised.
    """
    if isinstance(error, CONTEXT_CLOSED) and not node.context.ok():
        return  # no error: a signal came in the middle of something
    is_first = shutdown.doom(EXIT_DEFECT)  # before all else: who reads the log may hang
    try:
        if is_first:
            shutdown.error = with_kind(error)
            reason = f"a defect in the thread {threading.current_thread().name} ends this process: {with_kind(error)}"
            with shutdown.telling(reason):
                log.defect(error)
                node.get_logger().fatal(reason)
        else:
            node.get_logger().error(f"met while this process ended: {with_kind(error)}")
    finally:
        shutdown.begin(EXIT_DEFECT)


def _initialise(argv: Sequence[str] | None) -> None:
    domain = os.environ.get("ROS_DOMAIN_ID", "")
    if domain and not (domain.isdecimal() and int(domain) <= transport.LARGEST_DOMAIN):
        raise ConfigError(f"ROS_DOMAIN_ID is {domain[:40]!r}; set it to 0 to {transport.LARGEST_DOMAIN}, or not at all")
    words = sys.argv if argv is None else argv
    # Of mistaken files rcl reads some as no parameters at all; its words for the rest are those of its parser.
    for told in itertools.chain(mistaken_files(words), refused_arguments(words)):
        raise ConfigError(told)
    try:
        rclpy.init(args=None if argv is None else [sys.argv[0], *argv])
    except rclpy_implementation.UnknownROSArgsError as error:
        ways = "parameters are given as -p NAME:=VALUE, remappings as -r NAME:=OTHER_NAME"
        raise ConfigError(f"unknown after --ros-args: {one_line(error)}; {ways}") from None
    except (rclpy_implementation.RCLError, UnicodeEncodeError) as error:
        reason = one_line(error).partition(", at /")[0]
        raise ConfigError(f"ROS cannot be started with these arguments and this environment: {reason}") from None


def spin(
    node: Node,
    shutdown: Shutdown,
    threads: int = 1,
    *,
    is_done: Callable[[], Any] = lambda: False,
    poll_s: float = _POLL_S,
) -> None:
    """Runs the node's callbacks until SIGINT, SIGTERM, a shutdown of its context, or a defect.

    Args:
        node: The node.
        shutdown: Of the process.
        threads: How many callbacks of different groups may run at a time.
        is_done: Asked again and again whether there is another reason to end.
        poll_s: How often, in seconds.
    """
    log = ThrottledLog(node.get_logger())

    def warn_of_clock(reason: str) -> None:
        log.warn("clock", f"a message of /clock is ignored, the time stays as it was: {reason}")

    on_failure = functools.partial(_end_by_callback, shutdown)
    executor = SupervisedExecutor(threads, on_failure, node.context, warn_of_clock)
    executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException), shutdown.watching():
        try:
            while node.context.ok() and not shutdown.has_begun and not is_done():
                executor.spin_once(poll_s)
        except CONTEXT_CLOSED:
            if node.context.ok():
                raise
    executor.finish(_LAST_CALLBACKS_S)
