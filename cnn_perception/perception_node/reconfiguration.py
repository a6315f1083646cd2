"""Changes the model and the parameters of a node that may be answering frames: all of a change, or nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from cnn_perception.errors import ConfigError, PerceptionError
from cnn_perception.perception_node import messages
from cnn_perception.perception_node.active_model import ActiveModel, ModelOptions, ModelOwner
from cnn_perception.perception_node.camera_stream import CameraStream
from cnn_perception.perception_node.frame_processor import FrameProcessor
from cnn_perception.perception_node.settings import MODELS, AllowedModels, CameraSettings, LiveSettings, Settings
from cnn_perception.ros import parameters

Parameters: TypeAlias = "Sequence[Parameter[Any]]"
"""In quotes: rclpy's classes take no types at run time before Kilted."""

_OF_MODEL = ("model", "shadow_model", "score_map_class", "unit_layer", "unit")
"""What is not changed while the first model is loaded: it might not fit, and nobody could be told."""
_PATIENCE_S = 2.0
"""How long a change waits for another one; more would keep the threads from whoever diagnoses."""


class Reconfiguration:
    """Takes parameters and models into use.

    Loading a model takes minutes, and holds up nothing; everything else is done under a lock, by one thread at a time.
    It is taken before those of `FrameProcessor`.
    """

    def __init__(
        self,
        node: parameters.ParameterNode,
        cameras: Sequence[CameraStream],
        models: ModelOwner,
        frames: FrameProcessor,
        live: LiveSettings,
    ) -> None:
        """Begins without a model.

        Args:
            node: Whose parameters these are.
            cameras: Have parameters of their own.
            models: Loads and owns the models.
            frames: Has the topics that follow from the model.
            live: The parameters in force.
        """
        self._node = node
        self._cameras = cameras
        self._models = models
        self._frames = frames
        self._live = live
        self._allowed = AllowedModels.of_start(live.settings)
        # Re-entrant, as the next is for: topics and labels of a new model declare parameters, which has all parameters
        # checked and applied again.
        self._lock = threading.RLock()
        self._is_using = False

    @property
    def alone(self) -> AbstractContextManager[object]:
        """Keeps changes of parameters and models out of a block that changes what the node consists of."""
        return self._lock

    def configure(self) -> None:
        """Loads the model that the parameters name, and takes it into use with all of them.

        Raises:
            PerceptionError: If a file or a setting cannot be used.
        """
        while not self._configure_with(self._settings()):
            pass  # another model was named meanwhile

    def _configure_with(self, settings: Settings) -> bool:
        """Returns whether the model is still the one that the parameters name; then it is in use."""
        for camera in self._cameras:
            camera.settings = parameters.read(self._node, CameraSettings, prefix=camera.prefix)
        model = self._models.load(self._options(settings))
        with self._lock:
            if self._settings().model != settings.model:
                model.close()
                return False
            try:
                self._use(settings, model)
            except BaseException:
                self._frames.forget()
                raise
        return True

    def forget(self) -> None:
        """Takes the model out of use and frees it; a load of another one is given up."""
        self._models.give_up()
        with self._lock:
            self._frames.forget()

    def reload(self) -> ActiveModel:
        """Loads the model's file again and returns it, in use; the old one stays when anything is wrong with it.

        Raises:
            PerceptionError: If a file or a setting cannot be used, or the node is cleaned up meanwhile.
        """
        settings = self._settings()
        model = self._models.load(self._options(settings))
        with self._lock:
            self._models.require_any(model)
            if self._settings().model != settings.model:
                model.close()
                raise ConfigError(f"{model.options.path}: another model was named while it was loaded; reload again")
            self._use(settings, model)
        return model

    def set_atomically(self, wanted: Parameters, set_all: Callable[[Parameters], SetParametersResult]) -> Any:  # noqa: ANN401 messages are untyped
        """Sets parameters, all or none; another model is loaded before, while everything else goes on.

        Args:
            wanted: The parameters.
            set_all: Has them checked by `check`, sets them, and has them applied by `apply`.

        Returns:
            The answer to whoever sets them.
        """
        try:
            candidate = self._load_candidate(wanted)
        except PerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not self._lock.acquire(timeout=_PATIENCE_S):
            if candidate is not None:
                candidate.close()
            return SetParametersResult(
                successful=False, reason="another change is under way; try again when it is done"
            )
        try:
            return self._set_alone(wanted, set_all, candidate)
        finally:
            self._lock.release()

    def _set_alone(
        self,
        wanted: Parameters,
        set_all: Callable[[Parameters], SetParametersResult],
        candidate: ActiveModel | None,
    ) -> Any:  # noqa: ANN401 messages are untyped
        with self._models.offering(candidate):
            names = [item.name for item in wanted if self._node.has_parameter(item.name)]
            before = self._node.get_parameters(names)
            try:
                return set_all(wanted)
            except PerceptionError as error:  # the model cannot be used after all
                set_all(before)
                return SetParametersResult(successful=False, reason=f"the old model stays: {error}")

    def check(self, changed: Parameters) -> None:
        """Makes sure that parameters can be set so.

        Raises:
            PerceptionError: If one is refused.
        """
        if self._is_using:
            return
        is_configuring = self._models.current is None and self._models.load_under_way
        if is_configuring and any(item.name in _OF_MODEL for item in changed):
            raise ConfigError("a model is being loaded; try again when that is done")
        if any(item.name == "class_labels" and item.value != self._labels() for item in changed):
            raise ConfigError("class_labels come from the model file")
        settings = self._allowed.checked(parameters.read(self._node, Settings, changed), self._renamed(changed))
        for camera in self._cameras:
            parameters.read(self._node, CameraSettings, changed, camera.prefix)
        self._models.check(self._options(settings))

    def _labels(self) -> list[str] | None:
        """Returns the names of the model in use."""
        model = self._models.current
        return messages.labels(model.pipeline.spec) if model else None

    def _renamed(self, changed: Parameters) -> list[str]:
        """Returns which of the models are to be other files."""
        of_models = [item for item in changed if item.name in MODELS]
        return [item.name for item in of_models if item.value != self._node.get_parameter(item.name).value]

    def apply(self, names: Collection[str]) -> None:
        """Takes parameters that were set into use, as far as they take effect at once.

        Args:
            names: Theirs.
        """
        if self._is_using:
            return
        before = self._live.settings
        wanted = parameters.read(self._node, Settings)
        self._live.settings = parameters.with_live(before, wanted)
        for camera in self._cameras:
            changed = parameters.read(self._node, CameraSettings, prefix=camera.prefix)
            camera.settings = parameters.with_live(camera.settings, changed)
            if changed.rectified == camera.settings.rectified:  # another one is of the next configure
                camera.note_given(names)
        self._frames.wake()
        candidate = self._models.take_candidate()
        if candidate is not None:
            self._use(wanted, candidate)
        elif (wanted.threshold, wanted.label_map_threshold) != (before.threshold, before.label_map_threshold):
            self._frames.publish_infos()

    def effect_to_come(self, names: Collection[str]) -> str:
        """Returns which of these parameters, just set, take effect only later, and when, or not with this model."""
        model = self._models.current
        told = parameters.to_come(self._node, self._live.settings, names, " or reload_model" if model else "")
        for camera in self._cameras:
            told += parameters.to_come(self._node, camera.settings, names, prefix=camera.prefix)
        return "; ".join(told + (model.unused(names) if model else []))

    def _settings(self, changed: Parameters = ()) -> Settings:
        return self._allowed.checked(parameters.read(self._node, Settings, changed))

    def _options(self, settings: Settings) -> ModelOptions:
        return settings.model_options(any(camera.regions is not None for camera in self._cameras))

    def _load_candidate(self, wanted: Parameters) -> ActiveModel | None:
        """Returns the model that parameters ask for; None if it is the one in use, or they are refused anyway."""
        if all(item.name != "model" for item in wanted):
            return None
        try:
            options = self._options(self._settings([self._node.as_declared(item) for item in wanted]))
        except PerceptionError:
            return None
        return self._models.load(options) if self._models.needs_load(options) else None

    def _use(self, settings: Settings, model: ActiveModel) -> None:
        """Takes a verified model into use; the parameter is the one that `database_location` of ~/vision_info names.

        Args:
            settings: With which it was loaded; those that are live may have changed meanwhile.
            model: The model; closed if it cannot be used.

        Raises:
            PerceptionError: If it has not the class or the unit that is asked for by now, or its topics cannot be.
        """
        before = self._live.settings
        self._live.settings = parameters.with_live(settings, parameters.read(self._node, Settings))
        self._is_using = True
        try:
            model.check_shown(self._options(self._live.settings))
            self._frames.use(model)
            description = "Names of the model's classes or numbers, in the order of its logits."
            parameters.redeclare(self._node, "class_labels", messages.labels(model.pipeline.spec), description)
        except BaseException:
            self._live.settings = before
            model.close()
            raise
        finally:
            self._is_using = False
