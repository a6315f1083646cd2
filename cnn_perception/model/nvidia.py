"""Names and versions of NVIDIA GPUs, their driver and TensorRT, read through the C interfaces of their libraries."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"
"""The driver's library, found as the system finds libraries."""

# Source: cuda.h, CUdevice_attribute.
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: Its product name, such as `NVIDIA H200`.
        compute_capability: Such as `9.0`.
        cuda: Newest CUDA version that the driver can serve, such as `13.0`.
    """

    name: str
    compute_capability: str
    cuda: str


def has_driver(library: str = DRIVER) -> bool:
    """Returns whether there is a driver; there may be no GPU."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def read_gpu(device_id: int, library: str = DRIVER) -> Gpu:
    """Returns what the driver knows of a GPU.

    Args:
        device_id: Which one, as CUDA counts them.
        library: The driver's library.

    Raises:
        LookupError: If there is no driver or no such GPU; says which.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        raise LookupError(f"there is no NVIDIA driver: {library} is missing") from None
    version, device, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuInit", 0)
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    _call(driver, "cuDeviceGet", ctypes.byref(device), device_id)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",  # 13000 is 13.0
    )


def tensorrt_version(library: str) -> int:
    """Returns TensorRT's version as one number, such as 101303.

    Args:
        library: A library that is linked with TensorRT: the answer is that of the one it gets.

    Raises:
        LookupError: If it cannot be loaded; says what is missing.
    """
    try:
        return int(ctypes.CDLL(library).getInferLibVersion())
    except (OSError, AttributeError) as error:
        raise LookupError(f"TensorRT cannot be loaded: {error}") from None


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(driver, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        reason = text.value.decode() if text.value else f"error {code}"
        raise LookupError(f"the NVIDIA driver's {function} says: {reason}")
