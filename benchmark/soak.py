"""`make soak`: whether the memory of perception_node grows in minutes or hours of frames, faults and model reloads.

    python -m benchmark.soak --minutes 2

camera_node publishes 640x480 rgb8 images at 30 Hz; a shadow model is compared and unsure frames are recorded. Meanwhile
bad frames are published among them, parameters are set to good and to nonsense values, viewers of every topic come and
go, the node is deactivated and activated, and its model is loaded again and swapped for another. Memory, threads and
file handles are sampled every second. At the end a defect is made on purpose, which has to end the node. The exit code
is 3 when one of the figures grows over the second half of the run by more than `support.growth.LIMITS`, when the node
no longer answers, or does not end as it should.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from benchmark.support.growth import LIMITS, Sample, growth, sample_process
from benchmark.support.node_client import NodeClient
from benchmark.support.options import OUTPUT, option_parser
from benchmark.support.pairs import machine
from benchmark.support.processes import export_model, running, write_frames
from cnn_perception.errors import EXIT_BELOW_TARGET, EXIT_DEFECT, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.ros import transport
from demo.processes import child_environment, node_command

NODE = "/perception_node"
_CLASSIFICATION = f"{NODE}/classification"
_VIEWED_TOPICS = {
    "activation": Image,
    "activation/overlay": Image,
    "activation/overlay/compressed": CompressedImage,
    "embedding": Image,
    "score_map": Image,
    "score_map/camera_info": CameraInfo,
    "label_map": Image,
    "label_map/overlay": Image,
    "unit_activation": Image,
}
_TIMEOUT_S = 60.0
_PERIOD_S = 1.0
_BAD_IMAGES = (
    {"encoding": "rgb8", "height": 480, "width": 640, "step": 1920, "data": bytes(1000)},
    {"encoding": "jpeg", "height": 480, "width": 640, "step": 640, "data": bytes(640 * 480)},
    {"encoding": "rgb8", "height": 0, "width": 0, "step": 0, "data": b""},
    {"encoding": "32FC1", "height": 10, "width": 10, "step": 40, "data": b"\xff" * 400},
)
"""Truncated, of an unknown encoding, empty, and full of NaN."""
_SETTINGS: tuple[tuple[str, Any], ...] = (
    ("threshold", 0.3),
    ("threshold", 7.0),
    ("top_k", 3),
    ("top_k", -1),
    ("model", "/no/such/model.onnx"),
    ("threshold", 0.0),
)
"""Set in turn; those out of range must be refused, and cost nothing."""
_RECORDED_MB = 1000.0
_DEFECT = """
import os
from rclpy.publisher import Publisher
publish = Publisher.publish
def broken(self, message):
    if type(message).__name__ == "Classification" and os.path.exists({armed!r}):
        raise RuntimeError("made on purpose")
    return publish(self, message)
Publisher.publish = broken
"""
"""What every Python process imports at its start that finds it on its path as `sitecustomize`."""


class SoakError(Exception):
    """The node does not do what it should."""


class Disturbances:
    """What is done to the node while it runs: bad frames, parameters, subscribers, transitions and reloads.

    Attributes:
        is_active: Whether the node is active.
    """

    def __init__(self, client: NodeClient, models: Sequence[Path]) -> None:
        """Begins with the first of these models, which are swapped in turn."""
        self.is_active = True
        self._models = itertools.cycle([*models[1:], models[0]])
        self._client = client
        self._images = client.node.create_publisher(Image, "/image_raw", 5)
        self._subscriptions: list[Any] = []
        self._transitions: Any = client.node.create_client(ChangeState, f"{NODE}/change_state")
        self._parameters: Any = client.node.create_client(SetParameters, f"{NODE}/set_parameters")
        self._reload: Any = client.node.create_client(Trigger, f"{NODE}/reload_model")

    def sequence(self) -> Iterator[Callable[[], object]]:
        """Yields one disturbance after the other, for ever."""
        settings = itertools.cycle(_SETTINGS)
        while True:
            yield self._subscribe
            yield self._publish_bad_images
            yield lambda: self._set_parameter(*next(settings))
            yield self._unsubscribe
            yield lambda: self._set_parameter(*next(settings))
            yield lambda: self._change_state(Transition.TRANSITION_DEACTIVATE)
            yield lambda: self._change_state(Transition.TRANSITION_ACTIVATE)
            yield lambda: wait_for_classification(self._client)
            yield self._reload_model
            yield self._swap_model

    def _call(self, service_client: Any, request: Any) -> Any:  # noqa: ANN401 services are untyped
        """Returns a service's response.

        Raises:
            SoakError: If there is none in time.
        """
        future = service_client.call_async(request)
        rclpy.spin_until_future_complete(self._client.node, future, timeout_sec=_TIMEOUT_S)
        if not future.done():
            raise SoakError(f"{service_client.srv_name} is not answered within {_TIMEOUT_S:g} s")
        return future.result()

    def _reload_model(self) -> None:
        if not self._call(self._reload, Trigger.Request()).success:
            raise SoakError("reloading failed; see the node's log")

    def _subscribe(self) -> None:
        for topic, message_type in _VIEWED_TOPICS.items():
            subscription = self._client.node.create_subscription(message_type, f"{NODE}/{topic}", lambda _: None, 2)
            self._subscriptions.append(subscription)

    def _unsubscribe(self) -> None:
        while self._subscriptions:
            self._client.node.destroy_subscription(self._subscriptions.pop())

    def _publish_bad_images(self) -> None:
        for fields in _BAD_IMAGES:
            self._images.publish(Image(**fields))

    def _set_parameter(self, name: str, value: Any) -> bool:  # noqa: ANN401 as rclpy's
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return bool(self._call(self._parameters, request).results[0].successful)

    def _swap_model(self) -> None:
        if not self._set_parameter("model", str(next(self._models))):
            raise SoakError("another model is refused; see the node's log")

    def _change_state(self, number: int) -> None:
        request = ChangeState.Request(transition=Transition(id=number))
        if not self._call(self._transitions, request).success:
            raise SoakError("a transition failed; see the node's log")
        self.is_active = number == Transition.TRANSITION_ACTIVATE


def wait_for_classification(client: NodeClient) -> None:
    """Waits for the next classification.

    Raises:
        SoakError: If there is none in time.
    """
    deadline_s = time.perf_counter() + _TIMEOUT_S
    before = client.counts[_CLASSIFICATION]
    while client.counts[_CLASSIFICATION] == before:
        if time.perf_counter() > deadline_s:
            raise SoakError(f"no frame is answered within {_TIMEOUT_S:g} s")
        client.spin(0.1)


def soak(pid: int, client: NodeClient, models: Sequence[Path], seconds: float, table: Path) -> list[Sample]:
    """Returns what the node holds, second by second, while it is disturbed; writes that to a CSV file, too."""
    samples: list[Sample] = []
    disturbances = Disturbances(client, models)
    sequence = disturbances.sequence()
    started_s = time.perf_counter()
    next_row_s = 0.0
    before = client.counts[_CLASSIFICATION]
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in dataclasses.fields(Sample)])
        while (elapsed_s := time.perf_counter() - started_s) < seconds or not disturbances.is_active:
            disturb = next(sequence)
            disturb()
            client.spin(_PERIOD_S)
            samples.append(_sample(pid, started_s))
            writer.writerow(dataclasses.astuple(samples[-1]))
            if elapsed_s >= next_row_s:
                rate_hz = (client.counts[_CLASSIFICATION] - before) / max(elapsed_s, 1.0)
                print(_row(samples[-1], rate_hz), flush=True)
                next_row_s += max(10.0, seconds / 60)
    return samples


def _sample(pid: int, started_s: float) -> Sample:
    try:
        return sample_process(pid, started_s, time.perf_counter())
    except (FileNotFoundError, ProcessLookupError):
        raise SoakError("the node has ended; see its log") from None


def _row(sample: Sample, rate_hz: float) -> str:
    return (
        f"{sample.time_s:8.0f} s {sample.rss_mb:9.1f} MB {sample.pss_mb:9.1f} MB {sample.threads:8d} "
        f"{sample.handles:8d} {rate_hz:9.1f}/s"
    )


def _report_growth(samples: Sequence[Sample]) -> bool:
    """Returns whether anything grew beyond its limit; prints by how much."""
    hours = (samples[-1].time_s - samples[0].time_s) / 2 / 3600
    risen = growth(samples)
    for name, rise in risen.items():
        verdict = "GROWS" if rise > LIMITS[name] else "steady"
        text = f"{rise:+8.2f} in the second half ({rise / hours:+.1f} an hour), limit {LIMITS[name]:g}"
        print(f"  {name:<8} {text}: {verdict}")
    return any(rise > LIMITS[name] for name, rise in risen.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs and prints; returns the exit code."""
    parser = option_parser("soak", __doc__, backbone="resnet18", output=OUTPUT)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: %(default)s)")
    options = parser.parse_args(argv)
    if not options.minutes > 0:
        parser.error("--minutes: must be above 0")
    os.environ.update(transport.environment())
    models = [export_model(options.output, options.backbone)]
    models += [Path(shutil.copy(models[0], models[0].with_name(f"other_{models[0].name}")))]
    frames = write_frames(options.output)
    table = options.output / "soak.csv"
    log = options.output / "soak.log"
    print(f"{machine()}, {options.backbone}; {options.minutes:g} minutes; {table}, {log}")
    with running("camera_node", source=frames, rate_hz=30.0, loop="true", preload="true"), log.open("wb") as file:
        armed = options.output / "soak_defect"
        armed.unlink(missing_ok=True)
        command = node_command("perception_node", _parameters(options.output, models))
        environment = _environment(options.output, armed)
        node = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        client = NodeClient([_CLASSIFICATION], "soak")
        try:
            wait_for_classification(client)
            print("    time       resident      shared out  threads  handles    answers")
            samples = soak(node.pid, client, models, options.minutes * 60, table)
            wait_for_classification(client)
            _check_end(node, log, armed)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except (SoakError, subprocess.TimeoutExpired) as error:
            print(f"FAILED: {error}")
            return EXIT_BELOW_TARGET
        finally:
            node.kill()
            node.wait()
            rclpy.shutdown()
    return EXIT_BELOW_TARGET if _report_growth(samples) else EXIT_OK


def _parameters(folder: Path, models: Sequence[Path]) -> dict[str, object]:
    """What the node is started with: everything at once that runs beside the answers."""
    recorded = folder / "soak_recorded"
    shutil.rmtree(recorded, ignore_errors=True)
    recording = {
        "record_folder": recorded,
        "record_margin": 1.0,
        "record_max_rate_hz": 1.0,
        "record_max_mb": _RECORDED_MB,
    }
    return {"model": models[0], "shadow_model": models[1]} | recording


def _environment(folder: Path, armed: Path) -> dict[str, str]:
    """Returns the environment of a node that meets a defect once the file `armed` is there."""
    patch = folder / "soak_patch"
    patch.mkdir(exist_ok=True)
    (patch / "sitecustomize.py").write_text(_DEFECT.format(armed=str(armed.absolute())))
    path = os.pathsep.join(filter(None, [str(patch.absolute()), os.environ.get("PYTHONPATH")]))
    return child_environment() | {"PYTHONPATH": path}


def _check_end(node: subprocess.Popen[Any], log: Path, armed: Path) -> None:
    """Makes the node meet a defect and checks how it ends.

    Raises:
        SoakError: If its exit code or its log says that something else is wrong.
        subprocess.TimeoutExpired: If it does not end.
    """
    if "Traceback" in log.read_text(errors="replace"):
        raise SoakError("the node has met a defect; see its log")
    armed.touch()
    code = node.wait(timeout=10)
    lines = [line for line in log.read_text(errors="replace").splitlines() if "ends this process: " in line]
    if code != EXIT_DEFECT or len(lines) != 1 or "made on purpose" not in lines[0]:
        raise SoakError(f"the node ended with exit code {code} after a defect, and said {lines}; see its log")
    print(f"a defect made on purpose ended the node with exit code {code}")


if __name__ == "__main__":
    sys.exit(main())
