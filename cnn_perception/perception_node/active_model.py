"""Everything that is there while a model is in use: the line's pipeline, and what runs beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from cnn_perception.background.recorder import Recorder
from cnn_perception.background.selection import Origin
from cnn_perception.background.shadow import Shadow
from cnn_perception.errors import PerceptionError
from cnn_perception.image.messages import EncodedFile, EncodedImage, RgbImage
from cnn_perception.perception_node.settings import Settings
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.pipeline.postprocess import Prediction

_CLOSE_S = 1.0
"""How long a frame under way may take to be written; a hanging disk does not hold the node up for longer."""


@dataclass(frozen=True, eq=False)
class ActiveModel:
    """A model in use.

    Attributes:
        settings: The parameters that it was loaded with.
        pipeline: What answers the frames.
        shadow: A second model that is compared with it; None without one.
        recorder: What keeps the frames that it is unsure of; None where none are kept.
    """

    settings: Settings
    pipeline: Pipeline
    shadow: Shadow | None
    recorder: Recorder | None

    @classmethod
    def load(
        cls,
        settings: Settings,
        log: Callable[[str], None],
        warn: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> ActiveModel:
        """Loads, verifies and warms up the model and its shadow.

        Args:
            settings: The parameters.
            log: Is told what takes minutes, before it does.
            warn: Is told, from another thread, why no frames are recorded.
            on_failure: Called in another thread with a defect of what runs beside the line.

        Raises:
            PerceptionError: If a file or a setting cannot be used.
        """
        options = settings.session_options()
        pipeline = Pipeline.load(settings.model_path, options, log)
        kept = settings.recorder()
        recorder = Recorder(kept, pipeline.spec, pipeline.model.sha256, warn, on_failure) if kept else None
        loaded = cls(settings, pipeline, None, recorder)
        if settings.shadow_path is None:
            return loaded
        try:
            # One thread, of low priority: it may lag behind the model that it is compared with.
            alone = dataclasses.replace(options, intra_op_threads=1, warm_up_batches=(1,), require_gpu=False)
            shadow = Shadow(Pipeline.load(settings.shadow_path, alone, log), pipeline.spec, on_failure)
        except PerceptionError:
            loaded.close()
            raise
        return dataclasses.replace(loaded, shadow=shadow)

    @property
    def is_watched(self) -> bool:
        """Whether frames are answered even where nobody subscribes to the answers."""
        return self.shadow is not None or self.recorder is not None

    def show(
        self, encoded: EncodedImage | EncodedFile, image: RgbImage, prediction: Prediction, origin: Origin
    ) -> None:
        """Lets the shadow and the recorder see an answered frame; never waits for them."""
        if self.shadow is not None:
            self.shadow.offer(image, prediction, origin.camera, origin.stamp_ns)
        if self.recorder is not None:
            self.recorder.offer(encoded, image, prediction, origin)

    def close(self) -> None:
        """Ends what runs beside the line."""
        for one in (self.shadow, self.recorder):
            if one is not None:
                one.close(_CLOSE_S)
