"""Owns: the dashboard beside a real perception node, in Chromium: what it shows, and that it costs nothing else."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("starlette", reason="starlette is an optional extra")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from perception import NODE, image, now
from ros import Participant, Process, new_domain, participant, running
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from tiny_model import tiny_spec, with_unknown, write_tiny_model
from vision_msgs.msg import Classification, ObjectHypothesis

from cnn_perception.dashboard_node.camera_history import NO_STAMP, SHARED_STAMP
from cnn_perception.errors import EXIT_BAD_INPUT
from demo.scripted_person import chromium

TOPICS = (f"{NODE}/classification", f"{NODE}/regression", f"{NODE}/activation/overlay/compressed")
SURE, UNSURE = (250, 0, 0), (200, 195, 190)
PICTURES = {"red": (220, 20, 20), "green": (20, 220, 20)}
"""Colours of the pictures of a node that answers with their names."""
SEEN = """window.seen = {};
const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const look = () => {
  const picture = document.getElementById("overlay");
  pen.clearRect(0, 0, 1, 1);
  if (!picture.hidden) pen.drawImage(picture, 0, 0, 1, 1);
  const [red, green, , opacity] = pen.getImageData(0, 0, 1, 1).data;
  const answer = document.querySelector("#answer .name")?.textContent;
  if (opacity) window.seen[`${red > green ? "red" : "green"} picture, answer ${answer}`] = true;
  requestAnimationFrame(look);
};
look();"""
"""Notes what the page shows together, each time that the browser draws it."""


BROKEN = r"""() => [...document.querySelectorAll("td:first-child, th")].flatMap((cell) => {
  const text = cell.firstChild;
  return [...(text?.data ?? "").matchAll(/\S+/g)].filter((word) => {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    return new Set([...range.getClientRects()].map((line) => line.top)).size > 1;
  }).map((word) => word[0]);
})"""
"""Words of the tables' first columns that are broken over two lines."""


class PretendedNode:
    """Answers with names of colours and draws pictures of these, as a perception node would."""

    def __init__(self, ros: Participant, name: str) -> None:
        self.stamps: dict[str, str] = {}
        self._diagnostics = ros.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._answers = ros.node.create_publisher(Classification, f"{name}/classification", 10)
        self._overlays = ros.node.create_publisher(CompressedImage, f"{name}/activation/overlay/compressed", 10)
        camera = DiagnosticStatus(name=f"{name}: camera", level=DiagnosticStatus.OK)
        model = DiagnosticStatus(name=f"{name}: model", values=[KeyValue(key="task", value="multiclass")])
        self._health = DiagnosticArray(status=[camera, model])

    def work(self, answer: str, *, is_drawn: bool, stamp: tuple[int, int] | None = None) -> None:
        """Answers a frame, with no class if the answer is empty, and draws it in its colour, or in black."""
        seconds, nanoseconds = stamp or now()
        header = Header(stamp=Time(sec=seconds, nanosec=nanoseconds))
        self.stamps[str(seconds * 10**9 + nanoseconds)] = answer
        self._diagnostics.publish(self._health)
        results = [ObjectHypothesis(class_id=answer, score=0.9)] if answer else []
        self._answers.publish(Classification(header=header, results=results))
        if is_drawn:
            pixels = np.full((48, 64, 3), PICTURES.get(answer, (0, 0, 0))[::-1], np.uint8)
            data = cv2.imencode(".jpg", pixels)[1].tobytes()
            self._overlays.publish(CompressedImage(header=header, format="jpeg", data=data))


@pytest.fixture(scope="module")
def domain() -> int:
    return new_domain()


@pytest.fixture(scope="module")
def ros(domain: int) -> Iterator[Participant]:
    with participant(domain) as one:
        yield one


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def node(domain: int, model: Path, ros: Participant) -> Iterator[Process]:
    log = model.parent / "node.log"
    with running("perception_node", domain, log, model=model, diagnostics_period_s=0.2, intra_op_threads=1) as one:
        yield one


@pytest.fixture(scope="module")
def dashboard(domain: int, node: Process, model: Path, ros: Participant) -> Iterator[Process]:
    with running("dashboard_node", domain, model.parent / "dashboard.log") as one:
        ros.wait_for(lambda: address_of(one) or not one.running, "the address of the page")
        assert one.running, one.log
        yield one


@pytest.fixture(scope="module")
def camera(ros: Participant, node: Process) -> Callable[[tuple[int, int, int]], None]:
    publisher = ros.publisher(Image, "image_raw")
    return lambda colour: publisher.publish(image(now(), np.full((48, 64, 3), colour, np.uint8)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="playwright is not installed")
    if not shutil.which("chromium") and not shutil.which("google-chrome"):
        pytest.skip("no Chromium is installed")
    with chromium() as one:
        yield one


@pytest.fixture
def page(browser: Any, dashboard: Process) -> Iterator[Any]:
    """The page in a tab; what goes wrong in it fails the test."""
    tab = browser.new_page()
    trouble: list[str] = []
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    tab.goto(address_of(dashboard))
    yield tab
    tab.close()
    assert trouble == []


def address_of(process: Process) -> str:
    found = re.search(r"open (http://\S+)", process.log)
    return found[1] if found else ""


def watchers(ros: Participant) -> list[int]:
    return [ros.node.count_subscribers(topic) for topic in TOPICS]


def test_answer_picture_health_and_certificate_are_shown_and_nothing_is_subscribed_to_when_nobody_looks(
    ros, dashboard, camera, page, model
):
    def until(shown: Callable[[], Any], what: str, colour: tuple[int, int, int] = SURE) -> None:
        def publish_and_look() -> Any:
            camera(colour)
            return shown()

        ros.wait_for(publish_and_look, what)

    until(lambda: page.inner_text("#answer").startswith("red"), "the answer")
    until(lambda: page.is_visible("#overlay"), "the picture")
    assert page.evaluate("[document.getElementById('overlay').width, document.getElementById('overlay').height]") == [
        64,
        48,
    ]
    until(lambda: "camera: " in page.inner_text("#statuses"), "the health")
    until(lambda: "inference" in page.inner_text("#stages"), "the time of a frame")
    until(lambda: "parity with torch" in page.inner_text("#model"), "the certificate")
    assert "red, green, blue" in page.inner_text("#model")
    assert page.inner_text("#legend").strip() == "red"
    assert page.locator("#unsure img").count() == 0
    until(lambda: page.locator("#unsure img").count() > 0, "an unsure frame", UNSURE)
    caption = page.locator("#unsure figcaption").first.inner_text()
    assert re.fullmatch(r"red [\d.]+ %, green [\d.]+ %", caption)
    assert watchers(ros) == [1, 1, 1]

    page.goto("about:blank")

    ros.wait_for(lambda: watchers(ros) == [0, 0, 0], "nobody to look")
    assert dashboard.running


def test_a_node_that_falls_silent_is_said_and_nothing_is_changed_by_the_page(ros, dashboard, page, domain, tmp_path):
    log = tmp_path / "other.log"
    with running("dashboard_node", domain, log, "-r", "__node:=other", perception_node="/nobody") as other:
        ros.wait_for(lambda: address_of(other), "the address")
        page.goto(address_of(other))
        said = f"nothing heard of /nobody; the parameter perception_node may be meant to be {NODE}"
        ros.wait_for(lambda: page.inner_text("#health") == said, "the silence")
        ros.wait_for(lambda: said in other.log, "the same in its log")
        page.goto("about:blank")


def test_a_node_that_is_heard_as_seldom_as_it_speaks_is_not_called_silent(ros, dashboard, page):
    def as_heard(silence_s: float, *, is_silent: bool) -> Callable[[Any], None]:
        def answer(route: Any) -> None:
            state = route.fetch().json()
            route.fulfill(json=state | {"statuses": [], "silence_s": silence_s, "is_silent": is_silent})

        return answer

    page.route("**/state?*", as_heard(100.0, is_silent=False))
    ros.wait_for(lambda: page.inner_text("#health") == "in order", "a node that speaks once a minute")
    page.unroute("**/state?*")
    page.route("**/state?*", as_heard(3.2, is_silent=True))
    ros.wait_for(lambda: page.inner_text("#health") == f"nothing heard of {NODE} for 3 s", "one that has ceased")


@pytest.mark.parametrize("width", [920, 1000, 1280, 400])
def test_no_name_in_a_table_is_broken_in_mid_word(ros, dashboard, camera, page, width):
    page.set_viewport_size({"width": width, "height": 800})

    def is_shown() -> bool:
        camera(SURE)
        return "callback_to_publish" in page.inner_text("#stages") and "overtaken" in page.inner_text("#frames")

    ros.wait_for(is_shown, "the tables")
    assert page.evaluate(BROKEN) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_request_without_the_token_or_that_would_change_something_is_refused(dashboard):
    base, _, token = address_of(dashboard).partition("?")
    for address, method, code in ((base, "GET", 403), (f"{base}state?{token}", "POST", 403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, method=method))
        assert refused.value.code == code
    assert urllib.request.urlopen(f"{base}unsure?{token}&after=7").status == 204
    assert urllib.request.urlopen(f"{base}picture?{token}&camera=none").status == 204


def test_a_stranger_that_names_cameras_which_cannot_be_does_not_end_it(ros, dashboard, page):
    publisher = ros.publisher(DiagnosticArray, "/diagnostics")
    base, _, token = address_of(dashboard).partition("?")
    said = DiagnosticArray()
    for name in ("camera a b", "camera ../x", "camera zz"):
        said.status.append(DiagnosticStatus(name=f"{NODE}: {name}", level=b"\xff", message="stranger"))

    def ask() -> bool:
        publisher.publish(said)
        for camera in ("a%20b", "..%2Fx", "zz"):
            urllib.request.urlopen(f"{base}state?{token}&camera={camera}").read()
        return bool(ros.node.count_subscribers(f"{NODE}/zz/classification"))

    ros.wait_for(ask, "the one that could be to be followed")
    ros.wait_for(lambda: publisher.publish(said) or "stranger" in page.inner_text("#statuses"), "it is shown")
    assert "undefined" not in page.inner_text("#health")
    assert dashboard.running, dashboard.log


def test_an_hour_of_answers_is_drawn(page):
    drawn = """import("/timeline.js").then(({ drawTimeline }) => {
        const values = Array.from({ length: 20 }, (_, number) => [`class ${number}`, 0.5]);
        const answers = Array.from({ length: 20000 }, (_, number) => ({ time_s: number / 10, values }));
        return drawTimeline(document.getElementById("timeline"), answers, 2000, 3600).length;
    })"""
    assert page.evaluate(drawn) == 1


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"port": "taken"}, "cannot be listened on"),
        ({"host": "everywhere"}, "parameter host is 'everywhere'; write numbers"),
        ({"perception_node": "no name"}, "parameter perception_node is 'no name', which names no topic"),
        ({"history_s": 1.0}, "history_s out of range"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(dashboard, domain, tmp_path, parameters, line):
    port = re.search(r":(\d+)/", address_of(dashboard))
    given = {name: port[1] if port and value == "taken" else value for name, value in parameters.items()}
    with running("dashboard_node", domain, tmp_path / "log", "-r", "__node:=second", **given) as second:
        assert second.wait() == EXIT_BAD_INPUT
        (error,) = [one for one in second.log.splitlines() if one.startswith("error: ")]
        assert line in error


@pytest.mark.parametrize("is_dashboard_remapped", [False, True])
def test_answers_and_pictures_are_found_where_the_node_has_them_by_its_remapping(
    ros, domain, model, tmp_path, is_dashboard_remapped
):
    rules = ["-r", "~/classification:=/seen/what", "-r", "~/activation/overlay/compressed:=/seen/where"]
    own = ["-r", "/moved/classification:=/seen/what"] if is_dashboard_remapped else []
    names = {"model": model, "diagnostics_period_s": 0.2, "intra_op_threads": 1}
    shown = {"perception_node": "/moved", "always": True}
    with (
        running("perception_node", domain, tmp_path / "node", "-r", "__node:=moved", *rules, **names),
        running("dashboard_node", domain, tmp_path / "page", "-r", "__node:=f", *own, **shown) as page,
    ):
        publisher = ros.publisher(Image, "image_raw")
        ros.wait_for(lambda: address_of(page), "the address")
        at, _, token = address_of(page).partition("?")

        def state() -> Any:
            publisher.publish(image(now(), np.full((48, 64, 3), SURE, np.uint8)))
            return json.load(urllib.request.urlopen(f"{at}state?{token}"))

        def picture() -> bytes:
            publisher.publish(image(now(), np.full((48, 64, 3), SURE, np.uint8)))
            return urllib.request.urlopen(f"{at}picture?{token}").read()

        ros.wait_for(lambda: len(state()["answers"]) > 2, "answers")
        ros.wait_for(picture, "a picture")
        stamps = [one["stamp_ns"] for one in state()["answers"]]
        assert len(stamps) == len({*stamps})


def test_a_diagnosis_that_names_topics_which_cannot_be_does_not_end_it(ros, domain, tmp_path):
    node = PretendedNode(ros, "/liar")
    lies = [KeyValue(key="answers", value="/diagnostics"), KeyValue(key="overlay", value="/no topic")]
    node._health.status[0].values = lies
    shown = {"perception_node": "/liar", "always": True}
    with running("dashboard_node", domain, tmp_path / "log", "-r", "__node:=g", **shown) as page:

        def is_heard() -> bool:
            node.work("red", is_drawn=True)
            return "topic /diagnostics" in page.log and ros.node.count_subscribers("/liar/classification") > 0

        ros.wait_for(is_heard, "what it refuses, and all else that it subscribes to")
        assert page.running
        assert "Traceback" not in page.log


def test_an_unknown_answer_is_unsure_and_has_no_share_and_best_effort_is_enough(ros, domain, browser, tmp_path):
    model = write_tiny_model(tmp_path / "rule.onnx", spec=with_unknown(tiny_spec(), 3.0))
    names = {"model": model, "diagnostics_period_s": 0.2, "intra_op_threads": 1}
    for topic in ("classification", "activation/overlay/compressed"):
        names[f"qos_overrides./ruled/{topic}.publisher.reliability"] = "best_effort"
    with (
        running("perception_node", domain, tmp_path / "node", "-r", "__node:=ruled", "-r", "image_raw:=dark", **names),
        running("dashboard_node", domain, tmp_path / "page", "-r", "__node:=b", perception_node="/ruled") as shown,
    ):
        publisher = ros.publisher(Image, "dark")
        ros.wait_for(lambda: address_of(shown), "the address")
        tab = browser.new_page()
        tab.goto(address_of(shown))

        def is_shown() -> bool:
            publisher.publish(image(now(), np.full((48, 64, 3), (10, 5, 5), np.uint8)))
            return bool(tab.locator("#unsure figcaption").count())

        ros.wait_for(is_shown, "the unknown frame")
        assert tab.locator("#unsure figcaption").first.inner_text().strip() == "unknown"
        assert tab.inner_text("#answer").strip() == "unknown"
        tab.close()


def test_a_frame_without_a_class_above_the_threshold_is_unsure(ros, domain, browser, tmp_path):
    node = PretendedNode(ros, "/below")
    with running("dashboard_node", domain, tmp_path / "log", "-r", "__node:=e", perception_node="/below") as shown:
        ros.wait_for(lambda: address_of(shown), "the address")
        tab = browser.new_page()
        tab.goto(address_of(shown))

        def is_shown(answer: str) -> bool:
            node.work(answer, is_drawn=True)
            return bool(tab.locator("#unsure figcaption").count())

        ros.wait_for(lambda: is_shown("red") or tab.is_visible("#overlay"), "a frame that is sure")
        assert tab.locator("#unsure figcaption").count() == 0
        ros.wait_for(lambda: is_shown(""), "the frame without a class")
        assert tab.locator("#unsure figcaption").first.inner_text() == "nothing above the threshold"
        tab.close()


def test_picture_and_answer_are_of_one_frame_and_where_pictures_end_the_answer_is_the_newest(
    ros, domain, browser, tmp_path
):
    node = PretendedNode(ros, "/pretended")
    colours = itertools.cycle(PICTURES)
    with running("dashboard_node", domain, tmp_path / "log", "-r", "__node:=c", perception_node="/pretended") as shown:
        ros.wait_for(lambda: address_of(shown), "the address")
        tab = browser.new_page()
        tab.goto(address_of(shown))
        tab.evaluate(SEEN)

        def is_seen() -> bool:
            node.work(next(colours), is_drawn=True)
            node.work("undrawn", is_drawn=False)
            return len(tab.evaluate("seen")) >= len(PICTURES) and "undrawn" in tab.inner_text("#legend")

        def is_newest() -> bool:
            node.work("undrawn", is_drawn=False)
            return not tab.is_visible("#overlay") and tab.inner_text("#answer .name") == "undrawn"

        ros.wait_for(is_seen, "frames with pictures and without")
        assert tab.evaluate("Object.keys(seen).sort()") == ["green picture, answer green", "red picture, answer red"]
        base, _, token = address_of(shown).partition("?")
        with urllib.request.urlopen(f"{base}picture?{token}") as picture:
            answer = json.loads(picture.headers["frame"])["answer"]
            blue, green, red = cv2.imdecode(np.frombuffer(picture.read(), np.uint8), cv2.IMREAD_COLOR)[0, 0]
        said = node.stamps[answer["stamp_ns"]]
        assert (said, answer["values"]) == ("red" if red > green else "green", [[said, pytest.approx(0.9)]])
        assert blue < max(red, green)

        ros.wait_for(is_newest, "the answer that has no picture")
        assert tab.inner_text("#no-overlay") == "no picture of the latest frames"

        ros.wait_for(lambda: is_seen() and tab.is_visible("#overlay"), "pictures again")
        assert tab.evaluate("Object.keys(seen).sort()") == ["green picture, answer green", "red picture, answer red"]
        tab.close()


@pytest.mark.parametrize(("stamp", "why"), [((0, 0), NO_STAMP), ((7, 0), SHARED_STAMP)])
def test_a_picture_that_no_stamp_ties_to_an_answer_is_shown_without_one_and_it_is_said(
    ros, domain, browser, tmp_path, stamp, why
):
    name = f"/stamped_{stamp[0]}"
    node = PretendedNode(ros, name)
    colours = itertools.cycle(PICTURES)
    with running("dashboard_node", domain, tmp_path / "log", "-r", "__node:=d", perception_node=name) as shown:
        ros.wait_for(lambda: address_of(shown), "the address")
        tab = browser.new_page()
        tab.goto(address_of(shown))
        tab.evaluate(SEEN)

        def is_said() -> bool:
            node.work(next(colours), is_drawn=True, stamp=stamp)
            seen = tab.evaluate("Object.keys(seen)")
            return {f"{colour} picture, answer undefined" for colour in PICTURES} <= {*seen}

        ros.wait_for(is_said, "pictures of both colours without an answer")
        assert tab.is_visible("#overlay")
        assert tab.inner_text("#answer") == why
        ros.wait_for(lambda: is_said() and tab.inner_text("#unsure") == why, "what is said of unsure frames")
        ros.wait_for(
            lambda: is_said() and sorted(tab.inner_text("#legend").split()) == ["green", "red"],
            "both answers over time",
        )
        (age,) = (one for one in tab.locator("#figures div").all_inner_texts() if "median" in one)
        assert ("ms" in age) == bool(stamp[0])
        # Of the first frames of a shared stamp the answers may have come late, before it was known to be shared.
        tab.evaluate("window.seen = {}")
        ros.wait_for(is_said, "both pictures again")
        mixed = {"green picture, answer red", "red picture, answer green"} & {*tab.evaluate("Object.keys(seen)")}
        assert not mixed
        tab.close()
