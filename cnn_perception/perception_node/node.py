"""The lifecycle node `perception_node`: parameters, transitions and services, wired to the objects that do the work.

`ModelOwner` owns the model, a `CameraStream` each camera, and `FrameProcessor` the threads that answer frames. All else
is served by the executor's threads. While one of them loads a model for `Reconfiguration`, the others go on.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Collection, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError
from cnn_perception.lifecycle.bond import bond_of
from cnn_perception.lifecycle.transitions import RefusingNode, reported
from cnn_perception.perception_node.active_model import ActiveModel, ModelOwner
from cnn_perception.perception_node.black_box.node_box import NodeBox
from cnn_perception.perception_node.camera_stream import declared_cameras
from cnn_perception.perception_node.frame_processor import FrameProcessor
from cnn_perception.perception_node.publishers import publish_diagnoses
from cnn_perception.perception_node.reconfiguration import Reconfiguration
from cnn_perception.perception_node.settings import CameraSettings, LiveSettings, Settings
from cnn_perception.pipeline.isolated_load import IsolatedLoad
from cnn_perception.ros import given_parameters, parameters, process
from cnn_perception.ros.throttled_log import ThrottledLog

_THREADS = 5
"""Of callbacks: one may load for a swap, another configure; one diagnoses, one waits for the disk, one serves the rest.
"""


class PerceptionNode(RefusingNode, parameters.ParameterNode, LifecycleNode):
    """Lifecycle node: configure loads, verifies and warms up; activate subscribes; deactivate keeps the model.

    Attributes:
        live: The parameters in force.
        shutdown: Of the process, by a defect in one of the node's threads.
        fail: Ends the process because of a defect; called with it in the thread that has met it.
        refusal: Why the last transition was refused; empty if it was not.
    """

    def __init__(self, shutdown: process.Shutdown, node_name: str = "perception_node") -> None:
        # What must end when the node does; it comes first, for rclpy also destroys a node whose construction failed.
        self._at_end = contextlib.ExitStack()
        super().__init__(node_name)
        side_by_side = ReentrantCallbackGroup()
        parameters.serve_in_group(self, side_by_side)
        self.shutdown = shutdown
        self.refusal = ""
        self._log = ThrottledLog(self.get_logger())
        self.fail = functools.partial(process.fail, self, self._log, shutdown)
        parameters.declare(self, Settings)
        self.live = LiveSettings(parameters.read(self, Settings))
        self._cameras = declared_cameras(self, self.live.settings.cameras, self._log.warn)
        given_parameters.warn_of_unknown(self, of_model=("class_labels",))
        self._models = ModelOwner(ActiveModel.load, IsolatedLoad(), self.get_logger(), self.fail)
        kept = self.live.settings.black_box()
        self._black_box = NodeBox(self, kept) if kept is not None else None
        self._frames = FrameProcessor(
            self, self._cameras, self._models, self.live, self._log, self.fail, self._black_box
        )
        self._changes = Reconfiguration(self, self._cameras, self._models, self._frames, self.live)
        for last_comes_first in (self._frames.close, self._models.close, self._frames.stop, self._models.cancel):
            self._at_end.callback(last_comes_first)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        period_s = self.live.settings.diagnostics_period_s
        heartbeat = shutdown.expect("no diagnostics", period_s + process.STALL_S)
        publish_diagnoses(self, period_s, heartbeat, lambda: self._frames.diagnose(self.refusal))
        settings = self.live.settings  # a node that activates itself has no manager
        self._bond = bond_of(self, 0.0 if settings.autostart else settings.bond_heartbeat_period)
        self._at_end.callback(self._end_bond)
        self.create_service(SetBool, "~/set_enabled", self._set_enabled)
        self.create_service(Trigger, "~/reload_model", self._reload_model, callback_group=side_by_side)

    @reported("configured")
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads, verifies and warms up the model; fails with one line when anything is wrong."""
        self._changes.configure()
        with self._changes.alone:
            return super().on_configure(state)

    @reported("activated")
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the cameras and begins to answer their frames."""
        with self._changes.alone:
            result = super().on_activate(state)
            try:
                self._frames.start()
            except BaseException:
                super().on_deactivate(state)
                raise
            if self._bond:
                self._bond.begin()
        given_parameters.warn_of_unknown_qos(self)
        self.get_logger().info(f"active: waiting for images on {', '.join(camera.topic for camera in self._cameras)}")
        return result

    @reported("deactivated")
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and delivers the frames under way; the model stays loaded."""
        self._frames.stop()
        self.get_logger().info("inactive: the model stays loaded")
        with self._changes.alone:
            self._end_bond()
            return super().on_deactivate(state)

    @reported("cleaned up")
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model, and gives up a load of another one."""
        self._changes.forget()
        with self._changes.alone:
            return super().on_cleanup(state)

    @reported("shut down", is_last=True)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops and frees everything, from any state."""
        self._frames.stop()
        self._changes.forget()
        with self._changes.alone:
            self._end_bond()
            return super().on_shutdown(state)

    def destroy_node(self) -> None:
        """Stops the threads that answer frames and what runs in the background before the topics go."""
        self._at_end.close()
        super().destroy_node()

    def autostart(self) -> None:
        """Configures and activates the node; ends the process if that fails."""
        try:
            for transition in (self.trigger_configure, self.trigger_activate):
                if transition() != TransitionCallbackReturn.SUCCESS:
                    self.shutdown.begin(EXIT_BAD_INPUT if self.context.ok() else EXIT_OK)
                    return
        except BaseException as error:  # a SystemExit, too, which threads swallow
            self.fail(error)

    def set_parameters_atomically(self, parameter_list: list[Parameter[Any]]) -> SetParametersResult:
        """Sets parameters, all or none; another model is loaded before, while everything else goes on."""
        set_all = super().set_parameters_atomically
        return self._changes.set_atomically(parameter_list, lambda wanted: set_all(list(wanted)))

    def effect_to_come(self, names: Collection[str]) -> str:
        """Returns which of these parameters, just set, take effect only later, and when, or not with this model."""
        return self._changes.effect_to_come(names)

    def _end_bond(self) -> None:
        if self._bond:
            self._bond.end()

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        try:
            self._changes.check(changed)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changed: list[Parameter[Any]]) -> None:
        self._changes.apply([item.name for item in changed])

    def _reload_model(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Loads the file again; the old model stays when anything is wrong with the new one."""
        if self._models.current is None:
            response.message = "no model is loaded; configure the node"
            return response
        try:
            model = self._changes.reload()
        except PerceptionError as error:
            response.message = f"the old model stays: {error}"
            self.get_logger().error(f"not reloaded; {response.message}")
            return response
        response.success = True
        response.message = f"model {self._models.version}: sha256 {model.pipeline.model.sha256}"
        return response

    def _set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.live.enabled = request.data
        response.success = True
        response.message = "frames are answered" if request.data else "frames are ignored"
        return response


def _work(node: PerceptionNode) -> int:
    if node.live.settings.autostart:
        threading.Thread(target=node.autostart, name="autostart", daemon=True).start()
    else:
        node.get_logger().info(
            "autostart is false: unconfigured until a lifecycle manager configures and activates it, or "
            f"`ros2 lifecycle set {node.get_fully_qualified_name()} configure`, then `activate`"
        )
    process.spin(node, node.shutdown, threads=_THREADS)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the node until Ctrl-C, SIGTERM or a lifecycle shutdown; returns the exit code."""
    if text := parameters.help_of("perception_node", __doc__ or "", Settings, CameraSettings, argv=argv):
        print(text)
        return EXIT_OK
    return process.run(PerceptionNode, _work, argv)
