"""Owns: how a node's process ends, whatever its threads do: its exit code, the line that says why. Nodes are stubs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from ros import ROOT, TIMEOUT_S, new_domain

STUB = """
import ctypes, os, signal, sys, threading, time
import rclpy
from builtin_interfaces.msg import Time
from rclpy.clock import Clock as RosClock, ClockType
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from cnn_perception.ros import process
from cnn_perception.errors import ConfigError

never = threading.Event()

class Stub(Node):
    def __init__(self, shutdown):
        super().__init__("stub")
        self.shutdown = shutdown

    def destroy_node(self):
        clean_up()
        super().destroy_node()

def spin(node):
    node.create_timer(0.01, lambda: print("spinning", flush=True))
    process.spin(node, node.shutdown, threads=2)
    return 0

def fail(node):
    node.shutdown.begin(1)
    never.wait()

def with_thread(node):
    threading.Thread(target=fail, args=(node,), daemon=True).start()
    return spin(node)

def with_callback(node):
    node.create_timer(0.01, lambda: 1 / 0)
    return spin(node)

def refuse(node):
    raise ConfigError("as planned")

def raised(error):
    raise error

def with_other_thread(node):
    threading.Thread(target=lambda: raised(BaseException("as planned")), daemon=True).start()
    return spin(node)

def with_refusing_callback(node):
    node.create_timer(0.01, lambda: raised(ConfigError("as planned")))
    return spin(node)

def with_exiting_callback(node):
    node.create_timer(0.01, lambda: sys.exit(0))
    return spin(node)

def with_hanging_callback(node):
    heartbeat = node.shutdown.expect("no news", 0.3)
    node.create_timer(0.01, heartbeat.after(never.wait))
    return spin(node)

def with_callback_that_hangs_once_begun(node):
    heartbeat = node.shutdown.expect("no news", 0.3)
    node.create_timer(0.01, heartbeat.only_within(never.wait))
    return spin(node)

def with_failing_thread(node):
    def fail_and_say_so():
        node.shutdown.begin(1)
        print("fails", flush=True)
    threading.Thread(target=fail_and_say_so, daemon=True).start()
    process.spin(node, node.shutdown)
    return 0

def with_negative_clock(node):
    node.set_parameters([Parameter("use_sim_time", value=True)])
    publisher = node.create_publisher(Clock, "/clock", 10)
    seconds = iter([-1] * 20 + [50] * 100_000)

    def tick():
        if publisher.get_subscription_count():
            publisher.publish(Clock(clock=Time(sec=next(seconds))))
        if node.get_clock().now().nanoseconds == 50 * 10**9:
            node.shutdown.begin(0)

    node.create_timer(0.01, tick, clock=RosClock(clock_type=ClockType.STEADY_TIME))
    return spin(node)

def with_callback_that_refuses_a_value(node):
    node.create_timer(0.01, lambda: raised(ValueError("as planned")))
    return spin(node)

def with_full_pipe(node):
    os.set_blocking(2, False)
    try:
        while True:
            os.write(2, bytes(4096))
    except BlockingIOError:
        os.set_blocking(2, True)
    node.create_timer(0.01, lambda: 1 / 0)
    return spin(node)

class Log:
    def __init__(self, tell):
        self.tell = tell

    def defect(self, error):
        print(f"told: {error}", file=sys.stderr)
        self.tell()

def with_defects_in_threads(*logs):
    def work(node):
        for number, log in enumerate(logs):
            one = threading.Thread(target=process.fail, args=(node, log, node.shutdown, KeyError(f"planned {number}")))
            one.daemon = True
            one.start()
            while not node.shutdown._is_doomed.is_set():
                time.sleep(0.001)
        return spin(node)

    return work

def with_signal_while(replaced):
    # Ctrl-C where rclpy makes this of its executor.
    from rclpy import executors
    original = getattr(executors, replaced)

    def interrupted(*arguments, **named):
        os.kill(os.getpid(), signal.SIGINT)
        while rclpy.ok():
            time.sleep(0.001)
        return original(*arguments, **named)

    def work(node):
        setattr(executors, replaced, interrupted)
        return spin(node)

    return work

class Broken:
    def __del__(self):
        raise AttributeError("as planned")

def with_broken_destructor(node):
    Broken()
    return 0

def with_hanging_callback_elsewhere(node):
    node.create_timer(0.01, never.wait, MutuallyExclusiveCallbackGroup())
    node.create_timer(0.2, lambda: node.shutdown.begin(1), MutuallyExclusiveCallbackGroup())
    return spin(node)
"""
CLEAN_UP = {
    "quick": "lambda: None",
    "endless": "never.wait",
    "broken": "lambda: 1 / 0",
    "endless in C": "lambda: ctypes.PyDLL(None).sleep(3600)",  # with Python's lock, as rclpy has it: no thread runs
}


def start(work: str, clean_up: str) -> subprocess.Popen[str]:
    code = f"{STUB}\nclean_up = {CLEAN_UP[clean_up]}\nsys.exit(process.run(Stub, {work}, []))\n"
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(new_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what it printed as errors; a process that does not end is killed."""
    try:
        _, text = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, text


@pytest.mark.parametrize("clean_up", CLEAN_UP)
def test_defect_in_a_thread_ends_the_process_however_clean_up_goes(clean_up: str):
    """The thread itself never ends, as one that clean-up would have to wait for."""
    code, _ = said(start("with_thread", clean_up))
    assert code == 1


@pytest.mark.parametrize("clean_up", ["quick", "endless"])
def test_defect_in_a_callback_is_a_traceback_and_one_line(clean_up: str):
    code, text = said(start("with_callback", clean_up))
    assert code == 1
    assert text.count("Traceback") == 1
    assert text.splitlines()[-1] == "error: a defect ends this process: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ROS_DOMAIN_ID", "-1", "ROS_DOMAIN_ID is '-1'; set it to 0 to 232, or not at all"),
        ("ROS_DOMAIN_ID", "500", "ROS_DOMAIN_ID is '500'; set it to 0 to 232, or not at all"),
        ("ROS_LOG_DIR", "/proc/none", "this environment: failed to initialize logging: Failed to create log directory"),
    ],
)
def test_environment_in_which_ros_cannot_start_is_one_line(name: str, value: str, told: str):
    code = "import sys; from cnn_perception.ros import process; sys.exit(process.run(None, None, []))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, name: value}, stderr=subprocess.PIPE, text=True
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line[:7]) == (2, "error: ")
    assert told in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-r", "image_raw:=cam/"], "-r image_raw:=cam/: 'cam/' is no name of a topic: write cam"),
        (["-r", "__ns:=/a/"], "-r __ns:=/a/: '/a/' is no name of a namespace: write /a"),
        (["-p", "model=a"], "-p model=a: a parameter is written NAME:=VALUE; did you mean model:=a?"),
        (["image_raw:=cam"], "unknown after --ros-args: ['image_raw:=cam']; parameters are given as -p"),
    ],
)
def test_arguments_with_which_ros_cannot_start_are_one_line_that_says_what_to_write(words: list[str], told: str):
    code = "import sys; from cnn_perception.ros import process; sys.exit(process.run(None, None, sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "--ros-args", *words], stderr=subprocess.PIPE, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith(f"error: {told}")


def test_defect_in_clean_up_is_a_traceback_and_one_line():
    code, text = said(start("lambda node: 0", "broken"))
    assert code == 1
    assert text.count("Traceback") == 1
    assert "error: a defect ends this process: ZeroDivisionError" in text


@pytest.mark.parametrize(
    ("work", "line"),
    [
        ("with_other_thread", "BaseException: as planned"),
        ("with_exiting_callback", "SystemExit: 0"),
        ("lambda node: sys.exit(0)", "SystemExit: 0"),
    ],
)
def test_what_is_raised_need_be_no_error_and_may_say_success(work: str, line: str):
    code, text = said(start(work, "quick"))
    assert code == 1
    assert text.splitlines()[-1] == f"error: a defect ends this process: {line}"


def test_time_that_is_none_is_said_and_ignored_and_the_next_one_is_taken():
    code, text = said(start("with_negative_clock", "quick"))
    assert code == 0
    assert "a message of /clock is ignored, the time stays as it was: Seconds value must not be negative" in text
    assert "Traceback" not in text


def test_value_that_another_callback_refuses_is_a_defect():
    code, text = said(start("with_callback_that_refuses_a_value", "quick"))
    assert (code, text.splitlines()[-1]) == (1, "error: a defect ends this process: ValueError: as planned")


def test_unusable_setting_met_in_a_callback_is_one_line():
    assert said(start("with_refusing_callback", "quick")) == (2, "error: as planned\n")


@pytest.mark.parametrize("work", ["with_hanging_callback", "with_callback_that_hangs_once_begun"])
def test_heartbeat_that_stops_ends_the_process_and_shows_every_thread(work: str):
    code, text = said(start(work, "endless"))
    assert code == 1
    assert text.splitlines()[-1] == "error: a defect ends this process: no news: a thread hangs, see above"
    assert "in wait" in text


def test_process_ends_although_a_callback_hangs_that_python_itself_would_wait_for():
    code, _ = said(start("with_hanging_callback_elsewhere", "quick"))
    assert code == 1


@pytest.mark.parametrize("part", ["GuardCondition", "SignalHandlerGuardCondition"])
def test_signal_while_the_executor_is_made_ends_the_process_without_a_word(part: str):
    assert said(start(f"with_signal_while('{part}')", "quick")) == (0, "")


def test_what_a_destructor_raises_is_still_printed():
    code, text = said(start("with_broken_destructor", "quick"))
    assert code == 0
    assert "AttributeError: as planned" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_comes_while_the_process_fails_leaves_the_exit_code(number: signal.Signals):
    process = start("with_failing_thread", "endless")
    assert process.stdout is not None
    assert process.stdout.readline() == "fails\n"
    process.send_signal(number)
    assert said(process)[0] == 1


@pytest.mark.parametrize("tell", ["never.wait", "lambda: 1 / 0"])
def test_reason_is_said_where_the_thread_that_met_it_does_not_come_to_say_it(tell: str):
    """On a machine that is too busy, or by a log that fails."""
    code, text = said(start(f"with_defects_in_threads(Log({tell}))", "quick"))
    assert code == 1
    lines = [line for line in text.splitlines() if "ends this process: KeyError: 'planned 0'" in line]
    assert len(lines) == 1, text


def test_of_two_defects_the_first_is_told_with_its_traceback_and_the_other_in_a_line():
    slow = "Log(lambda: time.sleep(0.2))"
    code, text = said(start(f"with_defects_in_threads({slow}, {slow})", "quick"))
    assert code == 1
    assert re.findall("told: .*", text) == ["told: 'planned 0'"]
    assert re.findall(r"ends this process: (.*)", text) == ["KeyError: 'planned 0'"]
    assert re.findall(r"met while this process ended: (.*)", text) == ["KeyError: 'planned 1'"]


def test_log_that_nobody_reads_holds_up_no_exit():
    """The pipe is full before the defect is met, so that its traceback cannot be printed."""
    process = start("with_full_pipe", "quick")
    try:
        assert process.wait(TIMEOUT_S) == 1
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("clean_up", "expected"), [("quick", 2), ("endless", 2), ("broken", 1), ("endless in C", 2)])
def test_unusable_setting_is_one_line_however_clean_up_goes(clean_up: str, expected: int):
    code, text = said(start("refuse", clean_up))
    assert code == expected
    assert text.splitlines()[0] == "error: as planned"


@pytest.mark.parametrize("clean_up", ["quick", "endless", "endless in C"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_no_error_however_clean_up_goes(number: signal.Signals, clean_up: str):
    process = start("spin", clean_up)
    assert process.stdout is not None
    assert process.stdout.readline() == "spinning\n"
    process.send_signal(number)
    assert said(process) == (0, "")
