"""What the tests of the doctor share: frames and calibrations to be judged, and findings as text."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator

from builtin_interfaces.msg import Time
from paths import ROOT
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from cnn_perception.doctor.finding import Finding

PROFILE = ROOT / "launch" / "fastdds.xml"


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def lines(findings: Iterator[Finding]) -> str:
    return "\n".join(map(str, findings))


def picture(encoding: str = "rgb8", frame_id: str = "camera", second: int | None = None) -> Image:
    message = Image(height=48, width=80, encoding=encoding, step=240, data=array("B", bytes(48 * 240)))
    now_ns = time.time_ns() if second is None else second * 10**9
    message.header = Header(frame_id=frame_id, stamp=Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9))
    return message


def calibration(width: int = 80, height: int = 48, focal: float = 100.0, frame_id: str = "camera") -> CameraInfo:
    k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0] if focal else [0.0] * 9
    p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    header = Header(frame_id=frame_id)
    return CameraInfo(header=header, width=width, height=height, k=k, p=p, distortion_model="plumb_bob")
