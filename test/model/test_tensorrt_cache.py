"""Owns: TensorRT's engines on disk. TensorRT itself is played by a function that writes a file."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from paths import ROOT

from cnn_perception.model.nvidia import Gpu
from cnn_perception.model.tensorrt_cache import folder_of, start_with_engines

GPU = Gpu("NVIDIA GeForce RTX 4090/D", "8.9", "13.0")
ENGINE = b"a whole engine"


class Engines:
    """Builds where there is no engine, reads where there is one, and fails on half a one, as TensorRT does."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.builds = 0
        self.said: list[str] = []
        self._before = before

    def start(self, folder: Path | None) -> str:
        if folder is None:
            return "no cache"
        engine = folder / "graph_sm89.engine"
        if engine.exists():
            if engine.read_bytes() != ENGINE:
                raise RuntimeError("could not deserialize engine from cache")
            return "read"
        self.builds += 1
        self._before()
        engine.write_bytes(ENGINE)
        (folder / "cache_sm89.timing").write_bytes(b"timings")
        return "built"

    def use(self, folder: Path) -> str:
        return start_with_engines(folder, self.start, (RuntimeError,), self.said.append)


BUILD_HALF_AND_DIE = """
import os, sys
from pathlib import Path
from cnn_perception.model.tensorrt_cache import start_with_engines

def die(folder):
    (folder / "graph_sm89.engine").write_bytes(sys.argv[2].encode())
    os._exit(9)

start_with_engines(Path(sys.argv[1]), die, (RuntimeError,), lambda _: None)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "cache", GPU, "onnxruntime1.31.1_tensorrt101303", "abc_batch4")


def test_folder_tells_gpu_versions_and_model_apart_and_is_a_plain_name(tmp_path: Path, folder: Path):
    machine = "onnxruntime1.31.1_tensorrt101303_cuda13.0_NVIDIA-GeForce-RTX-4090-D_sm8.9"
    assert folder == tmp_path / "cache" / machine / "abc_batch4"


def test_engine_is_built_once_and_said_before(folder: Path):
    engines = Engines()
    engines._before = lambda: engines.said.append("building")
    assert [engines.use(folder), engines.use(folder)] == ["built", "read"]
    assert engines.builds == 1
    assert [engines.said[0][:30], engines.said[1]] == ["TensorRT builds its engine, wh", "building"]
    assert str(folder) in engines.said[0]
    assert len(engines.said) == 2


def test_engine_of_a_killed_build_is_never_read(folder: Path):
    command = [sys.executable, "-c", BUILD_HALF_AND_DIE, str(folder), ENGINE[:5].decode()]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 9
    assert (folder / "graph_sm89.engine").read_bytes() == ENGINE[:5]
    engines = Engines()
    assert engines.use(folder) == "built"
    assert engines.use(folder) == "read"


def test_engine_that_got_damaged_is_built_again_and_said(folder: Path):
    engines = Engines()
    engines.use(folder)
    (folder / "graph_sm89.engine").write_bytes(b"damaged")
    assert engines.use(folder) == "built"
    assert "cannot be used (could not deserialize engine from cache)" in engines.said[1]


def test_build_that_fails_is_reported_and_tried_anew_the_next_time(folder: Path):
    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Engines(fail).use(folder)
    assert Engines().use(folder) == "built"


def test_nodes_that_start_together_build_once(folder: Path):
    building = threading.Event()
    go_on = threading.Event()
    first = Engines(lambda: (building.set(), go_on.wait(30)))
    second = Engines()
    one = threading.Thread(target=first.use, args=(folder,))
    one.start()
    assert building.wait(30)
    waiting = threading.Event()
    answers: list[str] = []

    def say(text: str) -> None:
        if text.startswith("waiting for another process"):
            waiting.set()

    other = threading.Thread(
        target=lambda: answers.append(start_with_engines(folder, second.start, (RuntimeError,), say))
    )
    other.start()
    assert waiting.wait(30)
    go_on.set()
    one.join(30)
    other.join(30)
    assert (answers, first.builds, second.builds) == (["read"], 1, 0)


def test_what_was_timed_for_one_model_is_at_hand_for_the_next(folder: Path):
    Engines().use(folder)
    other = folder.with_name("def_batch4")
    found: list[bytes] = []
    Engines(lambda: found.append((other / "cache_sm89.timing").read_bytes())).use(other)
    assert found == [b"timings"]


def test_folder_that_cannot_be_written_is_said_and_done_without(tmp_path: Path):
    (tmp_path / "file").touch()  # root may write anywhere, but not below a file
    engines = Engines()
    assert engines.use(tmp_path / "file" / "machine" / "model") == "no cache"
    assert "at each start, for minutes" in engines.said[0]
    assert "cannot be used (Not a directory)" in engines.said[0]


def test_engines_that_were_not_used_for_longest_are_removed(folder: Path):
    """Of 25 models 20 are kept: the one that was used again last, although it was the first, and the newest 19."""
    engines = Engines()
    folders = [folder.with_name(f"model{number:02}_batch1") for number in range(25)]
    for number, one in enumerate(folders):
        engines.use(one)
        os.utime(one / "complete", (1000 + number, 1000 + number))
        if number == 3:
            engines.use(folders[0])
            os.utime(folders[0] / "complete", (5000, 5000))
    kept = [number for number, one in enumerate(folders) if one.exists()]
    assert kept == [0, *range(6, 25)]
    assert engines.use(folders[0]) == "read"
    assert engines.use(folders[1]) == "built"


def test_engine_that_another_process_is_about_to_read_is_kept(folder: Path):
    engines = Engines()
    folders = [folder.with_name(f"model{number:02}_batch1") for number in range(22)]
    for number, one in enumerate(folders[:-1]):
        engines.use(one)
        os.utime(one / "complete", (1000 + number, 1000 + number))
    with folders[1].with_name(f"{folders[1].name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        engines.use(folders[-1])
    assert folders[1].exists()
