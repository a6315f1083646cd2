"""The model in use with what runs in the background beside it, and the object that loads, swaps and frees models.

Nothing here needs ROS 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.background.recorder import Recorder
from cnn_perception.background.selection import Origin, RecorderSettings
from cnn_perception.background.shadow import Shadow
from cnn_perception.errors import ConfigError, PerceptionError
from cnn_perception.fastest.choice import Choice
from cnn_perception.image.messages import EncodedFile, EncodedImage, RgbImage
from cnn_perception.memory import return_memory
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.isolated_load import IsolatedLoad
from cnn_perception.pipeline.label_pixels import has_label_map
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.ros.throttled_log import Logger
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

_CLOSE_S = 1.0
"""How long a frame under way may take to be written; a hanging disk does not hold the node up for longer."""
_LEAST_TIMEOUT_S = 60.0
"""Seconds that a load in this process may take where a model is in use, whatever `model_timeout_s` is."""
_MOST_NAMES = 20
"""So many classes are named where another one is asked for."""


@dataclass(frozen=True)
class ModelOptions:
    """Which model is to be used, and how.

    Attributes:
        path: The model file.
        session: How it is to be run.
        shadow_path: A second model file that is compared with it; None for none.
        recorder: Which frames are kept that it is unsure of; None for none.
        score_map_class: A class that it must have, for the score map; empty for any.
        unit_layer: A layer that it must have, for the activation of a unit; empty for the last one.
        unit: Which unit of that layer there must be.
        timeout_s: Seconds that loading it may take, in this process or another.
    """

    path: Path
    session: SessionOptions
    shadow_path: Path | None = None
    recorder: RecorderSettings | None = None
    score_map_class: str = ""
    unit_layer: str = ""
    unit: int = 0
    timeout_s: float = 600.0

    @property
    def shadow_session(self) -> SessionOptions:
        """How the shadow is run: this file, by one thread of low priority, for it may lag behind the model in use."""
        return dataclasses.replace(self.session.as_named, intra_op_threads=1, warm_up_batches=(1,), require_gpu=False)

    def loads_as(self, other: ModelOptions) -> bool:
        """Whether a model that was loaded with these options is one loaded with the others."""
        shown = dataclasses.replace(
            self, score_map_class=other.score_map_class, unit_layer=other.unit_layer, unit=other.unit
        )
        return dataclasses.replace(shown, timeout_s=other.timeout_s) == other


@dataclass(frozen=True, eq=False)
class ActiveModel:
    """A loaded model and what runs in the background as long as it is in use.

    Attributes:
        options: What it was loaded with.
        pipeline: What answers the frames.
        shadow: A second model that is compared with it; None without one.
        recorder: What keeps the frames that it is unsure of; None where none are kept.
        file: Which file lay at its path when it was loaded, see `file_at`.
    """

    options: ModelOptions
    pipeline: Pipeline
    shadow: Shadow | None = None
    recorder: Recorder | None = None
    file: tuple[int, ...] = ()

    @classmethod
    def load(
        cls,
        options: ModelOptions,
        logger: Logger,
        found: Choice | None = None,
    ) -> ActiveModel:
        """Loads, verifies and warms up the model and its shadow.

        Args:
            options: Which, and how.
            logger: Is told what takes minutes, before it does, and from other threads why no frames are recorded, and
                of a defect that has ended the shadow or the recorder; the answers then go on.
            found: What another process has found to be the fastest way to run the model; None for nothing.

        Raises:
            PerceptionError: If a file or a setting cannot be used.
        """

        def log(text: str) -> None:
            logger.info(text)

        def warn(text: str) -> None:
            logger.warning(f"recording has paused: {text}")

        def on_failure(error: BaseException) -> None:
            logger.error("".join(traceback.format_exception(error)).rstrip())
            logger.error(f"the shadow or the recorder has ended ({type(error).__name__}: {error})")

        file = file_at(options.path)  # before it is read: one that is replaced meanwhile is another one
        pipeline = Pipeline.load(options.path, options.session, log, found)
        kept = options.recorder
        recorder = Recorder(kept, pipeline.spec, pipeline.model.sha256, warn, on_failure) if kept else None
        model = cls(options, pipeline, recorder=recorder, file=file)
        if options.shadow_path is None:
            return model
        try:
            shadow = Shadow(Pipeline.load(options.shadow_path, options.shadow_session, log), pipeline.spec, on_failure)
        except PerceptionError:
            model.close()
            raise
        return dataclasses.replace(model, shadow=shadow)

    @property
    def is_watched(self) -> bool:
        """Whether frames are answered even where nobody subscribes to the answers."""
        return self.shadow is not None or self.recorder is not None

    def offer(
        self, encoded: EncodedImage | EncodedFile, image: RgbImage, prediction: Prediction, origin: Origin
    ) -> None:
        """Gives an answered frame to the shadow and the recorder; never waits for them."""
        if self.shadow is not None:
            self.shadow.offer(image, prediction, origin.camera, origin.stamp_ns)
        if self.recorder is not None:
            self.recorder.offer(encoded, image, prediction, origin)

    def check_shown(self, options: ModelOptions) -> None:
        """Makes sure that it has the class and the unit that are to be shown.

        Raises:
            ConfigError: If it has not.
            ModelError: If its layers cannot be told, because its file has been replaced.
        """
        self._check_class(options.score_map_class)
        if options.unit_layer or options.unit:  # nothing is loaded for the unit that is shown by default
            self.pipeline.units.check(options.unit_layer, options.unit)

    def _check_class(self, name: str) -> None:
        names = self.pipeline.spec.class_names
        if name and name not in names:
            listed = ", ".join(names[:_MOST_NAMES])
            raise ConfigError(f"parameter score_map_class is {name!r}; choose '' or one of {listed}")

    def unused(self, names: Collection[str]) -> list[str]:
        """Returns a line for each of these parameters that this model has nothing for."""
        spec = self.pipeline.spec
        absent = {
            "score map": ["score_map_class", "score_map_scale"] if spec.score_map is None else [],
            "label map": [] if has_label_map(spec) else ["label_map_threshold"],
            "gallery": ["neighbours"] if self.pipeline.model.gallery is None else [],
            "classes": [] if task_of(spec.task).has_classes else ["top_k", "threshold"],
        }
        return [
            f"{name} has no effect: the model in use has no {part}"
            for part, listed in absent.items()
            for name in listed
            if name in names
        ]

    def close(self) -> None:
        """Ends the shadow and the recorder, and a score map or a unit's activation under way."""
        self.pipeline.model.cancel_views()
        for one in (self.shadow, self.recorder):
            if one is not None:
                one.close(_CLOSE_S)


def file_at(path: Path) -> tuple[int, ...]:
    """Returns what tells a file from the one that lay at its path before, links followed; empty where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a path with a NUL character
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class _Load:
    """A load under way, and when it began by the monotonic clock."""

    path: Path
    began_s: float


class ModelOwner:
    """Owns the model in use, the one before until it is freed, and the candidate until it is used.

    A model is loaded by any thread, one at a time, for as long as it takes. Models come and go by whoever holds the
    lock of `Reconfiguration`. All others only read.
    """

    def __init__(
        self,
        load: Callable[[ModelOptions, Logger, Choice | None], ActiveModel],
        isolated_load: IsolatedLoad,
        logger: Logger,
        on_hang: Callable[[BaseException], None],
    ) -> None:
        """Begins without a model.

        Args:
            load: Loads, verifies and warms up a model in this process, as the other process has found it to be the
                fastest.
            isolated_load: Loads one in another process first, where that risk or the time it takes is not to be borne.
            logger: Is told which file is loaded, and which model is used.
            on_hang: Called, in a thread of its own, with the error of a load in this process that does not end.
        """
        self._on_hang = on_hang
        self._load = load
        self._isolated_load = isolated_load
        self._logger = logger
        # Written under that lock, between two frames; read by the stages' and the diagnostics' threads, which
        # see the old model or the new one, each whole, and hold it as long as they use it.
        self._current: ActiveModel | None = None
        self._version = 0
        self._is_ending = False  # only ever set, by the thread that ends the node
        self._loading = threading.Lock()  # held during a load, which the next two are about
        self._load_under_way: _Load | None = None  # replaced as a whole; read by the diagnostics' thread
        self._is_given_up = False
        # Only touched under that lock, and by `close` once no callback is begun any more.
        self._candidate: ActiveModel | None = None
        self._replaced: list[ActiveModel] = []

    @property
    def current(self) -> ActiveModel | None:
        """The model in use; None while there is none."""
        return self._current

    @property
    def in_use(self) -> ActiveModel:
        """The model in use, where it is known that there is one."""
        assert self._current is not None
        return self._current

    @property
    def version(self) -> int:
        """How many models have been taken into use."""
        return self._version

    @property
    def load_under_way(self) -> str:
        """Which model is being loaded, and for how long; empty if none is."""
        load = self._load_under_way
        return "" if load is None else f"loading {load.path} for {time.monotonic() - load.began_s:.0f} s"

    def load(self, options: ModelOptions) -> ActiveModel:
        """Loads a model, in another process first if that could harm the model in use or take minutes.

        Raises:
            PerceptionError: If a file or a setting cannot be used, another model is being loaded, or `give_up` or
                `cancel` was called meanwhile.
        """
        if options.path == Path():
            raise ConfigError("no model is given; set `model` to an .onnx file made by training.export")
        with self._alone(options.path):
            self._logger.info(f"loading {options.path}")
            found = None
            if self._current is not None or options.session.builds_engine:
                found = self._try_elsewhere(options)
            with self._limited(options):
                model = self._load(options, self._logger, found)
            try:
                if self._is_ending or self._is_given_up:  # nobody would close it any more
                    why = "ends" if self._is_ending else "was cleaned up"
                    raise ConfigError(f"{options.path}: not loaded, because the node {why}")
                model.check_shown(options)
            except PerceptionError:
                model.close()
                raise
            return model

    @contextlib.contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Refuses a load while there is another one."""
        if not self._loading.acquire(blocking=False):
            raise ConfigError(f"{path}: not loaded, because another model is being loaded; try again when that is done")
        try:
            self._is_given_up = False
            self._isolated_load.begin()
            self._load_under_way = _Load(path, time.monotonic())
            yield
        finally:
            self._load_under_way = None
            self._loading.release()

    @contextlib.contextmanager
    def _limited(self, options: ModelOptions) -> Iterator[None]:
        """Has it told when this block takes too long, which nothing can end but the end of the process."""
        files = 1 if options.shadow_path is None else 2
        error = RuntimeError(f"{options.path}: loading it in this process does not end; raise model_timeout_s")
        # A model that another process has just loaded takes no longer here, and nobody on the graph must end the node.
        least_s = 0.0 if self._current is None else _LEAST_TIMEOUT_S
        timer = threading.Timer(files * max(options.timeout_s, least_s), self._on_hang, (error,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _try_elsewhere(self, options: ModelOptions) -> Choice | None:
        """Loads the model and its shadow in another process, where a crash or a load without end costs nothing.

        Returns:
            What was found there to be the fastest way to run the model; None where it was not looked for.
        """
        found = self._isolated_load.load(options.path, options.session, options.timeout_s)
        if options.shadow_path is not None:
            self._isolated_load.load(options.shadow_path, options.shadow_session, options.timeout_s)
        return found

    def needs_load(self, options: ModelOptions) -> bool:
        """Whether another file than the one in use is asked for, or what lies at its path by now is another one.

        Not so without a model in use.
        """
        current = self._current
        if current is None:
            return False
        return options.path != current.options.path or file_at(options.path) != current.file

    @contextlib.contextmanager
    def offering(self, candidate: ActiveModel | None) -> Iterator[None]:
        """Has a loaded model at hand in this block, for `check` and `take_candidate`; frees it if it is not taken."""
        self._candidate = candidate
        try:
            yield
        finally:
            self._discard_candidate()

    def check(self, options: ModelOptions) -> None:
        """Makes sure that a model can be used so: the candidate if there is one, else the one in use.

        Raises:
            ConfigError: If it has not the class or the unit that is asked for, or was loaded with other options.
            ModelError: See `ActiveModel.check_shown`.
        """
        if self._current is None:
            return
        model = self._candidate
        if model is None and options.path == self._current.options.path:
            model = self._current
        elif model is None or not model.options.loads_as(options):
            raise ConfigError(f"{options.path}: parameters have changed while it was loaded; set model again")
        model.check_shown(options)

    def require_any(self, model: ActiveModel) -> None:
        """Makes sure that a loaded model takes the place of another one, and not of none; closes it otherwise.

        Raises:
            ConfigError: If there is no model in use any more.
        """
        if self._current is None:
            model.close()
            raise ConfigError(f"{model.options.path}: not loaded, because the node was cleaned up")

    def take_candidate(self) -> ActiveModel | None:
        """Returns the loaded model that is to be taken into use; None if there is none, or no model is in use."""
        if self._current is None:
            return None
        candidate = self._candidate
        self._candidate = None
        return candidate

    def replace(self, model: ActiveModel) -> None:
        """Takes a model into use; to be called between two frames. The one before waits for `free_replaced`."""
        before = self._current
        self._current = model
        self._version += 1
        if before is not None:
            self._replaced.append(before)
        self._tell(model)

    def forget(self) -> None:
        """Takes the model out of use; to be called when no frame is under way. It waits for `free_replaced`."""
        if self._current is not None:
            self._replaced.append(self._current)
        self._current = None

    def free_replaced(self) -> None:
        """Frees the models that are not in use any more, which may take as long as their recorders write."""
        while self._replaced:
            self._replaced.pop().close()
        return_memory()

    def give_up(self) -> None:
        """Has a load under way end with an error; may be called from another thread, as `cancel`.

        One in another process ends at once, one in this process when ONNX Runtime is done.
        """
        self._is_given_up = True
        self._isolated_load.give_up()

    def cancel(self) -> None:
        """Ends a load in another process under way, and every later one."""
        self._is_ending = True
        self._isolated_load.cancel()

    def close(self) -> None:
        """Waits for a load under way, and ends what runs in the background of every model.

        A process that ended while ONNX Runtime loads a model would be aborted; who calls this sees to it that it ends
        where that takes too long.
        """
        with self._loading:
            self._discard_candidate()
        self.forget()
        while self._replaced:
            self._replaced.pop().close()

    def _tell(self, active: ActiveModel) -> None:
        model = active.pipeline.model
        spec = model.spec
        self._logger.info(
            f"model {self._version}: {model.path} ({spec.architecture}, {spec.task} of {len(spec.class_names)}, "
            f"{spec.input.width}x{spec.input.height} {spec.input.resize_mode}) on {model.provider}"
        )
        if active.pipeline.choice:
            self._logger.info(f"taken as the fastest: {active.pipeline.choice}")
        if model.fallback:
            text = f"inference runs on {model.provider}: {model.fallback}"
            if active.options.session.is_default_choice:
                self._logger.info(text)
            else:
                self._logger.warning(text)
        if note := spec.parity.beyond(model.provider):
            self._logger.info(note)

    def _discard_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate.close()
        self._candidate = None
