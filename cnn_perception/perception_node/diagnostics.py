"""The node's health as diagnostic_msgs: a status for each camera, one for the model, with stable names.

A node that was not activated, or was deactivated, is in order, as Nav2's lifecycle manager sees it. The level STALE is
left to whoever hears nothing any more: diagnostic_aggregator makes an ERROR of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from cnn_perception import topic_names
from cnn_perception.background.recorder import Recorder
from cnn_perception.background.shadow import Shadow
from cnn_perception.background.viewers import ViewersReport
from cnn_perception.black_box.black_box import BlackBoxReport
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.stream.drift import DriftReport
from cnn_perception.stream.frame_counters import Snapshot
from cnn_perception.tasks.registry import task_of

NOT_COUNTED = "not counted"
"""The key under which it is said that a 0 of the counts means nothing."""
_MOST_SHARE = 0.05
"""So many of the recent frames may be lost, dropped or odd before that is a fault of the camera or its network."""
_LEAST_FRAMES = 20
"""Of fewer a single one is no share."""
_SMALLEST_SHARE = 0.005
"""A smaller one is not told where nothing is wrong."""


@dataclass(frozen=True)
class CameraStatus:
    """What is known of one camera at the moment of a diagnosis.

    Attributes:
        camera: Its name; empty for the only one.
        topic: The image topic; empty while the node was never active.
        active: Whether the node is subscribed.
        enabled: Whether frames are answered.
        silence_s: Seconds without a frame, as far as the node has looked for one.
        timeout_s: Seconds of silence that are an error.
        snapshot: Counts, rates and percentiles.
        drift: Whether the camera shows what the model was trained on; None while the node is not active.
        stalled: Which stage of the node is at one frame for too long; empty while the frames go on.
        silence: Why no frame comes; empty where that is not known or not the case.
        subscription: With which reliability its images are subscribed, and why.
        kept_by: Who publishes its images, where that is one picture alone, which is kept; empty otherwise.
        remedy: What to do where its frames are lost on the way.
        not_counted: Of which frames the middleware does not tell how many there are; empty if it tells all.
        mixed: That several nodes publish its images, and which; empty where it is one.
        unheard: Topic of its answers if nobody subscribes to them; empty otherwise.
        is_wanted: Whether somebody subscribes to anything about its frames.
        camera_info: The topic of its calibration; empty while the node is not active.
        answers: The topic of its answers; empty without a model.
        overlay: The topic of its compressed overlay; empty without a model.
    """

    camera: str
    topic: str
    active: bool
    enabled: bool
    silence_s: float
    timeout_s: float
    snapshot: Snapshot
    drift: DriftReport | None
    stalled: str = ""
    silence: str = ""
    kept_by: str = ""
    subscription: str = ""
    remedy: str = ""
    not_counted: str = ""
    mixed: str = ""
    unheard: str = ""
    is_wanted: bool = True
    camera_info: str = ""
    answers: str = ""
    overlay: str = ""


def to_array(
    stamp: Any,  # noqa: ANN401 messages are untyped
    node: str,
    cameras: Sequence[CameraStatus],
    model: ActiveModel | None,
    overdue: str,
    load_under_way: str = "",
    namesakes: str = "",
    viewers: ViewersReport | None = None,
    refusal: str = "",
    black_box: BlackBoxReport | None = None,
) -> DiagnosticArray:
    """Returns all statuses.

    Args:
        stamp: builtin_interfaces/Time of the node's clock.
        node: Fully qualified name of the node.
        cameras: One a camera.
        model: The model in use; None while there is none.
        overdue: Which callbacks take too long; empty if none does.
        load_under_way: Which model is being loaded, and for how long; empty if none is.
        namesakes: That there are other nodes of this name, see `topics.namesakes`; empty if there are none.
        viewers: What viewers got.
        refusal: Why the node is not in the state that was asked for; empty where it is.
        black_box: What it holds and has done; None where there is none.
    """
    statuses = [_camera_status(node, one, refusal) for one in cameras]
    statuses.append(_model_status(node, model, load_under_way, refusal))
    statuses += [_callbacks_status(node, overdue), _graph_status(node, namesakes)]
    if viewers is not None:
        statuses.append(_viewers_status(node, viewers))
    if model is not None and model.shadow is not None:
        statuses.append(_shadow_status(node, model.shadow))
    if model is not None and model.recorder is not None:
        statuses.append(_recorder_status(node, model.recorder))
    if black_box is not None:
        statuses.append(_black_box_status(node, black_box))
    array = DiagnosticArray(status=statuses)
    array.header.stamp = stamp
    return array


def _camera_status(node: str, camera: CameraStatus, refusal: str) -> DiagnosticStatus:
    counts = camera.snapshot
    total = counts.total
    level, text = _judged(camera) if camera.active else at_rest("the node is not active", refusal)
    values = {
        topic_names.IMAGES_KEY: camera.topic,
        topic_names.CAMERA_INFO_KEY: camera.camera_info,
        topic_names.ANSWERS_KEY: camera.answers,
        topic_names.OVERLAY_KEY: camera.overlay,
        "subscription": camera.subscription,
        "input rate (Hz)": f"{counts.input_rate_hz:.2f}",
        "output rate (Hz)": f"{counts.output_rate_hz:.2f}",
        "received": str(total.received),
        "answered": str(total.answered),
        "unknown": str(counts.unknown),
        "lost on the way": str(total.lost),
        "overtaken": str(total.overtaken),
    }
    values |= {NOT_COUNTED: camera.not_counted} if camera.not_counted else {}
    values |= {f"dropped: {reason}": str(count) for reason, count in sorted(total.dropped.items())}
    values |= {f"odd: {kind}": str(count) for kind, count in sorted(total.oddities.items())}
    values |= counts.stage_values()
    values |= camera.drift.values() if camera.drift is not None else {}
    return to_status(level, f"{node}: camera {camera.camera}".rstrip(), text, node, values)


def _judged(camera: CameraStatus) -> tuple[bytes, str]:
    """Returns the level of a camera of an active node, and its worst trouble or what it does."""
    if camera.stalled:
        return DiagnosticStatus.ERROR, f"no frame is answered: {camera.stalled}"
    is_silent = camera.silence_s > camera.timeout_s
    if is_silent and not camera.kept_by:
        reason = f": {camera.silence}" if camera.silence else ""
        return DiagnosticStatus.ERROR, f"no image for {camera.silence_s:.1f} s{reason}"
    if broken := camera.snapshot.newly_broken:
        return DiagnosticStatus.ERROR, f"{broken} frames met a defect of this node; see its log"
    if camera.mixed:
        return DiagnosticStatus.WARN, camera.mixed
    if is_silent:
        return _of_one_picture(camera)
    if warning := frames_warning(camera.snapshot, camera.remedy):
        return DiagnosticStatus.WARN, warning
    if camera.drift is not None and camera.drift.warnings:
        return DiagnosticStatus.WARN, "; ".join(camera.drift.warnings)
    return DiagnosticStatus.OK, _activity(camera)


def _of_one_picture(camera: CameraStatus) -> tuple[bytes, str]:
    """Returns the level of a camera whose only picture came long ago, and what became of it."""
    total = camera.snapshot.total
    text = f"the one picture that {camera.kept_by} has published"
    if total.answered:
        return DiagnosticStatus.OK, f"{text}, and keeps, was answered"
    for reason in total.dropped:
        return DiagnosticStatus.WARN, f"{text} was dropped ({reason}): {camera.snapshot.refusals.get(reason, '')}"
    level = DiagnosticStatus.WARN if camera.is_wanted else DiagnosticStatus.OK
    return level, f"{text} came while nobody wanted an answer; publish it again"


def at_rest(text: str, refusal: str) -> tuple[bytes, str]:
    """Returns the level of what does nothing, on purpose or because a transition was refused, and which it is."""
    return (DiagnosticStatus.ERROR, f"{text}: {refusal}") if refusal else (DiagnosticStatus.OK, text)


def frames_warning(counts: Snapshot, remedy: str) -> str:
    """Says of which share of the recent frames something is wrong, and what; empty where that is next to none.

    Frames that a newer one has overtaken are no fault: a model may be slower than its camera.

    Args:
        counts: What became of the frames.
        remedy: What to do where frames are lost on the way.
    """
    recent = counts.recent
    taken = recent.received - recent.overtaken
    within = f"in the last {counts.recent_s:.0f} s"
    if is_losing(counts):
        return f"{recent.lost} of {recent.sent} frames were lost on the way {within}: {remedy}"
    unusable = recent.unusable
    if _is_much(unusable.total(), taken):
        return _with_reason(f"{unusable.total()} of {taken} frames dropped {within}", unusable, counts)
    if _is_much(recent.odd.total(), taken):
        return _with_reason(f"{recent.odd.total()} oddities of {taken} frames {within}", recent.odd, counts)
    return ""


def _with_reason(text: str, found: Counter[str], counts: Snapshot) -> str:
    """Returns the text with all reasons by name, and the commonest in words as it was said last."""
    ((reason, _),) = found.most_common(1)
    return f"{text} ({_listed(found)}): {counts.refusals.get(reason, '')}".removesuffix(": ")


def is_losing(counts: Snapshot) -> bool:
    """Returns whether more than a few of the recent frames were lost on the way."""
    return _is_much(counts.recent.lost, counts.recent.sent)


def _is_much(count: int, total: int) -> bool:
    return count > _MOST_SHARE * max(total, _LEAST_FRAMES)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(sorted(counts))


def _activity(camera: CameraStatus) -> str:
    """Returns what a camera does with which nothing is wrong."""
    counts = camera.snapshot
    if not camera.enabled:
        return "disabled by ~/set_enabled"
    if not camera.is_wanted and counts.output_rate_hz == 0:
        return f"idle: nobody subscribes to {camera.unheard} or another result"
    text = f"{counts.output_rate_hz:.1f} frames/s answered"
    share = counts.recent.overtaken / max(counts.recent.received, 1)
    text += f", {share:.0%} of the frames overtaken by newer ones" if share >= _SMALLEST_SHARE else ""
    return text + (f"; nobody subscribes to {camera.unheard}" if camera.unheard else "")


def _shadow_status(node: str, shadow: Shadow) -> DiagnosticStatus:
    report = shadow.report()
    level = DiagnosticStatus.ERROR if report.problem else DiagnosticStatus.OK
    text = report.problem or f"{report.rate:.1%} of {report.compared} frames answered otherwise"
    return to_status(level, f"{node}: shadow", text, node, report.values() | {"shadow: note": shadow.note})


def _recorder_status(node: str, recorder: Recorder) -> DiagnosticStatus:
    report = recorder.report()
    level = DiagnosticStatus.WARN if report.problem else DiagnosticStatus.OK
    if report.is_broken:
        level = DiagnosticStatus.ERROR
    return to_status(level, f"{node}: recorder", report.problem or f"{report.recorded} kept", node, report.values())


def _black_box_status(node: str, report: BlackBoxReport) -> DiagnosticStatus:
    level = DiagnosticStatus.WARN if report.problem or report.is_cut else DiagnosticStatus.OK
    if report.is_broken:
        level = DiagnosticStatus.ERROR
    return to_status(level, f"{node}: black box", report.text, node, report.values())


def _viewers_status(node: str, report: ViewersReport) -> DiagnosticStatus:
    level = DiagnosticStatus.WARN if report.problem else DiagnosticStatus.OK
    return to_status(level, f"{node}: viewers", report.text, node, report.values())


def _callbacks_status(node: str, overdue: str) -> DiagnosticStatus:
    if not overdue:
        return to_status(DiagnosticStatus.OK, f"{node}: callbacks", "services and parameters are answered", node, {})
    text = f"others may have to wait: {overdue}"  # which a model that loads is entitled to
    return to_status(DiagnosticStatus.WARN, f"{node}: callbacks", text, node, {})


def _graph_status(node: str, namesakes: str) -> DiagnosticStatus:
    level = DiagnosticStatus.WARN if namesakes else DiagnosticStatus.OK
    return to_status(level, f"{node}: graph", namesakes or "no other node has this name", node, {})


def _model_status(node: str, active: ActiveModel | None, load_under_way: str, refusal: str) -> DiagnosticStatus:
    name = f"{node}: model"
    if active is None and load_under_way:
        return to_status(DiagnosticStatus.WARN, name, load_under_way, node, {})
    if active is None:
        level, text = at_rest("no model is loaded", refusal)
        return to_status(level, name, text, node, {})
    model = active.pipeline.model
    is_less = model.fallback and not active.options.session.is_default_choice
    level = DiagnosticStatus.WARN if is_less else DiagnosticStatus.OK
    text = f"running on {model.provider}" + (f": {model.fallback}" if model.fallback else "")
    text += f"; {load_under_way}" if load_under_way else ""
    spec = model.spec
    values = {
        "file": str(model.path.absolute()),  # who reads it may have been started in another folder
        "sha256": model.sha256,
        "architecture": spec.architecture,
        "task": spec.task,
        **task_of(spec.task).model_values(spec),
        "unknown rule": spec.unknown.method if spec.unknown else "none",
        **_score_meanings(model),
        **_unit_layers(active),
        "provider": model.provider,
        "placement": model.placement,
        **({"taken as the fastest": active.pipeline.choice} if active.pipeline.choice else {}),
    }
    return to_status(level, name, text, node, values)


def _score_meanings(model: OnnxModel) -> dict[str, str]:
    """Returns what those scores are that are no probabilities, or none that were fitted to labelled images."""
    found = {}
    if task_of(model.spec.task).has_classes and not model.spec.is_calibrated:
        found["calibrated"] = "no"
    if model.spec.unknown is not None:
        found["score of unknown"] = "1: a yes of the model's rule, no probability"
    if model.gallery is not None:
        found["score of neighbours"] = "cosine similarity in [0, 1], no probability"
    return found


def _unit_layers(active: ActiveModel) -> dict[str, str]:
    """Returns the layers that `unit_layer` can name, (units x rows x columns), once somebody has asked for one."""
    known = active.pipeline.units.known
    return {"ends of its stages": known.text} if known is not None else {}


def to_status(level: bytes, name: str, text: str, hardware_id: str, values: dict[str, str]) -> DiagnosticStatus:
    """Returns a status as a message; `values` are figures by their names."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=text, hardware_id=hardware_id, values=pairs)
