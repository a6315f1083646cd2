"""Owns: that no exception and no hang, wherever it is met, leaves a node that only looks alive.

The table of test/README.md lists the same places, and every callback and thread that a node registers is among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paths import ROOT

pytest.importorskip("rclpy", reason="needs ROS 2")

from boxed import boxes_message
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray, Vector3, Vector3Stamped
from injection import InjectedNode, Injection
from injection_points import DROPPED, ENDS, ENDS_WELL, NODE, POINTS, SAID, Point
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from perception import image, picture
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from registrations import COVERED, registered
from ros import Participant, new_domain, participant
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from tiny_model import write_models
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo, ObjectHypothesis, VisionClass

from cnn_perception.regions.box import Box

MATRIX = [20.0, 0.0, 15.5, 0.0, 20.0, 11.5, 0.0, 0.0, 1.0]
VIEWED = {
    "classification": Classification,
    "classification_raw": Classification,
    "embedding": Image,
    "activation": Image,
    "activation/overlay": Image,
    "activation/overlay/compressed": CompressedImage,
    "activation/peak_ray": Vector3Stamped,
    "activation/centroid_ray": Vector3Stamped,
    "neighbours": Classification,
    "score_map": Image,
    "score_map/camera_info": CameraInfo,
    "label_map": Image,
    "label_map/overlay": Image,
    "unit_activation": Image,
    "detections": Detection2DArray,
    "detections/rays": PoseArray,
}
READY = {
    "perception_node": "active: waiting",
    "camera_node": " Hz on ",
    "follow_node": "following ",
    "dashboard_node": "open http",
}


@pytest.fixture(scope="module")
def domain() -> int:
    return new_domain()


@pytest.fixture(scope="module")
def graph(domain: int) -> Iterator[Participant]:
    with participant(domain) as one:
        yield one


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("injection")
    model, shadow = write_models(folder)
    cv2.imwrite(str(folder / "0.png"), np.zeros((48, 80, 3), np.uint8))
    recorder = {"record_folder": folder / "unsure", "record_margin": 1.0, "record_max_rate_hz": 1000.0}
    recorder |= {"black_box_dir": folder / "box"}
    perceiving = {"model": model, "shadow_model": shadow, "diagnostics_period_s": 0.1, "intra_op_threads": 1}
    return {
        "perception_node": perceiving | recorder,
        "camera_node": {"source": folder, "rate_hz": 50.0, "loop": "true"},
        "follow_node": {"follow": "dog"},
        "dashboard_node": {"perception_node": "shown", "always": "true"},
    }


def test_everything_that_the_nodes_register_has_a_point():
    package = ROOT / "cnn_perception"
    folders = ("ros", "background", "black_box", "perception_node", "camera_node", "follow_node", "dashboard_node")
    found = {
        f"{path.relative_to(package)}: {what}"
        for folder in folders
        for path in (package / folder).rglob("*.py")
        for what in registered(path)
    }
    assert found == set(COVERED)
    assert {name for names in COVERED.values() for name in names} <= {point.name for point in POINTS}


def test_table_of_the_readme_has_the_same_points():
    text = (ROOT / "test" / "README.md").read_text()
    rows = re.findall(r"^\| (\w+_node: .+?) \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [(point.name, point.outcome) for point in POINTS]


class Peer:
    """Makes a node come by the place where something goes wrong."""

    def __init__(self, graph: Participant, node: InjectedNode, namespace: str, name: str) -> None:
        self.graph = graph
        self.answers: list[Classification] = []
        self.diagnoses: list[str] = []
        self._injected = node
        self._namespace, self._node = namespace, f"{namespace}/{name}"
        self._second = 0
        self._kept: dict[str, Any] = {}
        graph.node.create_subscription(DiagnosticArray, "/diagnostics", self._note_diagnosis, 10)

    def _note_diagnosis(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name.startswith(f"{self._node}: "):
                defects = [pair.value for pair in status.values if pair.key == "dropped: defect"]
                text = f"{status.name.removeprefix(f'{self._node}: ')}: {status.level[0]} {status.message}"
                self.diagnoses.append(" ".join([text, *(f"defects={count}" for count in defects)]))

    def has_read(self, pattern: str) -> bool:
        return any(re.search(pattern, text) for text in self.diagnoses)

    def view(self) -> None:
        """Subscribes to everything, so that everything is computed."""
        for topic, kind in VIEWED.items():
            answers = self.answers if topic == "classification" else []
            self.graph.node.create_subscription(kind, f"{self._node}/{topic}", answers.append, 10)

    def _keep(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def _publish(self, topic: str, message: Any) -> None:
        publisher = self._keep(topic, lambda: self.graph.node.create_publisher(type(message), topic, 10))
        publisher.publish(message)

    def _ask(self, kind: Any, service: str, request: Any) -> None:
        client = self._keep(service, lambda: self.graph.node.create_client(kind, f"{self._node}/{service}"))
        if client.service_is_ready():
            client.call_async(request)

    def start(self) -> None:
        """Nothing: the node comes by on its own."""

    run = start

    def end(self) -> None:
        self._keep("end", self._injected.terminate)

    def frames(self) -> None:
        self._second += 1
        pixels = picture(self._second, 24, 32)
        header = image((self._second, 0), pixels).header
        info = CameraInfo(header=header, height=24, width=32, k=MATRIX, distortion_model="plumb_bob")
        self._publish(f"{self._namespace}/camera_info", info)
        self._publish(f"{self._namespace}/image_raw", image((self._second, 0), pixels))
        self._publish(f"{self._namespace}/boxes", boxes_message(header, [Box(12.0, 12.0, 8.0, 8.0)]))
        results = [ObjectHypothesis(class_id="dog", score=0.9)]
        self._publish(f"{self._namespace}/classification", Classification(header=header, results=results))
        self._publish(f"{self._namespace}/ray", Vector3Stamped(header=header, vector=Vector3(z=1.0)))

    def classes(self) -> None:
        """Publishes answers, and beside them the classes that a perception node has."""
        self.frames()
        topic = f"{self.graph.node.get_fully_qualified_name()}/label_info"
        qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publisher = self._keep(topic, lambda: self.graph.node.create_publisher(LabelInfo, topic, qos))
        publisher.publish(LabelInfo(class_map=[VisionClass(class_id=0, class_name="dog")]))

    def shown_diagnosis(self) -> None:
        name = f"{self._namespace}/shown: camera"
        self._publish("/diagnostics", DiagnosticArray(status=[DiagnosticStatus(name=name, level=DiagnosticStatus.OK)]))

    def answers_shown(self) -> None:
        self.shown_diagnosis()
        self._publish(f"{self._namespace}/shown/classification", Classification())
        self._publish(f"{self._namespace}/shown/activation/overlay/compressed", CompressedImage(format="jpeg"))

    def clock(self) -> None:
        self._publish("/clock", Clock())

    def incompatible(self) -> None:
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        topic = f"{self._node}/classification"
        self._keep("qos", lambda: self.graph.node.create_subscription(Classification, topic, lambda _: None, qos))

    def set_enabled(self) -> None:
        self._ask(SetBool, "set_enabled", SetBool.Request(data=True))

    def reload_model(self) -> None:
        self._ask(Trigger, "reload_model", Trigger.Request())

    def save_black_box(self) -> None:
        self._ask(Trigger, "save_black_box", Trigger.Request())

    def black_box_trigger(self) -> None:
        self._publish(f"{self._node}/black_box_trigger", String(data="as planned"))

    def black_box(self) -> None:
        self.frames()
        self.black_box_trigger()

    def get_parameter(self) -> None:
        self._ask(GetParameters, "get_parameters", GetParameters.Request(names=["use_sim_time"]))

    def set_parameter(self) -> None:
        name, value = ("top_k", ParameterValue(type=2, integer_value=2))
        if "follow" in self._node:
            name, value = ("linear", ParameterValue(type=3, double_value=0.1))
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        self._ask(SetParameters, "set_parameters", request)

    def _change(self, *numbers: int) -> None:
        for number in numbers:
            self._ask(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=number)))

    def deactivate(self) -> None:
        self._change(Transition.TRANSITION_DEACTIVATE)

    def clean_up(self) -> None:
        self._change(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)

    def shut_down(self) -> None:
        self._change(Transition.TRANSITION_ACTIVE_SHUTDOWN)


@pytest.fixture
def inject(
    graph: Participant, domain: int, settings: dict[str, dict[str, object]], tmp_path: Path
) -> Iterator[Callable[[Point], Peer]]:
    nodes: list[InjectedNode] = []

    def begin(point: Point) -> tuple[InjectedNode, Peer]:
        namespace = f"/n{abs(hash(point.name)) % 10**9}"
        arguments = ["-r", f"__ns:={namespace}"]
        node = InjectedNode(
            point.node, domain, tmp_path, point.injection, arguments, **settings[point.node] | point.settings
        )
        nodes.append(node)
        peer = Peer(graph, node, namespace, point.node)
        if not point.injection.before:
            graph.wait_for(lambda: READY[point.node] in node.log or not node.runs, "the node to be ready")
            assert node.runs, node.log
            node.arm()
        if point.stimulus == "frames":
            peer.view()
        return node, peer

    yield begin
    for node in nodes:
        node.kill()
    graph.forget()


def stimulate(point: Point, peer: Peer, until: Callable[[], Any], what: str) -> None:
    peer.graph.repeat(getattr(peer, point.stimulus), until, what)


def ids(outcome: str) -> dict[str, Any]:
    points = [point for point in POINTS if point.outcome == outcome]
    return {"argvalues": points, "ids": [point.name.replace(" ", "_") for point in points]}


@pytest.mark.parametrize("point", **ids(ENDS))
def test_process_ends_with_one_line_and_an_exit_code(point: Point, inject: Any):
    node, peer = inject(point)
    stimulate(point, peer, lambda: not node.runs, "the process to end")
    assert node.code() == 1, node.log
    lines = [line for line in node.log.splitlines() if "ends this process: " in line]
    assert len(lines) == 1, node.log
    if point.injection.error is not None:
        assert lines[0].endswith(f"{point.injection.error.__name__}: as planned")
        # On a busy machine the thread may not come to say it in time; the supervisor then has the reason alone.
        by_supervisor = lines[0].startswith("error: a defect in the thread")
        assert node.log.count("Traceback") == 1 or by_supervisor, node.log


@pytest.mark.parametrize("point", **ids(ENDS_WELL))
def test_hang_at_a_wanted_end_holds_it_up_for_a_moment_only(point: Point, inject: Any):
    node, peer = inject(point)
    stimulate(point, peer, lambda: not node.runs, "the process to end")
    assert node.code() == 0, node.log


@pytest.mark.parametrize("point", **ids(DROPPED))
def test_frame_is_dropped_as_a_defect_and_the_next_is_answered(point: Point, inject: Any):
    node, peer = inject(point)
    stimulate(point, peer, lambda: peer.has_read("camera: .* defects=1") or not node.runs, "the defect to be counted")
    peer.answers.clear()
    stimulate(point, peer, lambda: peer.answers or not node.runs, "an answer")
    assert node.runs, node.log


@pytest.mark.parametrize("point", **ids(SAID))
def test_node_goes_on_and_its_diagnostics_say_what_does_not(point: Point, inject: Any):
    node, peer = inject(point)
    if point.injection.error is None:  # the stalled stages need two seconds, the services may hang from now on
        peer.graph.wait_for(lambda: peer.diagnoses, "diagnostics")
    stimulate(point, peer, lambda: peer.has_read(point.said) or not node.runs, f"diagnostics that say {point.said}")
    peer.diagnoses.clear()
    peer.graph.wait_for(lambda: peer.has_read(point.said), "diagnostics that go on")
    assert node.runs, node.log


@pytest.mark.parametrize("state", ["unconfigured", "inactive", "active"])
def test_lifecycle_shutdown_ends_the_process_from_any_state(
    state: str, graph: Participant, domain: int, settings: dict[str, dict[str, object]], tmp_path: Path
):
    """Whoever asks for it is answered."""
    never = Injection(f"{NODE}._set_enabled")
    own = {"autostart": str(state != "unconfigured").lower()}
    node = InjectedNode(
        "perception_node", domain, tmp_path, never, ["-r", f"__ns:=/{state}"], **settings["perception_node"] | own
    )
    shutdowns = {
        "unconfigured": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
        "inactive": Transition.TRANSITION_INACTIVE_SHUTDOWN,
        "active": Transition.TRANSITION_ACTIVE_SHUTDOWN,
    }
    service = f"/{state}/perception_node/change_state"

    def change(number: int) -> bool:
        return bool(graph.call(ChangeState, service, ChangeState.Request(transition=Transition(id=number))).success)

    try:
        graph.wait_for(lambda: state == "unconfigured" or READY["perception_node"] in node.log, "the node to be ready")
        assert state != "inactive" or change(Transition.TRANSITION_DEACTIVATE)
        assert change(shutdowns[state])
        assert node.code() == 0, node.log
        assert "Traceback" not in node.log
    finally:
        node.kill()


@pytest.mark.parametrize("name", ["perception_node", "camera_node", "follow_node"])
def test_value_of_a_type_that_does_not_exist_is_refused_and_ends_no_node(
    name: str, graph: Participant, domain: int, settings: dict[str, dict[str, object]], tmp_path: Path
):
    never = Injection(f"{NODE}._set_enabled")
    node = InjectedNode(name, domain, tmp_path, never, ["-r", f"__ns:=/{name}_values"], **settings[name])
    parameters = [Parameter(name="any", value=ParameterValue(type=200)), Parameter(name="other")]
    service = f"/{name}_values/{name}"
    try:
        graph.wait_for(lambda: READY[name] in node.log, "the node to be ready")
        request = SetParameters.Request(parameters=parameters)
        results = graph.call(SetParameters, f"{service}/set_parameters", request).results
        assert [result.successful for result in results] == [False, False]
        atomic = SetParametersAtomically.Request(parameters=parameters)
        result = graph.call(SetParametersAtomically, f"{service}/set_parameters_atomically", atomic).result
        assert (result.successful, result.reason) == (
            False,
            "nothing is set: the value of 'any' is of the type 200, which does not exist",
        )
        assert node.runs
    finally:
        node.kill()
