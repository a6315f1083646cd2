"""Owns: what a process keeps of the memory that it has freed. The kernel, which counts pages mapped, is the oracle."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

BYTES = 40 << 20
"""More than glibc keeps by itself, which ends at 32 MiB."""
ALLOCATE = f"""
import resource
from cnn_perception import memory
if {{keep}}: memory.keep_freed()
b"x" * {BYTES}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): b"x" * {BYTES}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_mapped(keep: bool, **variables: str) -> int:
    """How many pages a process maps for blocks that it takes and frees, five times after the first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    code = ALLOCATE.format(keep=keep)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told anything")
def test_memory_of_an_image_is_kept_for_the_next_unless_the_user_says_otherwise():
    pages = 5 * BYTES // os.sysconf("SC_PAGE_SIZE")

    assert pages_mapped(keep=False) > pages / 2
    assert pages_mapped(keep=True) < pages / 10
    assert pages_mapped(keep=True, MALLOC_MMAP_THRESHOLD_="131072") > pages / 2
