"""perception_node: camera images in, classes and activation maps out. A thin ROS adapter around `Pipeline`.

The line's threads take the newest frames and answer them; the executor's threads serve everything else, one of them
nothing but the diagnostics, which go on while another loads a model.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from cnn_perception import diagnostics, executable, messages, parameters
from cnn_perception.channel import Channel
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_DEFECT, EXIT_OK, FrameError, PerceptionError
from cnn_perception.image import encoded_from_message
from cnn_perception.inlet import Intake
from cnn_perception.line import Line
from cnn_perception.pipeline import Pipeline, Prepared, Result
from cnn_perception.publishers import RESULT_QOS, InfoPublishers, Wanted
from cnn_perception.rehearsal import Rehearsal
from cnn_perception.settings import CameraSettings, Settings

_LOG_AGAIN_S = 5.0
"""The same complaint is logged once in this time."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """A frame on its way: whose it is, who wants what of it, and since when it is worked on."""

    channel: Channel
    header: Header
    wanted: Wanted
    started_s: float
    prepared: Prepared


_Taken: TypeAlias = "list[tuple[Channel, Any]]"
_Inferred: TypeAlias = "list[tuple[_Frame, Result | FrameError]]"


class PerceptionNode(LifecycleNode):
    """Lifecycle node: configure loads, verifies and warms up; activate subscribes; deactivate keeps the model."""

    def __init__(self, node_name: str = "perception_node") -> None:
        # What `stop` needs comes first: rclpy also destroys a node whose construction failed.
        self._topology = threading.RLock()  # held while subscriptions or topics come and go
        self._channels: list[Channel] = []
        self._intake: Intake[Channel] | None = None
        self._line: Line[_Taken, list[_Frame], _Inferred] | None = None
        self._rehearsal = Rehearsal()
        super().__init__(node_name)
        parameters.declare(self, Settings)
        self.settings = parameters.read(self, Settings)
        self._channels = [Channel(self, name, self._declare_camera(name)) for name in self.settings.cameras]
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._pipeline: Pipeline | None = None
        self._candidate: tuple[Settings, Pipeline] | None = None
        self._infos: InfoPublishers | None = None
        self._database_version = 0
        self._enabled = True
        self.failed = False
        self._logged_s: dict[str, float] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RESULT_QOS)
        # A steady clock, so that a simulation whose /clock stands still is diagnosed all the same.
        self.create_timer(
            self.settings.diagnostics_period_s,
            self._diagnose,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self.create_service(SetBool, "~/set_enabled", self._set_enabled)
        self.create_service(Trigger, "~/reload_model", self._reload_model)

    def _declare_camera(self, name: str) -> CameraSettings:
        """Declares the parameters of one camera; those without a prefix are the only one's, or the others' defaults."""
        if not self.has_parameter("image_topic"):
            parameters.declare(self, CameraSettings)
        shared = parameters.read(self, CameraSettings)
        if not name:
            return shared
        parameters.declare(self, CameraSettings, f"{name}.", shared.of_camera(name))
        return parameters.read(self, CameraSettings, prefix=f"{name}.")

    # ---- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads, verifies and warms up the model; fails with one line when anything is wrong."""
        try:
            self.settings = parameters.read(self, Settings)
            for channel in self._channels:
                channel.settings = parameters.read(self, CameraSettings, prefix=_prefix(channel))
            pipeline = self._load(self.settings)
        except PerceptionError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        self._use(pipeline)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts the line."""
        result = super().on_activate(state)
        self._publish_infos()
        with self._topology:
            for channel in self._channels:
                channel.subscribe()
            self._intake = Intake(self.context, self._channels, self.settings.max_batch_size)
            self._line = Line(self._intake, self._prepare, self._infer, self._deliver)
        topics = ", ".join(channel.topic for channel in self._channels)
        self.get_logger().info(f"active: waiting for images on {topics}")
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
        self._rehearsal.cancel()
        self.stop()
        super().destroy_node()

    def stop(self) -> None:
        """Unsubscribes and waits for the frames under way; harmless when nothing runs."""
        with self._topology:
            if self._intake is not None:
                self._intake.close()
            if self._line is not None:
                self._line.join()
                self._line = None
            for channel in self._channels:
                channel.unsubscribe()
            if self._intake is not None:
                self._intake.destroy()
                self._intake = None

    # ---- the model

    def _load(self, settings: Settings) -> Pipeline:
        path, options = settings.model_path, settings.session_options()
        self.get_logger().info(f"loading {path}")
        if self._pipeline is not None:  # which goes on meanwhile
            self._rehearsal.load(path, options)
        return Pipeline.load(path, options)

    def _use(self, pipeline: Pipeline) -> None:
        """Takes a verified model into use, between two frames if the node is active."""
        with self._topology, contextlib.nullcontext() if self._line is None else self._line.held():
            before, self._pipeline = self._pipeline, pipeline
            self._database_version += 1
            if before is None or before.spec.task != pipeline.spec.task:
                self._make_topics(pipeline)
            self._declare_class_labels(messages.labels(pipeline.spec))
            model, spec = pipeline.model, pipeline.spec
            self.get_logger().info(
                f"model {self._database_version}: {model.path} ({spec.architecture}, {spec.task} of "
                f"{len(spec.class_names)}, {spec.input.width}x{spec.input.height} {spec.input.resize_mode}) "
                f"on {model.provider}"
            )
            if model.fallback:
                self.get_logger().warning(f"inference runs on {model.provider}: {model.fallback}")
            if self._line is not None:
                self._publish_infos()

    def _make_topics(self, pipeline: Pipeline) -> None:
        self._remove_topics()
        self._infos = InfoPublishers(self, pipeline.spec.task)
        for channel in self._channels:
            channel.configure(pipeline.spec)
        if self._line is not None:
            for topics in (self._infos, *(channel.outputs for channel in self._channels)):
                topics.activate()

    def _remove_topics(self) -> None:
        if self._infos is not None:
            self._infos.destroy()
            self._infos = None
            for channel in self._channels:
                channel.outputs.destroy()

    def _forget_model(self) -> None:
        with self._topology:
            self._pipeline = None
            self._remove_topics()

    def _reload_model(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Loads the file again; the old model stays when anything is wrong with the new one."""
        if self._pipeline is None:
            response.message = "no model is loaded; configure the node"
            return response
        try:
            settings = parameters.read(self, Settings)
            self._swap(settings, self._load(settings))
        except PerceptionError as error:
            response.message = f"the old model stays: {error}"
            self.get_logger().error(f"not reloaded; {response.message}")
            return response
        response.success = True
        response.message = f"model {self._database_version}: sha256 {self._pipeline.model.sha256}"
        return response

    def _swap(self, settings: Settings, pipeline: Pipeline) -> None:
        self.settings = settings  # first: declaring the labels has all parameters checked again
        self._use(pipeline)

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
        if self._infos is not None and self._pipeline is not None:
            self._infos.publish(self._pipeline.model, self.settings.threshold, self._database_version)

    # ---- parameters and services

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        self._candidate = None
        pipeline = self._pipeline
        labels = None if pipeline is None else messages.labels(pipeline.spec)
        if any(item.name == "class_labels" and item.value != labels for item in changed):
            return SetParametersResult(successful=False, reason="class_labels come from the model file")
        try:
            settings = parameters.read(self, Settings, changed)
            for channel in self._channels:
                parameters.read(self, CameraSettings, changed, _prefix(channel))
            if pipeline is not None and settings.model != self.settings.model:
                # Loaded here, where it can still be refused; taken into use once all parameters are set.
                self._candidate = settings, self._load(settings)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _changed: list[Parameter[Any]]) -> None:
        before = self.settings
        wanted = parameters.read(self, Settings)
        self.settings = parameters.with_live(before, wanted)
        for channel in self._channels:
            changed = parameters.read(self, CameraSettings, prefix=_prefix(channel))
            channel.settings = parameters.with_live(channel.settings, changed)
        with self._topology:
            if self._intake is not None:
                self._intake.look_again()
        candidate, self._candidate = self._candidate, None
        if candidate is not None and candidate[0].model == wanted.model:
            self._swap(*candidate)
        elif self.settings.threshold != before.threshold:
            self._publish_infos()

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        response.success = True
        response.message = "frames are answered" if request.data else "frames are ignored"
        return response

    # ---- frames

    def _prepare(self, taken: _Taken) -> list[_Frame] | None:
        """First step of the line, beside the inference of the frames before."""
        pipeline = self._pipeline
        assert pipeline is not None
        frames: list[_Frame] = []
        for channel, message in taken:
            with self._survived(channel, "prepared"):
                channel.health.receive(time.monotonic())
                wanted = channel.outputs.wanted()
                if self._enabled and wanted.anything:
                    started_s = time.perf_counter()
                    prepared = pipeline.prepare(encoded_from_message(message))
                    frames.append(_Frame(channel, message.header, wanted, started_s, prepared))
        return frames or None

    def _infer(self, frames: list[_Frame]) -> _Inferred | None:
        """Second step: nothing else than the model stands between two runs."""
        assert self._pipeline is not None
        with self._survived(frames[0].channel, "inferred"):
            try:
                wants_map = any(frame.wanted.map for frame in frames)
                results = self._pipeline.infer_batch([frame.prepared for frame in frames], wants_map)
            except FrameError as error:  # the whole batch is lost
                results = [error] * len(frames)
            return list(zip(frames, results, strict=True))
        return None

    def _deliver(self, inferred: _Inferred) -> None:
        """Third step, beside the inference of the next frames."""
        for frame, result in inferred:
            with self._survived(frame.channel, "delivered"):
                if isinstance(result, FrameError):
                    raise result
                self._deliver_one(frame, result)

    def _deliver_one(self, frame: _Frame, result: Result) -> None:
        assert self._pipeline is not None
        started_s = time.perf_counter()
        prediction = result.prediction
        frame.channel.outputs.publish(
            frame.header, result, prediction, self._pipeline.spec, self.settings, frame.wanted
        )
        finished_s = time.perf_counter()
        age_ns = self.get_clock().now().nanoseconds - _nanoseconds(frame.header)
        stages = result.timings.by_stage() | {"publish": (finished_s - started_s) * 1e3}
        stages["callback_to_publish"] = (finished_s - frame.started_s) * 1e3
        frame.channel.health.answer(stages | {"age": age_ns / 1e6}, prediction.unknown)

    @contextlib.contextmanager
    def _survived(self, channel: Channel, step: str) -> Iterator[None]:
        """A bad frame is dropped and counted; a defect ends the node, which must not look alive."""
        try:
            yield
        except FrameError as error:
            count = channel.health.drop(error.reason)
            text = f"{channel.topic}: frame dropped ({error.reason}, {count} so far): {error}"
            self._warn(f"{channel.name} {error.reason}", text)
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

    def _diagnose(self) -> None:
        with self._topology:
            timeout_s = self.settings.image_timeout_s
            statuses = [channel.status(self._enabled, timeout_s) for channel in self._channels]
            for channel, status in zip(self._channels, statuses, strict=True):
                if status.silence_s > self.settings.diagnostics_period_s:
                    reason = channel.reason_of_silence(timeout_s)
                    if reason:
                        self._warn(f"{channel.name} silence", reason)
            model = self._pipeline.model if self._pipeline is not None else None
        stamp, name = self.get_clock().now().to_msg(), self.get_fully_qualified_name()
        self._diagnostics.publish(diagnostics.to_array(stamp, name, statuses, model))


def _prefix(channel: Channel) -> str:
    return f"{channel.name}." if channel.name else ""


def _nanoseconds(header: Header) -> int:
    """The stamp; not rclpy's Time, which refuses the negative stamps of a broken driver."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def _work(node: PerceptionNode) -> int:
    if node.settings.autostart:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return EXIT_BAD_INPUT if node.context.ok() else EXIT_OK
        node.trigger_activate()
    executable.spin(node, threads=2)
    return EXIT_DEFECT if node.failed else EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until Ctrl-C, SIGTERM or a lifecycle shutdown; returns the exit code."""
    return executable.run(PerceptionNode, _work, argv)


if __name__ == "__main__":
    sys.exit(main())
