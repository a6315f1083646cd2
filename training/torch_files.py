"""Files of tensors by torch and safetensors, read without importing or running anything that is pickled in them.

Training programs leave more than weights in their files: settings, numbers of NumPy, paths, whole networks. torch
refuses all of that (`weights_only=True`) but for what is declared safe. So each name in the file is declared to be a
stand-in here, which takes what it is given and does nothing: what the name means is never looked up.
"""

from __future__ import annotations

import _compat_pickle
import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file

from cnn_perception.errors import ConfigError, ModelError
from cnn_perception.mistaken_files import what_instead
from cnn_perception.model.onnx_file import read_onnx_file

CURE = "in its own program, save only the weights: torch.save(model.state_dict(), FILE)"

_RUNNING_MODULES = frozenset({
    "_io", "_pickle", "_posixsubprocess", "cloudpickle", "code", "codeop", "commands", "ctypes", "dill", "importlib",
    "io", "marshal", "nt", "os", "pickle", "pip", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys",
    "urllib", "webbrowser",
})  # fmt: skip
"""What these hold does something when it is called. It would do nothing here, but such a file is none to work with."""
_HARMLESS_BUILTINS = frozenset({
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object", "range",
    "set", "slice", "str", "tuple", "type",
})  # fmt: skip
_BEGINNINGS = (
    (b"\x89HDF", "is an HDF5 file, as Keras writes them; save the weights with torch"),
    (b"\x93NUMPY", "is an array of NumPy; save the weights with torch"),
    (b"\x1f\x8b", "is a gzip archive; unpack it"),
    (b"\xfd7zXZ", "is an xz archive; unpack it"),
    (b"GGUF", "is a GGUF file; save the weights with torch"),
    (b"{", "is JSON text, not weights; name the file of weights beside it"),
)
"""How files begin that are named as weights by mistake, and what they are."""
_DEEPEST = 5
"""Levels of dictionaries in which settings are looked for."""
_SAFETENSORS_HEADER = 100_000_000
"""Most bytes of a header of safetensors. Source: huggingface/safetensors, README, "Format"."""


class StandIn:
    """Takes the place of any object in a file: it keeps its attributes, and does nothing."""

    def __new__(cls, *_: object) -> StandIn:
        """Makes one of whatever the object is made of."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        """Forgets what the object is made of."""

    def __setstate__(self, state: object) -> None:
        """Keeps attributes, and forgets anything else."""
        if isinstance(state, dict) and all(isinstance(name, str) for name in state):
            self.__dict__.update(state)


class _Mapping:
    """Takes the place of a kind of dictionary."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def _list(*_: object) -> list[Any]:
    """Takes the place of a kind of list that is filled later."""
    return []


_FILLED: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": _Mapping,
    "collections.deque": _list,
}


def read_tensors(path: Path) -> Any:  # noqa: ANN401 - whatever is in the file
    """Returns what a file of torch or safetensors holds, with tensors on the CPU and stand-ins for other objects.

    Args:
        path: The file; what it is is told by its content, not by its name.

    Raises:
        ConfigError: If it cannot be read, is of another kind, or names what runs code; says which.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such weights file; give imagenet, none or a path") from None
    except ConfigError:
        raise
    except Exception as error:  # torch runs the file's instructions, of which damaged ones fail in any way
        if what := what_else(path):
            raise ConfigError(f"{path}: {what}") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{path}: not a file of plain tensors, or a damaged one ({reason[:120]}); give a .pth or .safetensors"
        ) from None


def what_else(path: Path) -> str | None:
    """Returns what a file is that holds no tensors for torch, and what to do; None where that cannot be told."""
    if path.is_dir():
        return "is a folder, not a file of plain tensors; name the file in it"
    try:
        begin = _beginning(path)
    except OSError:
        return None
    if not begin:
        return "is empty, not a file of plain tensors; fetch it again"
    if (what := next((what for start, what in _BEGINNINGS if begin.startswith(start)), None)) is not None:
        return what
    if what := what_instead(begin, "file"):
        return what
    if begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "is a web page, not a file of plain tensors; download the file itself"
    if _is_archive(path):
        return _what_archive(path)
    if begin.startswith(b"PK\x03\x04"):
        return "is cut off: an archive of torch without its end; fetch it again"
    if not _is_onnx(path):
        return None
    return (
        "is an ONNX model, which cannot be trained; give the weights that it was made from, or make a model file of "
        "it with training.adopt"
    )


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive that can be read; the library raises for those of several disks."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def require_unpacked(path: Path) -> None:
    """Refuses a torch file whose tensors are compressed, which torch never does: megabytes could become gigabytes.

    Raises:
        ValueError: If they are.
        OSError: If the file cannot be read.
    """
    if not _is_archive(path):  # of torch before 1.6, which compressed nothing either
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from None
    if packed or size > path.stat().st_size:
        raise ValueError("its tensors are compressed, or overlap")


def attributes(value: object) -> Mapping[Any, Any]:
    """Returns what a dictionary holds, or an object's attributes by name; nothing of anything else."""
    if isinstance(value, Mapping):
        return {**vars(value), **value} if isinstance(value, OrderedDict) else value
    return vars(value) if isinstance(value, StandIn) else {}


def mappings(content: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yields the dictionaries in a file's content, and objects as those of their attributes, the outer ones first.

    Yields:
        The keys that lead to one, with dots between them, and what it holds.
    """
    level: list[tuple[str, object]] = [("", content)]
    seen = {id(content)}
    for _ in range(_DEEPEST):
        inner: list[tuple[str, object]] = []
        for place, value in level:
            found = attributes(value)
            yield place, found
            for key, one in found.items():
                if isinstance(one, Mapping | StandIn) and id(one) not in seen:
                    seen.add(id(one))  # a file can nest a dictionary in itself
                    inner.append((f"{place}.{key}" if place else str(key), one))
        level = inner


def _read(path: Path) -> Any:  # noqa: ANN401
    if _is_safetensors(path):
        return load_file(path)
    if _is_archive(path) and (what := _what_archive(path)):
        raise ConfigError(f"{path}: {what}")
    require_unpacked(path)
    names = _names(path)
    if running := sorted(filter(_runs, names)):
        raise ConfigError(
            f"{path}: not a file of plain tensors: would run {running[0]}, which is refused; where you trust the file, "
            f"{CURE}"
        )
    try:
        return _load(path, names, StandIn)
    except (pickle.UnpicklingError, TypeError, AttributeError, KeyError, IndexError):
        pass  # the file fills one of its objects as a dictionary
    try:
        return _load(path, names, _Mapping)
    except (pickle.UnpicklingError, TypeError, AttributeError, KeyError, IndexError):
        foreign = sorted(name for name in names if not name.startswith(("torch.", "collections.", "numpy.")))
        why = f"holds objects that cannot be read without running their code ({', '.join(foreign[:3])})"
        why = why if foreign else "is pickled in another way than torch does by itself"
        raise ConfigError(f"{path}: not a file of plain tensors: {why}; {CURE}") from None


def _load(path: Path, names: set[str], usual: Callable[..., Any]) -> Any:  # noqa: ANN401
    """Reads a file of torch with a stand-in for every name that torch itself does not take for safe."""
    safe = [
        (_FILLED.get(name, StandIn if name.startswith(("numpy.", "functools.")) else usual), name) for name in names
    ]
    declared: list[Any] = [*safe, StandIn, _Mapping]
    with path.open("rb") as file, torch.serialization.safe_globals(declared), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of protocols, to those who wrote the file
        # not by its path: torch itself would go by the suffix
        return torch.load(file, map_location="cpu", weights_only=True)


def _names(path: Path) -> set[str]:
    """Returns the full names of all classes and functions that a file of torch mentions."""
    if not _is_archive(path):  # of torch before 1.6: four pickles, then the numbers
        with path.open("rb") as file:
            return {name for _ in range(4) for name in _named_in(file)}
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        with archive.open(pickles[0]) as file:
            return _named_in(file)  # type: ignore[arg-type]  # what is opened in an archive is read only


def _named_in(file: BinaryIO) -> set[str]:
    """Returns the names in the next pickle of a file, as torch understands them."""
    found = set()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            found.add(f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}")
    return found


def _runs(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module == "builtins":
        return last not in _HARMLESS_BUILTINS
    return name.partition(".")[0] in _RUNNING_MODULES


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _is_safetensors(path: Path) -> bool:
    begin = _beginning(path)
    return 2 <= int.from_bytes(begin[:8], "little") <= _SAFETENSORS_HEADER and begin[8:9] == b"{"


def _what_archive(path: Path) -> str | None:
    """Returns what an archive is if it is none of torch.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):  # NotImplementedError: of a later format
        return "is a damaged archive, not a file of plain tensors; fetch it again"
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript program; save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
    if not any(name.endswith("data.pkl") for name in names):
        return "is an archive without tensors of torch; unpack it, and name the file of weights in it"
    return None


def _is_onnx(path: Path) -> bool:
    try:
        return bool(read_onnx_file(path).sha256)
    except ModelError:
        return False
