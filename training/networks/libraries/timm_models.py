"""The image classifiers of timm, as `timm:NAME`; the library is imported when one of its networks is asked for."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from cnn_perception.errors import ConfigError, one_line
from cnn_perception.model.spec import InputSpec, Interpolation, ResizeMode
from training.networks.fitting import LAST_LAYER, classifier_name
from training.networks.libraries.library import Library, Order, Published, Size
from training.networks.state_dicts import best, shapes_of

PREFIX = "timm:"
_REFUSED = (AssertionError, AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError)
"""What timm's networks raise whose settings do not fit together."""
_RESIZE_MODES: dict[str, ResizeMode] = {"center": "crop", "squash": "squash", "border": "letterbox"}
"""Source: timm.data.transforms_factory.transforms_imagenet_eval, `crop_mode`."""


def _timm(name: str) -> Any:  # noqa: ANN401 - its types are not strict
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(f"--backbone {name}: needs timm ({one_line(error, 80)}): pip install 'timm>=1.0'") from None


def _check(name: str) -> None:
    timm = _timm(name)
    own = name.removeprefix(PREFIX)
    architecture, _, tag = own.partition(".")
    known = timm.list_models()
    if architecture not in known:
        close = difflib.get_close_matches(architecture, known, n=3)
        hint = f"did you mean {' or '.join(PREFIX + one for one in close)}?" if close else "see timm.list_models()"
        raise ConfigError(f"backbone {name!r} is no network of timm {timm.__version__}; {hint}")
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag and own not in tags:
        has = f"there are {', '.join(PREFIX + one for one in tags[:5])}" if tags else "it has none"
        raise ConfigError(f"backbone {name!r}: timm {timm.__version__} has no weights of that name; {has}")


def _build(order: Order) -> nn.Module:
    model = _made(order.name, num_classes=order.classes, size=order.size)
    last = _last_layer(model, order.name)
    if last is not None:
        setattr(model, LAST_LAYER, last)
    if order.size:
        _require_whole_patches(model, order.name, order.size)
    return model


def _made(name: str, *, size: Size | None, **options: Any) -> nn.Module:  # noqa: ANN401
    """Builds a network, of an image size where it depends on one."""
    make = functools.partial(_timm(name).create_model, name.removeprefix(PREFIX), **options)
    try:
        if size is not None:
            try:
                return cast("nn.Module", make(img_size=size))
            except TypeError as error:  # convolutional ones do not know the setting
                if "img_size" not in str(error):
                    raise
        return cast("nn.Module", make())
    except _REFUSED as error:
        at = f" for {size[0]}x{size[1]} pixels" if size else ""
        raise ConfigError(
            f"{name}: timm cannot build it{at} ({one_line(error, 160)}); change the input size or take another"
        ) from None


def _last_layer(model: nn.Module, name: str) -> str | None:
    """Returns the name of the last layer where timm says it; None where it must be found.

    Raises:
        ConfigError: If there are two, or none.
    """
    getter: Any = getattr(model, "get_classifier", None)
    classifier: Any = getter() if getter is not None else None
    if isinstance(classifier, tuple | list):
        raise ConfigError(
            f"{name}: has {len(classifier)} last layers whose answers are averaged (distillation), and none to learn; "
            "take the network of the same family without"
        )
    if isinstance(classifier, nn.Identity):
        raise ConfigError(f"{name}: has no classifier, only features; take a classifier of timm")
    inner = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear)] if classifier is not None else []
    last = classifier if isinstance(classifier, nn.Linear | nn.Conv2d) else inner[-1] if inner else None
    return next((key for key, layer in model.named_modules() if layer is last), None) if last is not None else None


def _require_whole_patches(model: nn.Module, name: str, size: Size) -> None:
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    patch = (patch, patch) if isinstance(patch, int) else patch
    if not isinstance(patch, tuple) or len(patch) != 2 or not any(s % p for s, p in zip(size, patch, strict=True)):
        return
    fitting = "x".join(str(max(round(s / p), 1) * p) for s, p in zip(size, patch, strict=True))
    raise ConfigError(
        f"{name}: cuts images into patches of {patch[0]}x{patch[1]} pixels, of which {size[0]}x{size[1]} are no "
        f"multiple; give --input-size {fitting}"
    )


def _settings(name: str) -> Any:  # noqa: ANN401
    """Returns what timm knows of a network's weights, its `PretrainedCfg`."""
    _check(name)
    return importlib.import_module("timm").get_pretrained_cfg(name.removeprefix(PREFIX))


def input_of(name: str) -> InputSpec:
    """Returns the preprocessing that timm gives for the weights of a network."""
    known = _settings(name)
    _, rows, columns = known.input_size
    mode = _RESIZE_MODES.get(known.crop_mode or "center", "crop")
    interpolation: Interpolation = "bicubic" if known.interpolation == "bicubic" else "bilinear"
    fraction = float(known.crop_pct or 0.875) if mode == "crop" else 1.0
    return InputSpec(rows, columns, mode, fraction, interpolation, tuple(known.mean), tuple(known.std))


def _expects(name: str, weights: str) -> InputSpec | None:
    """Of random weights the size alone, which many transformers are built for, is left to the user."""
    return None if weights == "none" else input_of(name)


def _published(name: str) -> Published:
    known = _settings(name)
    if not known.has_weights:
        raise ConfigError(f"timm publishes no weights for {name.removeprefix(PREFIX)}; give a path or none")
    title = f"timm {known.architecture}.{known.tag}" if known.tag else f"timm {name.removeprefix(PREFIX)}"
    return Published(title, input_of(name), _classes(name, known), functools.partial(_download, name, title))


def _classes(name: str, known: Any) -> tuple[str, ...]:  # noqa: ANN401
    data = importlib.import_module("timm.data")
    with_settings = type("Settings", (), {"num_classes": known.num_classes, "pretrained_cfg": known.to_dict()})
    subset = data.infer_imagenet_subset(with_settings) if known.num_classes else None
    if subset is None:
        return tuple(f"class {index}" for index in range(known.num_classes or 0))
    return tuple(data.ImageNetInfo(subset).label_descriptions())


def _download(name: str, title: str) -> Mapping[str, Tensor]:
    file = _cached_file(_settings(name))
    given = {"pretrained_cfg_overlay": {"file": file}} if file else {}  # else it asks the hub for a newer one
    if not file and not sys.stderr.isatty():  # the hub's bar is for terminals alone
        print(f"downloading {title}", file=sys.stderr, flush=True)
    try:
        model = _timm(name).create_model(name.removeprefix(PREFIX), pretrained=True, **given)
    except Exception as error:  # the hub's client raises what its version and its transport raise
        reason = one_line(error, 160)
        raise ConfigError(f"cannot download {title} ({reason}); give the path of a weights file instead") from None
    state: Mapping[str, Tensor] = model.state_dict()
    return state


def _has_downloaded(name: str) -> bool:
    try:
        return _cached_file(_settings(name)) is not None
    except ConfigError:  # no timm, or no such network
        return False


def _downloaded() -> list[str]:
    """Returns the names, with timm's tags, whose weights lie in the cache of the Hugging Face hub, the smallest first.

    timm takes seconds to import: that is done where anything lies there alone.
    """
    try:
        cache = Path(importlib.import_module("huggingface_hub.constants").HF_HUB_CACHE)
        if next(cache.glob("models--*"), None) is None:
            return []
        timm = importlib.import_module("timm")
    except ImportError:
        return []
    files = {name: _cached_file(timm.get_pretrained_cfg(name)) for name in timm.list_pretrained()}
    sizes = {name: Path(file).stat().st_size for name, file in files.items() if file}
    return [PREFIX + name for name in sorted(sizes, key=lambda name: sizes[name])]


_SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
"""What timm looks for first. Source: timm.models._hub._get_safe_alternatives."""


def _cached_file(known: Any) -> str | None:  # noqa: ANN401
    """Returns the file that timm would load, where it lies in the cache of the hub; None where it does not."""
    if known is None or not known.hf_hub_id:
        return None
    repository, _, revision = known.hf_hub_id.partition("@")
    named = known.hf_hub_filename or "pytorch_model.bin"
    find = importlib.import_module("huggingface_hub").try_to_load_from_cache
    found = [
        find(repository, name, revision=revision or None)
        for name in (_SAFE.get(named, f"{Path(named).stem}.safetensors"), named)
    ]
    return next((path for path in found if isinstance(path, str)), None)


def _converted(model: nn.Module, content: object) -> object:
    """Returns the tensors of a file as timm reads them: authors' own names, and positions of another image size.

    Source: `checkpoint_filter_fn` of the module of each family, which timm applies to all weights that it loads.
    """
    own = shapes_of(model.state_dict())
    found = best(content, own)
    convert = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None or found is None:
        return content
    last = classifier_name(model)
    same = shapes_of(found.tensors)
    if all(same.get(key) == shape for key, shape in own.items() if not key.startswith(last + ".")):
        return content
    try:
        converted = convert(dict(found.tensors), model)
    except _REFUSED:  # of another network: the comparison says which tensors do not fit
        return content
    return content if len(converted) < len(found.tensors) // 2 else dict(converted)


TIMM = Library(
    owns=lambda name: name.startswith(PREFIX),
    check=_check,
    build=_build,
    published=_published,
    input_of=input_of,
    expects=_expects,
    converted=_converted,
    has_downloaded=_has_downloaded,
    downloaded=_downloaded,
)
