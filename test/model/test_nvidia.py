"""Owns: questions to the NVIDIA driver, which a small C library plays here: the calls are those of cuda.h."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cnn_perception.model.nvidia import Gpu, has_driver, read_gpu, tensorrt_version

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the stand-in of the driver")
DRIVER = """
#include <string.h>
static int started;
int cuInit(unsigned flags) { started = flags == 0; return %(init)d; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 70 + ordinal; return !started ? 3 : ordinal > 1 ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA Orin", length); return device != 71; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 71) return 1;
    if (attribute == 75) { *value = 8; return 0; }
    if (attribute == 76) { *value = 7; return 0; }
    return 1;
}
int cuGetErrorString(int error, const char **text) {
    *text = error == 100 ? "no CUDA-capable device is detected" : error == 101 ? "invalid device ordinal" : 0;
    return 0;
}
int getInferLibVersion(void) { return 101303; }
"""


def library(folder: Path, init: int = 0) -> str:
    source = folder / "driver.c"
    built = folder / f"libdriver{init}.so"
    source.write_text(DRIVER % {"init": init})
    assert COMPILER is not None
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", built, source], check=True)
    return str(built)


@needs_compiler
def test_gpu_is_described_by_its_driver(tmp_path: Path):
    assert read_gpu(1, library(tmp_path)) == Gpu("NVIDIA Orin", "8.7", "12.8")


@needs_compiler
def test_gpu_that_is_not_there_is_said_in_the_drivers_words(tmp_path: Path):
    with pytest.raises(LookupError, match="cuDeviceGet says: invalid device ordinal"):
        read_gpu(2, library(tmp_path))
    with pytest.raises(LookupError, match="cuInit says: no CUDA-capable device is detected"):
        read_gpu(0, library(tmp_path, init=100))


@needs_compiler
def test_error_without_words_has_its_number(tmp_path: Path):
    with pytest.raises(LookupError, match="cuInit says: error 999"):
        read_gpu(0, library(tmp_path, init=999))


@needs_compiler
def test_tensorrt_says_its_version(tmp_path: Path):
    assert tensorrt_version(library(tmp_path)) == 101303


def test_missing_libraries_are_named():
    assert not has_driver("libnothing.so.1")
    with pytest.raises(LookupError, match=r"no NVIDIA driver: libnothing\.so\.1 is missing"):
        read_gpu(0, "libnothing.so.1")
    with pytest.raises(LookupError, match=r"TensorRT cannot be loaded: libnothing\.so\.1"):
        tensorrt_version("libnothing.so.1")


def test_library_that_is_not_tensorrt_is_said():
    with pytest.raises(LookupError, match="getInferLibVersion"):
        tensorrt_version("libc.so.6")
