"""What a worker trains on: its GPU or CPU, and what these can do."""

import ctypes

import torch

#: Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def choose_device(gpu: int | None) -> torch.device:
    """The worker's GPU (see World.gpu); the CPU where there is none."""
    if gpu is None or not torch.cuda.is_available():
        return torch.device("cpu")
    # A worker that sees fewer GPUs than the host has was given those: CUDA_VISIBLE_DEVICES numbers them anew.
    index = gpu % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has products of bfloat16 in hardware; in software they are slower than float32's."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Let glibc keep the blocks that a step frees: the next step wants them again.

    It gives blocks above 128 KiB back to the kernel at once, which then clears every page of them anew: a
    seventh of the time of a step on one thread. Elsewhere than on glibc nothing happens.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the highest it takes
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
