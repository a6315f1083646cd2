"""Where a node can meet a defect, and what has to become of it: the list behind the table of test/README.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from injection import Injection

P = "cnn_perception.perception_node"
ROS = "cnn_perception.ros"
ENDS, ENDS_WELL, DROPPED, SAID = "ends", "ends, exit code 0", "frame dropped", "diagnosed"


@dataclass(frozen=True)
class Point:
    """A row of the table.

    Attributes:
        name: Of the place.
        injection: What goes wrong.
        stimulus: What makes the node come by: `start`, `run`, `frames`, `end`, or a service; see `Peer`.
        outcome: `ends` (exit code 1 and one line), `frame dropped` (that alone), `diagnosed`, or a good end.
        said: What diagnostics say, a regular expression.
        settings: Parameters of the node.
    """

    name: str
    injection: Injection
    stimulus: str = "run"
    outcome: str = ENDS
    said: str = ""
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def node(self) -> str:
        return self.name.partition(": ")[0]


def perception(name: str, place: str, stimulus: str = "frames", **options: Any) -> Point:
    own = {key: options.pop(key) for key in ("outcome", "said", "settings") if key in options}
    return Point(f"perception_node: {name}", Injection(place, **options), stimulus, **own)


def camera(name: str, place: str, stimulus: str = "start", **options: Any) -> Point:
    settings = options.pop("settings", {})
    is_before = stimulus == "start"
    return Point(f"camera_node: {name}", Injection(place, before=is_before, **options), stimulus, settings=settings)


def follow(name: str, place: str, stimulus: str = "frames", **options: Any) -> Point:
    outcome = options.pop("outcome", ENDS)
    is_before = stimulus == "start"
    return Point(f"follow_node: {name}", Injection(place, before=is_before, **options), stimulus, outcome)


def dashboard(name: str, place: str, stimulus: str = "run", **options: Any) -> Point:
    is_before = stimulus == "start"
    return Point(f"dashboard_node: {name}", Injection(place, before=is_before, **options), stimulus)


def published(topic: str) -> Point:
    return perception(f"publish {topic}", f"{P}.publishers:ResultPublishers._publish", when=topic)


def regions(name: str, place: str, **options: Any) -> Point:
    # Without the black box, which takes its messages by the same lines.
    return perception(f"regions, {name}", place, settings={"rois_topic": "boxes", "black_box_dir": "''"}, **options)


PARAMETERS = "rclpy.parameter_service:ParameterService"
MACHINE = "rclpy.lifecycle:LifecycleNodeMixin._LifecycleNodeMixin"
NODE = f"{P}.node:PerceptionNode"
DASHBOARD = "cnn_perception.dashboard_node"
FOLLOW = "cnn_perception.follow_node.node:FollowNode"
SHORT = [(f"{ROS}.process:STALL_S", 1.0)]
# After a signal a busy machine may not let a node come so far in the time that it has: it then ends well.
UNHURRIED = [(f"{ROS}.process:_GRACE_S", 60.0)]
POINTS = [
    # ---- frames
    perception("wait", f"{ROS}.latest_subscription:SubscriptionSet.wait"),
    # Without the black box, whose subscriptions are fitted by the same lines in another thread.
    perception("fit the QoS", f"{ROS}.latest_subscription:LatestSubscription.fit", settings={"black_box_dir": "''"}),
    perception("take", f"{ROS}.latest_subscription:LatestSubscription.take"),
    perception("judge a stamp", f"{P}.frames.batch_stages:judge_stamp"),
    perception("ask who subscribes", f"{P}.publishers:ResultPublishers.wanted"),
    perception("decode, once", f"{P}.frame_stages:encoded_from_message", once=True, outcome=DROPPED),
    perception("preprocess, once", "cnn_perception.pipeline.pipeline:Pipeline.prepare", once=True, outcome=DROPPED),
    perception(
        "decode, out of memory once",
        f"{P}.frame_stages:encoded_from_message",
        once=True,
        outcome=DROPPED,
        error=MemoryError,
    ),
    perception(
        "preprocess, SystemExit once",
        "cnn_perception.pipeline.pipeline:Pipeline.prepare",
        once=True,
        outcome=DROPPED,
        error=SystemExit,
    ),
    perception("decode, every time", f"{P}.frame_stages:encoded_from_message"),
    perception("infer", "cnn_perception.pipeline.pipeline:Pipeline.infer_batch"),
    perception("infer, out of memory", "cnn_perception.pipeline.pipeline:Pipeline.infer_batch", error=MemoryError),
    perception("infer, SystemExit", "cnn_perception.pipeline.pipeline:Pipeline.infer_batch", error=SystemExit),
    perception("score map", f"{P}.frame_stages:dense_scores"),
    perception("smooth", f"{P}.frames.batch_stages:answer_frame"),
    perception("draw the overlay", f"{P}.publishers:draw_overlay"),
    perception("find neighbours", "cnn_perception.model.gallery:Gallery.nearest"),
    perception("unit activation", "cnn_perception.pipeline.unit_map:UnitMaps.run"),
    perception("offer to viewers", "cnn_perception.background.viewers:Viewers.offer"),
    perception("withdraw from viewers", "cnn_perception.background.viewers:Viewers.withdraw", "deactivate"),
    perception("read camera_info", f"{P}.camera_info:CameraInfoReader.model"),
    *[published(topic) for topic in ("answer", "raw_answer", "activation", "embedding", "neighbours")],
    *[published(topic) for topic in ("overlay", "overlay_jpeg", "score_map", "score_map_info")],
    *[published(topic) for topic in ("label_map", "label_overlay", "unit_activation")],
    *[published(topic) for topic in ("peak_ray", "centroid_ray")],
    perception("offer to shadow and recorder", f"{P}.active_model:ActiveModel.offer"),
    perception("count an answer", f"{P}.camera_stream:CameraStream.note_answer"),
    perception("offer an answer to the black box", f"{P}.black_box.node_box:NodeBox.note_answer"),
    # ---- timers, services, parameters, events
    perception("diagnose", f"{P}.frame_processor:FrameProcessor.diagnose", "run"),
    perception("diagnose, SystemExit", f"{P}.frame_processor:FrameProcessor.diagnose", "run", error=SystemExit),
    perception("service set_enabled", f"{NODE}._set_enabled", "set_enabled"),
    perception("service reload_model", f"{NODE}._reload_model", "reload_model"),
    perception(
        "service reload_model, isolated load", "cnn_perception.pipeline.isolated_load:IsolatedLoad.load", "reload_model"
    ),
    perception("service save_black_box", f"{P}.black_box.node_box:NodeBox._save_now", "save_black_box"),
    perception("subscription black_box_trigger", f"{P}.black_box.node_box:NodeBox._save_for", "black_box_trigger"),
    perception("service change_state", f"{MACHINE}__on_change_state", "deactivate"),
    perception("services of parameters", f"{PARAMETERS}._get_parameters_callback", "get_parameter"),
    perception("on-set parameter callback", f"{NODE}._check_parameters", "set_parameter"),
    perception("post-set parameter callback", f"{NODE}._apply_parameters", "set_parameter"),
    perception("QoS event", "rclpy.event_handler:EventHandler.take_data", "incompatible"),
    perception(
        "simulated clock", "rclpy.time_source:TimeSource.clock_callback", "clock", settings={"use_sim_time": "true"}
    ),
    # ---- the node's life
    perception("constructor", f"{P}.node:FrameProcessor", "start", before=True),
    perception("configure", f"{P}.frame_processor:FrameProcessor.use", "start", before=True),
    perception("configure, publish vision_info", f"{P}.publishers:InfoPublishers.publish", "start", before=True),
    perception("activate", f"{P}.frame_processor:FrameProcessor.start", "start", before=True),
    perception(
        "activate, SystemExit", f"{P}.frame_processor:FrameProcessor.start", "start", before=True, error=SystemExit
    ),
    perception("deactivate", f"{P}.frame_processor:FrameProcessor.stop", "deactivate"),
    perception("clean up", f"{P}.frame_processor:FrameProcessor.forget", "clean_up"),
    perception("shut down", f"{P}.frame_processor:FrameProcessor.forget", "shut_down"),
    perception("executor, wait", f"{ROS}.supervised_executor:SupervisedExecutor.wait_for_ready_callbacks", "run"),
    perception("executor, thread", f"{ROS}.supervised_executor:SupervisedExecutor._run", "run"),
    perception("supervisor", f"{ROS}.heartbeat:Heartbeat.watch", "run"),
    perception("destroy the node", f"{P}.active_model:ModelOwner.close", "end", constants=UNHURRIED),
    perception(
        "destroy the node, SystemExit",
        f"{P}.active_model:ModelOwner.close",
        "end",
        error=SystemExit,
        constants=UNHURRIED,
    ),
    # ---- threads beside the frames
    perception("shadow", "cnn_perception.background.shadow:Shadow._compare", outcome=SAID, said="shadow: 2 stopped by"),
    perception(
        "recorder", "cnn_perception.background.recorder:Recorder._record", outcome=SAID, said="recorder: 2 stopped by"
    ),
    perception(
        "black box, take",
        f"{ROS}.latest_subscription:LatestSubscription.take_each",
        outcome=SAID,
        said="black box: 2 stopped by",
    ),
    perception(
        "black box, write",
        "cnn_perception.bag.writer:BagWriter.write",
        "black_box",
        outcome=SAID,
        said="black box: 2 stopped by",
    ),
    # ---- boxes of another detector
    regions("take", f"{ROS}.latest_subscription:LatestSubscription.take_each"),
    regions("match", f"{P}.regions.stream:RegionStream._on_message"),
    regions("crop, every time", "cnn_perception.regions.answering:crop"),
    regions("infer", f"{P}.regions.worker:infer_boxes"),
    regions("publish", f"{P}.regions.publishers:RegionPublishers.publish"),
    regions(
        "hang",
        f"{P}.regions.worker:infer_boxes",
        error=None,
        outcome=SAID,
        said="rois: 2 no boxes are answered: the boxes of one image for",
        constants=[(f"{P}.regions.worker:_STALL_S", 0.5)],
    ),
    # ---- what hangs
    perception(
        "preparation hangs",
        "cnn_perception.pipeline.pipeline:Pipeline.prepare",
        error=None,
        outcome=SAID,
        said=r"camera: 2 no frame is answered: preparation of a frame for [\d.]+ s",
    ),
    perception(
        "inference hangs",
        "cnn_perception.pipeline.pipeline:Pipeline.infer_batch",
        error=None,
        outcome=SAID,
        said=r"camera: 2 no frame is answered: inference of a frame for [\d.]+ s",
    ),
    perception(
        "delivery hangs",
        f"{P}.publishers:ResultPublishers._publish",
        error=None,
        outcome=SAID,
        said=r"camera: 2 no frame is answered: delivery of a frame for [\d.]+ s",
    ),
    perception(
        "service hangs",
        f"{P}.frame_processor:FrameProcessor.stop",
        "deactivate",
        error=None,
        outcome=SAID,
        said=r"callbacks: 1 others may have to wait: \S+/change_state for [\d.]+ s",
    ),
    perception(
        "shadow hangs",
        "cnn_perception.background.shadow:Shadow._compare",
        error=None,
        outcome=SAID,
        said="shadow: 2 at one frame for",
        constants=[("cnn_perception.background.worker:_OVERDUE_S", 0.5)],
    ),
    perception(
        "score map hangs",
        f"{P}.frame_stages:dense_scores",
        error=None,
        outcome=SAID,
        said="viewers: 1 score map: at one frame for",
        constants=[("cnn_perception.background.worker:_OVERDUE_S", 0.5)],
    ),
    perception(
        "constructor hangs",
        f"{P}.node:FrameProcessor",
        "start",
        before=True,
        error=None,
        constants=[(f"{ROS}.process:_CONSTRUCTION_S", 1.0)],
    ),
    perception("diagnosis hangs", f"{P}.frame_processor:FrameProcessor.diagnose", "run", error=None, constants=SHORT),
    perception(
        "shutdown hangs", f"{P}.frame_processor:FrameProcessor.stop", "shut_down", error=None, outcome=ENDS_WELL
    ),
    # ---- camera_node
    camera("constructor", "cnn_perception.camera_node.node:FrameSource"),
    camera("timer, read a frame", "cnn_perception.camera_node.node:FrameSource.read"),
    camera("timer, SystemExit", "cnn_perception.camera_node.node:FrameSource.read", error=SystemExit),
    camera("timer, make a message", "cnn_perception.camera_node.node:to_rgb_image"),
    camera("timer, what it waits for", "cnn_perception.camera_node.node:CameraNode._waits_for"),
    camera("timer, camera_info", "cnn_perception.camera_node.node:CameraNode._camera_info_of"),
    camera("executor, wait", f"{ROS}.supervised_executor:SupervisedExecutor.wait_for_ready_callbacks"),
    camera("services of parameters", f"{PARAMETERS}._get_parameters_callback", "get_parameter"),
    camera("destroy the node", "rclpy.node:Node.destroy_node", "end", constants=UNHURRIED),
    camera(
        "timer hangs",
        "cnn_perception.camera_node.node:FrameSource.read",
        error=None,
        constants=[("cnn_perception.camera_node.node:_STALL_S", 1.0)],
    ),
    # ---- follow_node
    follow("constructor", "cnn_perception.follow_node.node:FollowController", "start"),
    follow("timer", "cnn_perception.follow_node.controller:FollowController.compute_command", "run"),
    follow("timer, SystemExit", "cnn_perception.follow_node.node:FollowNode._publish", "run", error=SystemExit),
    follow(
        "subscription classification", "cnn_perception.follow_node.controller:FollowController.update_classification"
    ),
    follow("subscription ray", "cnn_perception.follow_node.controller:FollowController.update_ray"),
    follow("subscription label_info", "cnn_perception.follow_node.class_list:ClassList._take", "classes"),
    follow("on-set parameter callback", f"{FOLLOW}._check_parameters", "set_parameter"),
    follow("post-set parameter callback", f"{FOLLOW}._apply_parameters", "set_parameter"),
    follow("executor, wait", f"{ROS}.supervised_executor:SupervisedExecutor.wait_for_ready_callbacks", "run"),
    follow("last command", "cnn_perception.follow_node.node:FollowNode.stop_robot", "end", constants=UNHURRIED),
    follow("destroy the node", "rclpy.node:Node.destroy_node", "end", constants=UNHURRIED),
    follow("timer hangs", "cnn_perception.follow_node.node:FollowNode._publish", "run", error=None, constants=SHORT),
    follow("last command hangs", f"{FOLLOW}.stop_robot", "end", error=None, outcome=ENDS_WELL),
    # ---- dashboard_node
    dashboard("constructor", f"{DASHBOARD}.node:_application", "start"),
    dashboard("timer", f"{DASHBOARD}.node:DashboardNode._follow_onlookers"),
    dashboard("timer hangs", f"{DASHBOARD}.node:DashboardNode._follow_onlookers", error=None, constants=SHORT),
    dashboard("subscription diagnostics", f"{DASHBOARD}.board:Board.diagnosed", "shown_diagnosis"),
    dashboard("subscription classification", f"{DASHBOARD}.camera_history:CameraHistory.answer", "answers_shown"),
    dashboard("subscription overlay", f"{DASHBOARD}.camera_history:CameraHistory.picture", "answers_shown"),
    dashboard("page ends", "cnn_perception.local_page.server:LocalPage.serve", "start"),
]
