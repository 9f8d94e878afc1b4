"""Memory: out of it, told apart from all else that torch raises; and kept, once the CPU has it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import torch

from reward_server.errors import DeviceOutOfMemory

CPU_MESSAGE = "can't allocate memory"
"""What the CPU allocator says; torch has no class for it."""


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
"""Numbers of glibc's malloc.h."""

KEPT_BYTES = 2**31 - 1
"""What glibc may keep of freed memory; the largest that its interface takes."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def keep_freed_memory() -> bool:
    """Has glibc keep the memory of freed tensors for the next ones; whether it does.

    By default it gives every large tensor back to the system, and each new one costs page faults:
    about a quarter of a forward pass in bfloat16 on a CPU. Holds for the whole process; without
    glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        log.info("malloc.unchanged", reason="no glibc")
        return False
    settings = {
        M_MMAP_THRESHOLD: 2**30,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: 2**26,
        M_ARENA_MAX: 1,  # the other settings hold for the main arena only, threads have their own
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())


@contextmanager
def memory_guard() -> Iterator[None]:
    """Turns the device's out-of-memory errors into :class:`DeviceOutOfMemory`.

    Freed blocks go back to the device, so that a smaller batch finds them.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise DeviceOutOfMemory(_line(error)) from None
    except RuntimeError as error:
        if CPU_MESSAGE not in str(error):
            raise
        raise DeviceOutOfMemory(_line(error)) from None


def _line(error: Exception) -> str:
    return f"the device is out of memory: {str(error).strip().splitlines()[0][:200]}"
