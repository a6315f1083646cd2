"""camera_node: a device, a video file, an image file or a folder of images as a ROS camera.

For robots whose camera has no driver, and for feeding the perception node from files at a fixed rate.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from cnn_perception import memory
from cnn_perception.camera_node.calibration_file import fitted, read_calibration
from cnn_perception.camera_node.image_files import ImageFiles
from cnn_perception.camera_node.pace import Pace
from cnn_perception.camera_node.video_file import HIGHEST_RATE_HZ, Lack, VideoFile, to_rgb
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError, DataError, FrameError, printable
from cnn_perception.files import expanded, require_reachable
from cnn_perception.image.file_formats import HEAD_BYTES, file_format, has_picture_suffix, is_picture
from cnn_perception.image.listing import image_files, in_words, visible_folders
from cnn_perception.image.messages import RgbImage
from cnn_perception.image.raw import check_size
from cnn_perception.ros import given_parameters, parameters, process, topics
from cnn_perception.ros.image_messages import IMAGE_TRANSPORTS, to_jpeg, to_rgb_image
from cnn_perception.ros.parameters import parameter
from cnn_perception.ros.throttled_log import ThrottledLog

# Reliable, so that recorders and viewers of either kind match; a best-effort subscriber is not slowed by it.
_DEFAULT_RATE_HZ = 10.0
"""Of images, and of a video or device that gives none."""
_LOOK_S = 1.0
"""How often it is looked for what is waited for,"""
_PATIENCE_S = 5.0
"""and how long it may lack before it is said: nodes that start together take as long."""
_STALL_S = 15.0
"""A frame that takes longer hangs; a silent device is given up after 10 s. Source: OpenCV, cap_v4l.cpp, V4L_TIMEOUT."""


@dataclass(frozen=True)
class CameraNodeSettings:
    """The parameters of `camera_node`, all given at start: nobody on the graph chooses what it reads or allocates.

    Raises:
        ConfigError: If a value is out of range.
    """

    source: str = parameter(
        "0",
        "Device number or path, video or image file, or folder of images in the order of their names.",
        is_path=True,
        takes_number=True,
        read_only=True,
    )
    rate_hz: float = parameter(
        0.0,
        "Frames a second; 0 takes the video's or the device's own rate, and 10 for images.",
        between=(0.0, HIGHEST_RATE_HZ),
        read_only=True,
    )
    loop: bool = parameter(False, "Start again at the end of a video or folder.", read_only=True)
    preload: bool = parameter(
        False,
        "Hold all decoded frames of a video or folder in memory, so that a short loop costs next to no CPU time.",
        read_only=True,
    )
    width: int = parameter(
        0, "Columns of the published images; 0 keeps the source's.", between=(0, 16384), read_only=True
    )
    height: int = parameter(
        0, "Rows of the published images; 0 keeps the source's.", between=(0, 16384), read_only=True
    )
    camera_info_url: str = parameter(
        "",
        "Calibration file of camera_calibration, YAML or INI: path, file:// or package:// URL, with ${ROS_HOME} if "
        "wanted; '' for none.",
        is_path=True,
        read_only=True,
    )
    frame_id: str = parameter("camera", "Frame of the images (REP 103 optical frame).", read_only=True)
    image_transport: str = parameter("raw", "Publish raw images or JPEG.", choices=IMAGE_TRANSPORTS, read_only=True)
    wait_for_subscribers: int = parameter(
        0, "Publish the first frame only when this many subscribe to the images.", between=(0, 100), read_only=True
    )

    def __post_init__(self) -> None:
        parameters.validate(self)
        if not self.source:
            raise ConfigError("parameter source is empty; name a device, a video file or a folder of images")
        if bool(self.width) != bool(self.height):
            raise ConfigError(f"parameters width {self.width}, height {self.height}: give both, or neither")


class FrameSource:
    """Frames of a device, a video file, an image file or a folder of images.

    Attributes:
        is_device: Whether it is a device, which has no end.
        rate_hz: Its own rate.
        skipped: What could not be decoded so far, each once: files of a folder with the reason, frames of a video.
        lack: What the first pass over a video has found missing of it; None if nothing.
    """

    def __init__(
        self,
        source: str,
        loop: bool = False,
        preload: bool = False,
        size: tuple[int, int] | None = None,
        say: Callable[[str], object] = lambda _: None,
        *,
        is_calibrated: bool = False,
    ) -> None:
        """Opens the source.

        Args:
            source: Device number or path, video or image file, or folder.
            loop: Start again at the end.
            preload: Hold all frames in memory.
            size: (width, height) that every frame is resized to; None keeps it.
            say: Is told that a folder is listed, which may take long, and what of it is passed over.
            is_calibrated: Whether a calibration is published with the frames.

        Raises:
            ConfigError: If there is no such user as in `~user`.
            DataError: If there is no such source, no image in it, or too little memory to hold all.
        """
        if "://" in source:
            raise DataError(
                f"{source}: is an address, and none is opened; give a device, a file or a folder, or start the driver "
                "of that camera and subscribe to what it publishes"
            )
        path = expanded(source)
        try:
            require_reachable(path)
        except ConfigError as error:
            raise DataError(f"{error}; set `source`") from None
        self.skipped: list[str] = []
        self.lack: Lack | None = None
        self._skips = set[str]()
        self._name = source
        self._size = size
        self.is_device = source.isdecimal() or path.is_char_device()
        self._files: list[Path] = []
        self._images = ImageFiles(is_calibrated)
        self._capture: cv2.VideoCapture | None = None
        self._video: VideoFile | None = None
        if path.is_dir() and not self.is_device:
            ignored = Counter[str]()
            say(f"listing {path}")
            self._files = image_files(path, ignored, recursive=False)
            ignored["folders below"] += len(visible_folders(path))
            there = in_words(ignored)
            if not self._files:
                there = there or "nothing"
                raise DataError(f"{path}: no images in this folder, but {there}; give one with JPEG or PNG files")
            if there:
                say(printable(f"{path}: {len(self._files)} images; ignored: {there}"))
            self.rate_hz = _DEFAULT_RATE_HZ
        elif not self.is_device and _is_one_picture(path):  # which OpenCV shows as it lies, and also half of one
            self._files = [path]
            self.rate_hz = _DEFAULT_RATE_HZ
        else:
            self._capture = self._open(source, path)
            self._video = None if self.is_device else VideoFile(self._capture, path)
            self.rate_hz = _plausible(self._capture.get(cv2.CAP_PROP_FPS))
        self._loop = loop and not self.is_device
        preloaded = self._preloaded() if preload and not self.is_device else None
        self._frames = self._all_frames(preloaded)

    @property
    def odd(self) -> Sequence[str]:
        """What is odd about the image files so far, a line for each kind."""
        return self._images.odd

    def read(self) -> RgbImage | None:
        """Returns the next frame, (H, W, 3) uint8; None at the end.

        Raises:
            DataError: If it is the end of a device, which has none.
        """
        image = next(self._frames, None)
        if image is None and self.is_device:
            raise DataError(f"{self._name}: the camera gives no images any more; check its cable and driver")
        return image

    def _open(self, source: str, path: Path) -> cv2.VideoCapture:
        if not self.is_device and not path.is_file():
            raise DataError(f"{source}: no such device, video file or folder; set `source`")
        if not self.is_device:  # a video can name other files and addresses, as playlists do
            os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
        capture = cv2.VideoCapture(int(source) if source.isdecimal() else str(path))
        if not capture.isOpened():
            medium = "camera" if self.is_device else "video"
            device = f" (/dev/video{source})" if source.isdecimal() and sys.platform == "linux" else ""
            raise DataError(f"{source}{device}: cannot be opened as a {medium}; check the source")
        if not self.is_device:
            _check_frames(source, capture)
        if self.is_device:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest in a queue
            if self._size is not None:  # which the device may know to do itself
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        return capture

    def _preloaded(self) -> list[RgbImage]:
        """Returns every frame, as long as there is memory for them and the messages that they become."""
        most = memory.affordable(sys.maxsize)
        taken = 0
        images = []
        for image in self._one_pass():
            images.append(image)
            taken += 2 * image.nbytes
            if taken > most:
                raise DataError(
                    f"{self._name}: its first {len(images)} frames alone take the {most / 1e9:.1f} GB of memory that "
                    "can be had for preload; set preload to false, or give width and height"
                )
        return images

    def _all_frames(self, preloaded: Sequence[RgbImage] | None) -> Iterator[RgbImage]:
        """Yields every frame, again and again where it loops."""
        while True:
            count = 0
            for image in self._one_pass() if preloaded is None else preloaded:
                count += 1
                yield image
            if not self._loop or not count:
                return

    def _one_pass(self) -> Iterator[RgbImage]:
        """Yields every frame once, from the first on."""
        for path in self._files:
            try:
                yield self._resized(self._images.read(path))
            except FrameError as error:
                self._skip(str(error))
        if self._video is not None:
            for image in self._video.frames(lambda place: self._skip(f"{self._name}: {place}")):
                yield self._resized(to_rgb(image))
            self.lack = self._video.lack
        elif self._capture is not None:
            while (read := self._capture.read())[0]:
                yield self._resized(to_rgb(read[1]))

    def _skip(self, text: str) -> None:
        if text not in self._skips:  # a loop meets it again and again
            self._skips.add(text)
            self.skipped.append(text)

    def _resized(self, image: RgbImage) -> RgbImage:
        if self._size is None or self._size == (image.shape[1], image.shape[0]):
            return image
        return RgbImage(np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8))


def _plausible(rate_hz: float) -> float:
    """Returns the rate that a source gives, where it can be one; else the default."""
    return rate_hz if 0.0 < rate_hz <= HIGHEST_RATE_HZ else _DEFAULT_RATE_HZ  # not so NaN


def _is_one_picture(path: Path) -> bool:
    """Returns whether a file holds one picture, or is named so; a stream of JPEGs begins as one of them does."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    kind = file_format(head)
    return kind != "GIF" and (has_picture_suffix(path.name) or (is_picture(head) and kind != "JPEG"))


def _check_frames(source: str, capture: cv2.VideoCapture) -> None:
    """Refuses a video of huge frames before the first of them is decoded."""
    height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    try:
        check_size(height, width)
    except FrameError as error:
        raise DataError(f"{source}: {error}") from None


class CameraNode(parameters.ParameterNode):
    """Publishes `image_raw` (or `image_raw/compressed`) and `camera_info` at a fixed rate.

    Attributes:
        shutdown: Of the process.
    """

    def __init__(self, shutdown: process.Shutdown, node_name: str = "camera_node") -> None:
        """Declares the parameters and opens the source.

        Args:
            shutdown: Of the process.
            node_name: Its name.

        Raises:
            PerceptionError: If a parameter or the source is unusable.
        """
        super().__init__(node_name)
        self.shutdown = shutdown
        parameters.declare(self, CameraNodeSettings)
        self._settings = parameters.read(self, CameraNodeSettings)
        url = self._settings.camera_info_url
        self._calibration = read_calibration(url) if url else None  # a bad one is refused before anything is published
        size = (self._settings.width, self._settings.height) if self._settings.width else None
        say = self.get_logger().info
        self._source = FrameSource(
            self._settings.source, self._settings.loop, self._settings.preload, size, say, is_calibrated=bool(url)
        )
        self._is_compressed = self._settings.image_transport == "compressed"
        message_type = CompressedImage if self._is_compressed else Image
        images = self.resolve_topic_name("image_raw", only_expand=True)  # rclpy remaps what it is given
        name = topics.compressed_of(self, images) if self._is_compressed else images
        overridable = QoSOverridingOptions.with_default_policies()
        self._images_name = name
        self._images = self.create_publisher(message_type, name, _image_qos(), qos_overriding_options=overridable)
        camera_info = topics.camera_info_of(self, images, self._images.topic_name)
        self._camera_infos = self.create_publisher(CameraInfo, camera_info, _image_qos())
        self._camera_info: CameraInfo | None = None
        self._published = 0
        self._logged_skips = self._logged_oddities = 0
        self._is_lack_logged = False
        self._messages: dict[int, Image | CompressedImage] = {}
        rate_hz = self._settings.rate_hz or self._source.rate_hz
        # Expected only while a frame is under way: where time is simulated the timer may stand still for long.
        heartbeat = shutdown.expect("no frame", _STALL_S)
        self.create_timer(1.0 / rate_hz, heartbeat.only_within(self._publish))
        given_parameters.warn_of_unknown(self)
        given_parameters.warn_of_unknown_qos(self)
        self.get_logger().info(f"{self._settings.source} at {rate_hz:g} Hz on {self._images.topic_name}")
        self._log = ThrottledLog(self.get_logger())
        self._seen_ns = -1
        self._waiting_s = self._late_s = 0.0
        self._pace = Pace(rate_hz)
        # A steady clock: what is waited for may be the other one.
        self.create_timer(_LOOK_S, self._look_for_what_lacks, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look_for_what_lacks(self) -> None:
        """Says what the camera waits for, where that lasts: without a word it would look as if it hung."""
        before_ns, self._seen_ns = self._seen_ns, self.get_clock().now().nanoseconds
        self._look_at_pace((self._seen_ns - before_ns) / 1e9)
        reason = self._waits_for(is_still=self._seen_ns == before_ns)
        self._waiting_s = self._waiting_s + _LOOK_S if reason else 0.0
        if not reason:
            self._log.is_over("waits", "the camera waits no longer")
        elif self._waiting_s >= _PATIENCE_S:
            self._log.lasts("waits", f"the camera waits {reason}")

    def _look_at_pace(self, elapsed_s: float) -> None:
        """Says where a file is shown slowly, and that lasts; a device has the time that it has."""
        late = "" if self._source.is_device else self._pace.observe(elapsed_s, self._published)
        self._late_s = self._late_s + _LOOK_S if late else 0.0
        if not late:
            self._log.is_over("late", "the camera keeps its rate")
        elif self._late_s >= _PATIENCE_S:
            self._log.lasts("late", f"the camera {late}")

    def _waits_for(self, *, is_still: bool) -> str:
        """Returns without what no frame is published; empty where nothing lacks.

        Args:
            is_still: Whether the node's clock stands still.
        """
        if self.get_parameter("use_sim_time").value and is_still:
            clocks = self.get_publishers_info_by_topic("/clock")
            who = f"published by {topics.in_words(clocks)}" if clocks else "nobody publishes it"
            return f"for /clock, which stands still: {who}; start or resume the simulation, or leave out use_sim_time"
        if not self._lacks_subscribers():
            return ""
        infos = self.get_subscriptions_info_by_topic(self._images_name)
        who = f" of {topics.in_words(infos)}" if infos else ""
        return (
            f"for {self._settings.wait_for_subscribers} subscribers of {self._images.topic_name} "
            f"(wait_for_subscribers) and reaches {self._images.get_subscription_count()}{who}; check their topic, type "
            "and QoS, and ROS_DOMAIN_ID"
        )

    def _lacks_subscribers(self) -> bool:
        return self._published == 0 and self._images.get_subscription_count() < self._settings.wait_for_subscribers

    def _publish(self) -> None:
        if self._lacks_subscribers():
            return
        image = self._source.read()
        for text in self._source.skipped[self._logged_skips :]:
            self.get_logger().warning(f"skipped {text}")
        self._logged_skips = len(self._source.skipped)
        for text in self._source.odd[self._logged_oddities :]:
            self.get_logger().warning(printable(text))
        self._logged_oddities = len(self._source.odd)
        lack = self._source.lack
        if lack is not None and not self._is_lack_logged:
            self._is_lack_logged = True
            self.get_logger().warning(f"{self._settings.source}: {lack.text}")
        if image is None and not self._published:
            raise DataError(f"{self._settings.source}: not one of its images could be read; give another source")
        if image is None:
            self.get_logger().info(f"end of {self._settings.source}: {self._published} frames published")
            self._images.wait_for_all_acked(Duration(seconds=2))
            if lack is not None and lack.is_certain:
                self.shutdown.begin(EXIT_BAD_INPUT)
            self.context.try_shutdown()
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._settings.frame_id)
        self._images.publish(self._message(header, image))
        self._camera_infos.publish(self._camera_info_of(image, header))
        self._published += 1

    def _camera_info_of(self, image: RgbImage, header: Header) -> CameraInfo:
        height, width = image.shape[:2]
        if self._camera_info is None or (self._camera_info.height, self._camera_info.width) != (height, width):
            # All-zero matrices are the sensor_msgs way to say that a camera is not calibrated.
            self._camera_info = CameraInfo(height=height, width=width)
            if self._calibration is not None:
                self._camera_info = fitted(self._calibration, self._settings.camera_info_url, width, height)
        self._camera_info.header = header
        return self._camera_info

    def _message(self, header: Header, image: RgbImage) -> Image | CompressedImage:
        """Returns a frame as a message; a preloaded one, which comes again and again, is converted only once."""
        message = self._messages.get(id(image))
        if message is None:
            message = to_jpeg(header, image) if self._is_compressed else to_rgb_image(header, image)
            if self._settings.preload:
                self._messages[id(image)] = message
        message.header = header
        return message


def _image_qos() -> QoSProfile:
    """Returns a new profile each time: rclpy writes the overrides of a topic into the one it is given."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def _work(node: CameraNode) -> int:
    process.spin(node, node.shutdown)
    return EXIT_OK


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the camera until its end, Ctrl-C or SIGTERM; returns the exit code."""
    if text := parameters.help_of("camera_node", __doc__ or "", CameraNodeSettings, argv=argv):
        print(text)
        return EXIT_OK
    return process.run(CameraNode, _work, argv)
