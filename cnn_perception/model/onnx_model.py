"""A model file, loaded, verified and ready to run on the execution provider that is really in use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cnn_perception.errors import FrameError, ModelError, one_line
from cnn_perception.model.gallery import Gallery, read_gallery
from cnn_perception.model.onnx_file import OnnxFile, read_onnx_file
from cnn_perception.model.outputs import FloatArray, Outputs
from cnn_perception.model.providers import DEFAULT_PROVIDERS, INPUT_NAME, TENSORRT, SessionOptions
from cnn_perception.model.session import ORT_ERRORS, open_session, reason_of, shapes_of
from cnn_perception.model.spec import METADATA_KEY, ModelSpec, ScoreMapSpec
from cnn_perception.model.subgraph import Computed, computed, subgraph

__all__ = ["DEFAULT_PROVIDERS", "INPUT_NAME", "OnnxModel", "SessionOptions"]


def _ignore(_: object) -> None:
    pass


class OnnxModel:
    """One ONNX file in memory, verified against its own spec and warmed up.

    Attributes:
        path: The file it came from.
        sha256: Hex digest of the file's bytes.
        spec: The description found in the file.
        gallery: Its reference images; None without any.
        provider: The execution provider really in use: the one that runs most of the graph.
        fallback: Why it is not the preferred one, in one line; empty when it is.
        placement: Which provider runs how many nodes of the graph, in one line; see `session.ProviderSession`.
    """

    def __init__(self, path: Path, options: SessionOptions | None = None, log: Callable[[str], None] = _ignore) -> None:
        """Loads, verifies and warms up.

        Args:
            path: The model file.
            options: How it is to be run.
            log: Is told what takes minutes, before it does: TensorRT's engine.

        Raises:
            ModelError: If the file cannot be used; names the file, what is wrong and what to do.
            ConfigError: If a GPU is required and none runs it.
        """
        options = options or SessionOptions()
        file = read_onnx_file(path)
        self.path = path
        self.sha256 = file.sha256
        self.spec = read_spec(path, file.metadata)
        self.gallery = _read_gallery(path, file.metadata, self.spec)
        self._map_session: Any = None
        self._inner_session: tuple[str, Any] = ("", None)  # by the tensor that it computes
        # By which the two ways to cancel reach a run under way.
        self._run_options = onnxruntime.RunOptions()
        self._view_run_options = onnxruntime.RunOptions()

        def warm_up(session: Any, batch_sizes: Sequence[int]) -> None:  # noqa: ANN401
            self._session = session
            self._outputs = _verify_graph(path, session, self.spec)
            for batch_size in batch_sizes:
                self._warm_up(batch_size)

        self._options = options
        # The score map has a session of its own, once it is asked for: ONNX Runtime would compute it for every frame.
        answers = _with_outputs(file, {"logits", "embedding", "activation"})
        opened = open_session(answers, self.spec, options, warm_up, log)
        self.provider = opened.provider
        self.fallback = opened.fallback
        self.placement = opened.placement

    def run(self, images: FloatArray, activation: bool = True) -> list[Outputs]:
        """Runs one batch.

        Args:
            images: (N, 3, height, width) float32, C-contiguous, from `preprocess`.
            activation: Whether the activation maps are wanted. They are computed anyway, at next to no cost (ONNX
                Runtime runs the whole graph, see `subgraph`), but not copied.

        Returns:
            N outputs, in order.

        Raises:
            FrameError: If the provider fails on this batch.
        """
        names = self._outputs if activation else [name for name in self._outputs if name != "activation"]
        try:
            found = self._compute(names, images)
        except ORT_ERRORS as error:  # such as a GPU out of memory: this frame is lost, the next may not be
            raise FrameError("inference", f"ONNX Runtime failed: {reason_of(error)}") from None
        return _split(found, len(images))

    def cancel(self) -> None:
        """Ends what runs in another thread, and every later run, with a FrameError."""
        self._run_options.terminate = True
        self.cancel_views()

    def cancel_views(self) -> None:
        """Ends a `score_map` or `inner` under way in another thread, and every later one, with a FrameError."""
        self._view_run_options.terminate = True

    def score_map_place(self) -> ScoreMapSpec:
        """Returns where in an image the cells of the score map lie.

        Raises:
            ModelError: If the model has no score map.
        """
        if self.spec.score_map is None and self.spec.training.is_adopted:
            raise ModelError(f"{self.path}: has no score map: none is made of adopted graphs")
        if self.spec.score_map is None and self.spec.training.is_ensemble:
            raise ModelError(f"{self.path}: has no score map: none is made of several networks in one file")
        if self.spec.score_map is None:
            what = "its network is not convolutional throughout, or its export said why not"
            raise ModelError(f"{self.path}: has no score map: {what}")
        return self.spec.score_map

    def score_map(self, image: FloatArray) -> FloatArray:
        """Runs the classifier at every place of an image; the first call loads the file once more.

        Args:
            image: (1, 3, height, width) float32, C-contiguous, of any size from the model's own on.

        Returns:
            (K, rows, columns) float32 logits, see `spec.ScoreMapSpec`.

        Raises:
            ModelError: If the model has no score map, its file has been replaced since it was loaded, or its map takes
                too much memory even of a small image.
            FrameError: If the provider fails on this image.
        """
        self.score_map_place()
        if self._map_session is None:
            self._map_session = self._open_beside({"score_map"}, set())
        return self._run_beside(self._map_session, "score_map", image, "score_map")

    def inner_shapes(self) -> list[tuple[Computed, tuple[int, ...]]]:
        """Returns the tensors of floating-point numbers between image and logits, with the shape of one image's.

        They are in the order of computation. The file is loaded once more, for as long as the call takes.

        Raises:
            ModelError: If its file has been replaced since it was loaded, or ONNX Runtime cannot say their shapes.
        """
        file = self._unchanged_file()
        size = self.spec.input
        try:
            between = computed(file.data, INPUT_NAME, "logits")
            data = subgraph(file.data, set(), {one.name for one in between})
            shapes = shapes_of(data, self._session, (1, 3, size.height, size.width))
        except ORT_ERRORS as error:
            raise ModelError(f"{self.path}: its layers cannot be told ({reason_of(error)}); export it again") from None
        return [(one, shapes[one.name]) for one in between if one.name in shapes]

    def inner(self, image: FloatArray, tensor: str) -> FloatArray:
        """Computes a tensor of `inner_shapes`; the first call for each loads the file once more.

        Args:
            image: (1, 3, height, width) float32, C-contiguous, of the model's own size.
            tensor: Its name.

        Returns:
            The tensor of the image, float32, without the axis of the batch.

        Raises:
            ModelError: If its file has been replaced since it was loaded.
            FrameError: If the provider fails on this image.
        """
        name, session = self._inner_session
        if name != tensor:
            session = self._open_beside(set(), {tensor})
            self._inner_session = (tensor, session)
        return self._run_beside(session, tensor, image, "unit_activation")

    def _run_beside(self, session: Any, output: str, image: FloatArray, reason: str) -> FloatArray:  # noqa: ANN401
        try:
            (found,) = session.run([output], {INPUT_NAME: image}, self._view_run_options)
        except ORT_ERRORS as error:
            raise FrameError(reason, f"ONNX Runtime failed: {reason_of(error)}") from None
        values: FloatArray = np.asarray(found[0], np.float32)  # of half precision, too
        return values

    def _open_beside(self, outputs: Set[str], tensors: Set[str]) -> Any:  # noqa: ANN401
        """Returns a session that computes these outputs and inner tensors alone."""
        file = _with_outputs(self._unchanged_file(), outputs, tensors)
        # TensorRT would build an engine, for minutes, at each new size of image.
        others = [name for name in self._options.provider_order if name != TENSORRT]
        threads = self._options.score_map_threads or self._options.intra_op_threads
        options = dataclasses.replace(self._options, providers=others, require_gpu=False, intra_op_threads=threads)
        return open_session(file, self.spec, options, self._warm_up_map, _ignore).session

    def _warm_up_map(self, session: Any, _batch_sizes: Sequence[int]) -> None:  # noqa: ANN401
        """Computes what viewers want of an image of the model's own size."""
        size = self.spec.input
        image = np.zeros((1, 3, size.height, size.width), np.float32)
        session.run(None, {INPUT_NAME: image})

    def _unchanged_file(self) -> OnnxFile:
        file = read_onnx_file(self.path)
        if file.sha256 != self.sha256:
            raise ModelError(f"{self.path}: has been replaced since it was loaded; reload the model")
        return file

    def _compute(self, names: Sequence[str], images: FloatArray) -> dict[str, FloatArray]:
        """Returns the outputs called `names`; raises ONNX Runtime's own errors."""
        # Memory bound on the device (I/O binding) was 3 to 9 % slower on a GPU.
        values = self._session.run(names, {INPUT_NAME: images}, self._run_options)
        return dict(zip(names, values, strict=True))

    def _warm_up(self, batch_size: int) -> None:
        """Runs a batch of zeros and checks the shapes of what comes out against the spec."""
        size = self.spec.input
        images = np.zeros((batch_size, 3, size.height, size.width), np.float32)
        outputs = _split(self._compute(self._outputs, images), batch_size)
        logits = outputs[0].logits
        if len(outputs) != batch_size or logits.shape != (len(self.spec.class_names),):
            raise ModelError(f"{self.path}: logits are {logits.shape}, not one per name; export it again")
        self._check_embedding(len(outputs[0].embedding))
        grid = self.spec.activation
        found = outputs[0].activation
        if grid is not None and (found is None or found.shape != (grid.rows, grid.columns)):
            raise ModelError(f"{self.path}: the activation map is not {grid.rows}x{grid.columns}; export it again")

    def _check_embedding(self, dimensions: int) -> None:
        """Checks the numbers of an embedding against the unknown rule and the gallery."""
        lengths = {len(centre) for centre in self.spec.unknown.centres} if self.spec.unknown else set()
        if lengths - {dimensions}:
            raise ModelError(
                f"{self.path}: its unknown rule is for embeddings of {lengths.pop()} numbers, "
                f"the graph has {dimensions}; export it again"
            )
        if self.gallery is not None and self.gallery.dimensions != dimensions:
            raise ModelError(
                f"{self.path}: its gallery has embeddings of {self.gallery.dimensions} numbers, the graph gives "
                f"{dimensions}; export it again"
            )


def _split(found: Mapping[str, FloatArray], count: int) -> list[Outputs]:
    """Returns the outputs of a batch image by image."""
    maps = found.get("activation")
    outputs = []
    for index in range(count):
        activation = None if maps is None else maps[index]
        outputs.append(Outputs(found["logits"][index], activation, found["embedding"][index]))
    return outputs


def _with_outputs(file: OnnxFile, outputs: Set[str], tensors: Set[str] = frozenset()) -> OnnxFile:
    try:
        return dataclasses.replace(file, data=subgraph(file.data, outputs, tensors))
    except ValueError as error:
        raise ModelError(f"{file.path}: its graph is damaged ({one_line(error)}); export it again") from None


_MAKERS = "`python -m training.export`, or of another program's file with `python -m training.adopt`"


def read_spec(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    """Returns the description of a model file from its metadata.

    Raises:
        ModelError: If there is none, or it is damaged; names the file.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{path}: carries no {METADATA_KEY}; make it with {_MAKERS}")
    try:
        return ModelSpec.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {one_line(error)}") from None


def _read_gallery(path: Path, metadata: Mapping[str, str], spec: ModelSpec) -> Gallery | None:
    try:
        return read_gallery(spec.gallery, metadata)
    except ModelError as error:
        raise ModelError(f"{path}: {one_line(error)}") from None


def _verify_graph(path: Path, session: Any, spec: ModelSpec) -> list[str]:  # noqa: ANN401
    """Returns the names of the outputs, once names, types and shapes of the graph agree with the spec."""
    inputs = session.get_inputs()
    wanted = [3, "height", "width"] if spec.score_map else [3, spec.input.height, spec.input.width]
    found = [(i.name, i.type, list(i.shape[1:])) for i in inputs]
    if found != [(INPUT_NAME, "tensor(float)", wanted)]:
        raise ModelError(
            f"{path}: its input is {found}, its spec says {INPUT_NAME} float (N, {wanted}); export it again"
        )
    outputs = {o.name: o for o in session.get_outputs()}
    names = ["logits", "embedding"] + (["activation"] if spec.activation is not None else [])
    absent = [name for name in names if name not in outputs or outputs[name].type != "tensor(float)"]
    if absent:
        raise ModelError(f"{path}: has no float output {absent}, only {sorted(outputs)}; export it again")
    classes = outputs["logits"].shape[-1]
    if isinstance(classes, int) and classes != len(spec.class_names):
        raise ModelError(f"{path}: has {classes} logits but {len(spec.class_names)} class names; export it again")
    return names
