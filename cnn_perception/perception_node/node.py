"""perception_node: camera images in, classes and activation maps out. A thin ROS adapter around `Pipeline`.

The line's threads take the newest frames and answer them; the executor's threads serve everything else, one of them
nothing but the diagnostics, which go on while another loads a model.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, PerceptionError, with_kind
from cnn_perception.perception_node import diagnostics, messages
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.frame_stages import Frame, Inferred, Steps
from cnn_perception.perception_node.isolated_load import IsolatedLoad
from cnn_perception.perception_node.publishers import RESULT_QOS, InfoPublishers
from cnn_perception.perception_node.settings import CameraSettings, Settings
from cnn_perception.perception_node.staged_executor import StagedExecutor
from cnn_perception.ros import parameters, process, transport
from cnn_perception.ros.latest_subscription import SubscriptionSet

_LOG_AGAIN_S = 5.0
"""The same complaint is logged once in this time."""


class PerceptionNode(LifecycleNode):
    """Lifecycle node: configure loads, verifies and warms up; activate subscribes; deactivate keeps the model.

    Attributes:
        settings: The parameters in force.
        enabled: Whether frames are answered, see ~/set_enabled.
        shutdown: Of the process, by a defect in one of the node's threads.
    """

    def __init__(self, shutdown: process.Shutdown, node_name: str = "perception_node") -> None:
        # What `stop` needs comes first: rclpy also destroys a node whose construction failed.
        self._topology = threading.RLock()  # held while subscriptions or topics come and go
        self._cameras: list[CameraStream] = []
        self._frame_source: SubscriptionSet[CameraStream] | None = None
        self._stages: StagedExecutor[list[tuple[CameraStream, Any]], list[Frame], list[Inferred]] | None = None
        self._isolated_load = IsolatedLoad()
        self._loaded: ActiveModel | None = None
        self._candidate: ActiveModel | None = None
        super().__init__(node_name)
        parameters.declare(self, Settings)
        self.settings = parameters.read(self, Settings)
        self._cameras = [CameraStream(self, name, self._declare_camera(name)) for name in self.settings.cameras]
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._infos: InfoPublishers | None = None
        self._database_version = 0
        self.enabled = True
        self.shutdown = shutdown
        self._logged_s: dict[str, float] = {}
        self._known_defects: set[str] = set()
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
            for camera in self._cameras:
                camera.settings = parameters.read(self, CameraSettings, prefix=_prefix(camera))
            self._use(self._load(self.settings))
        except PerceptionError as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and starts the line."""
        result = super().on_activate(state)
        self._publish_infos()
        with self._topology:
            for camera in self._cameras:
                camera.subscribe()
            self._frame_source = SubscriptionSet(self.context, self._cameras, self.settings.max_batch_size)
            steps = Steps(self)
            self._stages = StagedExecutor(self._frame_source, steps.prepare, steps.infer, steps.deliver, self._fail)
        topics = ", ".join(camera.topic for camera in self._cameras)
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
        """Stops the line and what runs beside it before the topics go."""
        self._isolated_load.cancel()
        self.stop()
        for loaded in (self._loaded, self._candidate):
            if loaded is not None:
                loaded.close()
        super().destroy_node()

    def stop(self) -> None:
        """Unsubscribes and waits for the frames under way; harmless when nothing runs."""
        with self._topology:
            if self._frame_source is not None:
                self._frame_source.close()
            if self._stages is not None:
                self._stages.join()
                self._stages = None
            for camera in self._cameras:
                camera.unsubscribe()
            if self._frame_source is not None:
                self._frame_source.destroy()
                self._frame_source = None

    # ---- the model

    @property
    def loaded(self) -> ActiveModel:
        """The model in use; there while the line runs."""
        assert self._loaded is not None
        return self._loaded

    def _load(self, settings: Settings) -> ActiveModel:
        self.get_logger().info(f"loading {settings.model_path}")
        options = settings.session_options()
        if self._loaded is not None or options.builds_engine:  # which would hold up the whole process for long
            self._isolated_load.load(settings.model_path, options)
        loaded = ActiveModel.load(settings, self._say, self._warn_of_recorder, self._fail_beside)
        try:
            _check_class(settings, loaded)
        except ConfigError:
            loaded.close()
            raise
        return loaded

    def _use(self, loaded: ActiveModel) -> None:
        """Takes a verified model into use, between two frames if the node is active."""
        with self._topology, contextlib.nullcontext() if self._stages is None else self._stages.paused():
            before, self._loaded = self._loaded, loaded
            self._database_version += 1
            model, spec = loaded.pipeline.model, loaded.pipeline.spec
            if before is None or not all(camera.outputs.fit(model) for camera in self._cameras):
                self._make_topics(loaded)
            for camera in self._cameras:
                camera.use(model)
            self._declare_class_labels(messages.labels(spec))
            self.get_logger().info(
                f"model {self._database_version}: {model.path} ({spec.architecture}, {spec.task} of "
                f"{len(spec.class_names)}, {spec.input.width}x{spec.input.height} {spec.input.resize_mode}) "
                f"on {model.provider}"
            )
            if model.fallback:
                self.get_logger().warning(f"inference runs on {model.provider}: {model.fallback}")
            if self._stages is not None:
                self._publish_infos()
        if before is not None:
            before.close()
            del before
        transport.return_memory()

    def _make_topics(self, loaded: ActiveModel) -> None:
        self._remove_topics()
        self._infos = InfoPublishers(self, loaded.pipeline.spec.task)
        for camera in self._cameras:
            camera.make_topics(loaded.pipeline.model)
        if self._stages is not None:
            for topics in (self._infos, *(camera.outputs for camera in self._cameras)):
                topics.activate()

    def _remove_topics(self) -> None:
        if self._infos is not None:
            self._infos.destroy()
            self._infos = None
            for camera in self._cameras:
                camera.outputs.destroy()

    def _forget_model(self) -> None:
        with self._topology:
            loaded, self._loaded = self._loaded, None
            self._remove_topics()
        if loaded is not None:
            loaded.close()
            del loaded
        transport.return_memory()

    def _reload_model(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Loads the file again; the old model stays when anything is wrong with the new one."""
        if self._loaded is None:
            response.message = "no model is loaded; configure the node"
            return response
        try:
            self._swap(self._load(parameters.read(self, Settings)))
        except PerceptionError as error:
            response.message = f"the old model stays: {error}"
            self.get_logger().error(f"not reloaded; {response.message}")
            return response
        response.success = True
        response.message = f"model {self._database_version}: sha256 {self.loaded.pipeline.model.sha256}"
        return response

    def _swap(self, loaded: ActiveModel) -> None:
        self.settings = loaded.settings  # first: declaring the labels has all parameters checked again
        self._use(loaded)

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
        if self._infos is not None and self._loaded is not None:
            self._infos.publish(self._loaded.pipeline.model, self.settings.threshold, self._database_version)

    # ---- parameters and services

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        if self._candidate is not None:  # which other parameters, checked with it, have kept from being used
            self._candidate.close()
            self._candidate = None
        loaded = self._loaded
        labels = None if loaded is None else messages.labels(loaded.pipeline.spec)
        if any(item.name == "class_labels" and item.value != labels for item in changed):
            return SetParametersResult(successful=False, reason="class_labels come from the model file")
        try:
            settings = parameters.read(self, Settings, changed)
            for camera in self._cameras:
                parameters.read(self, CameraSettings, changed, _prefix(camera))
            if loaded is not None and settings.model != self.settings.model:
                # ActiveModel here, where it can still be refused; taken into use once all parameters are set.
                self._candidate = self._load(settings)
            elif loaded is not None:
                _check_class(settings, loaded)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, _changed: list[Parameter[Any]]) -> None:
        before = self.settings
        wanted = parameters.read(self, Settings)
        self.settings = parameters.with_live(before, wanted)
        for camera in self._cameras:
            changed = parameters.read(self, CameraSettings, prefix=_prefix(camera))
            camera.settings = parameters.with_live(camera.settings, changed)
        with self._topology:
            if self._frame_source is not None:
                self._frame_source.wake()
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            self._swap(candidate)
        elif self.settings.threshold != before.threshold:
            self._publish_infos()

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.enabled = request.data
        response.success = True
        response.message = "frames are answered" if request.data else "frames are ignored"
        return response

    # ---- what the steps ask of their node, and its health

    def now_ns(self) -> int:
        """Returns the node's clock, nanoseconds."""
        return self.get_clock().now().nanoseconds

    def warn(self, key: str, text: str) -> None:
        """Logs a text, once in a while for the same key."""
        now_s = time.monotonic()
        if now_s - self._logged_s.get(key, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged_s[key] = now_s
            self.get_logger().warning(text)

    def print_defect(self, error: BaseException) -> None:
        """Logs the traceback of a defect, unless it has been logged before."""
        place = "".join(traceback.format_tb(error.__traceback__)[-1:])
        if place not in self._known_defects:
            self._known_defects.add(place)
            self.get_logger().error("".join(traceback.format_exception(error)).rstrip())

    def _fail(self, error: BaseException) -> None:
        """Called in a thread of the line that ends by an error: the main thread then ends the process."""
        if isinstance(error, process.CONTEXT_CLOSED) and not self.context.ok():
            return  # no error: a signal came while a frame was under way
        thread = threading.current_thread().name
        try:
            self.print_defect(error)
            self.get_logger().fatal(f"a defect in the thread {thread} ends this process: {with_kind(error)}")
        finally:
            self.shutdown.fail()

    def _say(self, text: str) -> None:
        self.get_logger().info(text)

    def _fail_beside(self, error: BaseException) -> None:
        """The shadow or the recorder has ended; the answers go on, and diagnostics say it."""
        self.get_logger().error(f"what runs beside the line has ended ({type(error).__name__}: {error})")

    def _warn_of_recorder(self, text: str) -> None:
        self.get_logger().warning(f"recording has paused: {text}")

    def _diagnose(self) -> None:
        with self._topology:
            timeout_s = self.settings.image_timeout_s
            statuses = [camera.status(self.enabled, timeout_s) for camera in self._cameras]
            for camera, status in zip(self._cameras, statuses, strict=True):
                if status.silence_s > self.settings.diagnostics_period_s:
                    reason = camera.reason_of_silence(timeout_s)
                    if reason:
                        self.warn(f"{camera.name} silence", reason)
            stamp, name = self.get_clock().now().to_msg(), self.get_fully_qualified_name()
            array = diagnostics.to_array(stamp, name, statuses, self._loaded)
        self._diagnostics.publish(array)


def _prefix(camera: CameraStream) -> str:
    return f"{camera.name}." if camera.name else ""


def _check_class(settings: Settings, loaded: ActiveModel) -> None:
    """Makes sure that the score map can show the class that is asked for."""
    names, wanted = loaded.pipeline.spec.class_names, settings.score_map_class
    if wanted and wanted not in names:
        raise ConfigError(f"parameter score_map_class is {wanted!r}; choose '' or one of {', '.join(names[:20])}")


def _work(node: PerceptionNode) -> int:
    if node.settings.autostart:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return EXIT_BAD_INPUT if node.context.ok() else EXIT_OK
        node.trigger_activate()
    process.spin(node, threads=2, shutdown=node.shutdown)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until Ctrl-C, SIGTERM or a lifecycle shutdown; returns the exit code."""
    return process.run(PerceptionNode, _work, argv)
