"""perception_node: camera images in, classes and activation maps out. A thin ROS adapter around `Pipeline`.

The line's threads take the newest frame and answer it; the executor's thread serves everything else.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from cnn_perception import diagnostics, executable, messages, parameters
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_DEFECT, EXIT_OK, FrameError, PerceptionError
from cnn_perception.health import FrameHealth
from cnn_perception.image import encoded_from_message
from cnn_perception.inlet import Inlet
from cnn_perception.line import Line
from cnn_perception.pipeline import Pipeline, Prepared, Result
from cnn_perception.publishers import RESULT_QOS, Publishers, Wanted
from cnn_perception.settings import Settings

_LOG_AGAIN_S = 5.0
"""The same complaint is logged once in this time."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame on its way: whose header it has, who wants what of it, and since when it is worked on."""

    header: Header
    wanted: Wanted
    started_s: float
    prepared: Prepared


class PerceptionNode(LifecycleNode):
    """Lifecycle node: configure loads, verifies and warms up; activate subscribes; deactivate keeps the model."""

    def __init__(self, node_name: str = "perception_node") -> None:
        # What `stop` needs comes first: rclpy also destroys a node whose construction failed.
        self._inlet: Inlet[Image | CompressedImage] | None = None
        self._line: Line[Image | CompressedImage, _Frame, tuple[_Frame, Result]] | None = None
        super().__init__(node_name)
        parameters.declare(self, Settings)
        self.settings = parameters.read(self, Settings)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._pipeline: Pipeline | None = None
        self._outputs: Publishers | None = None
        self._database_version = 0
        self._topic = ""
        self._enabled = True
        self.failed = False
        self._health = FrameHealth(time.monotonic())
        self._logged_s: dict[str, float] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RESULT_QOS)
        # A steady clock, so that a simulation whose /clock stands still is diagnosed all the same.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self.settings.diagnostics_period_s, self._diagnose, clock=steady)
        self.create_service(SetBool, "~/set_enabled", self._set_enabled)

    # ---- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads, verifies and warms up the model; fails with one line when anything is wrong."""
        try:
            self.settings = parameters.read(self, Settings)
            self._pipeline = Pipeline.load(self.settings.model_path, self.settings.session_options())
        except PerceptionError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        self._database_version += 1
        model, spec = self._pipeline.model, self._pipeline.spec
        self._outputs = Publishers(self, spec)
        self._declare_class_labels(messages.labels(spec))
        self.get_logger().info(
            f"configured: {model.path} ({spec.architecture}, {spec.task} of {len(spec.class_names)}, "
            f"{spec.input.width}x{spec.input.height} {spec.input.resize_mode}) on {model.provider}"
        )
        if model.fallback:
            self.get_logger().warning(f"inference runs on {model.provider}: {model.fallback}")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts the line and subscribes to the camera."""
        result = super().on_activate(state)
        self._publish_infos()
        self._health = FrameHealth(time.monotonic())
        kind: type[Image | CompressedImage] = Image
        self._topic = self.resolve_topic_name("image_raw")
        if self.settings.image_transport == "compressed":
            kind, self._topic = CompressedImage, f"{self._topic}/compressed"
        self._inlet = Inlet(self, kind, self._topic, self._health.miss)
        self._line = Line(self._inlet, self._prepare, self._infer, self._deliver)
        self.get_logger().info(f"active: waiting for images on {self._topic}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and delivers the frames under way; the model stays loaded."""
        self.stop()
        self.get_logger().info("inactive: the model stays loaded")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model."""
        result = super().on_cleanup(state)
        self._forget_model()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops and frees everything, from any state."""
        self.stop()
        result = super().on_shutdown(state)
        self._forget_model()
        return result

    def destroy_node(self) -> None:
        """Stops the line before the topics go."""
        self.stop()
        super().destroy_node()

    def stop(self) -> None:
        """Unsubscribes and waits for the frames under way; harmless when nothing runs."""
        if self._inlet is not None:
            self._inlet.close()
        if self._line is not None:
            self._line.join()
            self._line = None
        if self._inlet is not None:
            self._inlet.destroy()
            self._inlet = None

    def _forget_model(self) -> None:
        self._pipeline = None
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    # ---- parameters and services

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        labels = None if self._pipeline is None else messages.labels(self._pipeline.spec)
        if any(item.name == "class_labels" and item.value != labels for item in changed):
            return SetParametersResult(successful=False, reason="class_labels come from the model file")
        try:
            parameters.read(self, Settings, changed)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _changed: list[Parameter[Any]]) -> None:
        before = self.settings
        self.settings = parameters.with_live(before, parameters.read(self, Settings))
        if self.settings.threshold != before.threshold:
            self._publish_infos()

    def _declare_class_labels(self, names: Sequence[str]) -> None:
        """Sets the parameter that `database_location` of ~/vision_info names."""
        if self.has_parameter("class_labels"):
            self.undeclare_parameter("class_labels")
        # Not read_only, which would forbid the next model's labels; `_check_parameters` refuses everybody else's.
        descriptor = ParameterDescriptor(
            description="Names of the model's classes or numbers, in the order of its logits."
        )
        self.declare_parameter("class_labels", list(names), descriptor, ignore_override=True)

    def _publish_infos(self) -> None:
        if self._outputs is not None and self._pipeline is not None:
            self._outputs.publish_infos(self._pipeline.model, self.settings.threshold, self._database_version)

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "frames are answered" if request.data else "frames are ignored"
        return response

    # ---- frames

    def _prepare(self, message: Image | CompressedImage) -> _Frame | None:
        """First step of the line, beside the inference of the frame before."""
        with self._survived("prepared"):
            assert self._outputs is not None
            assert self._pipeline is not None
            self._health.receive(time.monotonic())
            wanted = self._outputs.wanted()
            if self._enabled and wanted.anything:
                started_s = time.perf_counter()
                prepared = self._pipeline.prepare(encoded_from_message(message))
                return _Frame(message.header, wanted, started_s, prepared)
        return None

    def _infer(self, frame: _Frame) -> tuple[_Frame, Result] | None:
        """Second step: nothing else than the model stands between two frames."""
        with self._survived("inferred"):
            assert self._pipeline is not None
            return frame, self._pipeline.infer(frame.prepared, frame.wanted.map)
        return None

    def _deliver(self, inferred: tuple[_Frame, Result]) -> None:
        """Third step, beside the inference of the next frame."""
        frame, result = inferred
        with self._survived("delivered"):
            assert self._outputs is not None
            assert self._pipeline is not None
            started_s = time.perf_counter()
            self._outputs.publish(frame.header, result, self._pipeline.spec, self.settings, frame.wanted)
            finished_s = time.perf_counter()
            stamp = frame.header.stamp  # not rclpy's Time, which refuses the negative stamps of a broken driver
            age_ns = self.get_clock().now().nanoseconds - (stamp.sec * 10**9 + stamp.nanosec)
            stages = result.timings.by_stage() | {"publish": (finished_s - started_s) * 1e3}
            stages["callback_to_publish"] = (finished_s - frame.started_s) * 1e3
            self._health.answer(stages | {"age": age_ns / 1e6}, result.prediction.unknown)

    @contextlib.contextmanager
    def _survived(self, step: str) -> Iterator[None]:
        """A bad frame is dropped and counted; a defect ends the node, which must not look alive."""
        try:
            yield
        except FrameError as error:
            count = self._health.drop(error.reason)
            self._warn(error.reason, f"{self._topic}: frame dropped ({error.reason}, {count} so far): {error}")
        except BaseException as error:
            if isinstance(error, executable.CONTEXT_CLOSED) and not self.context.ok():
                return  # a signal came while this frame was under way
            self.failed = True
            self.get_logger().fatal(f"a frame could not be {step}; this is a defect")
            self.context.try_shutdown()
            raise

    # ---- health

    def _warn(self, key: str, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_s.get(key, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged_s[key] = now_s
            self.get_logger().warning(text)

    def _explain_silence(self, inlet: Inlet[Image | CompressedImage], silence_s: float) -> None:
        """Says why no image arrives: who publishes the topic, with which type and QoS."""
        wanted = f"sensor_msgs/msg/{inlet.kind.__name__}"
        infos = self.get_publishers_info_by_topic(inlet.topic)
        misfits = "; ".join(inlet.misfits())
        offers = ", ".join(
            f"{info.node_namespace.rstrip('/')}/{info.node_name} "
            f"({info.topic_type}, {info.qos_profile.reliability.name}, {info.qos_profile.durability.name})"
            for info in infos
        )
        if not misfits and silence_s <= self.settings.image_timeout_s:
            return
        if not infos:
            text = "nobody publishes it; check the remapping of image_raw, and ROS_DOMAIN_ID"
        elif all(info.topic_type != wanted for info in infos):
            text = f"published by {offers}; this node wants {wanted}, see the parameter image_transport"
        elif misfits:
            text = f"published by {offers}, whose QoS does not fit: {misfits} See qos_overrides"
        else:
            text = f"published by {offers}; it has stopped"
        self._warn("silence", f"no images on {inlet.topic}: {text}")

    def _diagnose(self) -> None:
        now_s = time.monotonic()
        silence_s = self._health.silence_s(now_s)
        if self._inlet is not None and silence_s > self.settings.diagnostics_period_s:
            self._explain_silence(self._inlet, silence_s)
        frames = diagnostics.CameraStatus(
            node=self.get_fully_qualified_name(),
            topic=self._topic,
            active=self._inlet is not None,
            enabled=self._enabled,
            silence_s=silence_s,
            timeout_s=self.settings.image_timeout_s,
            snapshot=self._health.snapshot(now_s),
        )
        model = self._pipeline.model if self._pipeline is not None else None
        self._diagnostics.publish(diagnostics.to_array(self.get_clock().now().to_msg(), frames, model))


def _work(node: PerceptionNode) -> int:
    if node.settings.autostart:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return EXIT_BAD_INPUT
        node.trigger_activate()
    executable.spin(node)
    return EXIT_DEFECT if node.failed else EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until Ctrl-C, SIGTERM or a lifecycle shutdown; returns the exit code."""
    return executable.run(PerceptionNode, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
