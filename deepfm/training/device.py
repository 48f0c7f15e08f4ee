"""What a worker trains on: its GPU or CPU, and what these can do."""

import ctypes

import torch
from torch import Tensor

#: Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
#: Of Linux' mman.h: from now on; and of what is there already, at once.
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_LARGE_PAGE = 2 << 20
#: By which the heap grows at a time: addresses, no memory. A step of 4096 Criteo rows takes 150 MB of it.
_HEAP_BYTES = 512 << 20


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


def retain_freed_memory() -> None:
    """Let glibc keep the blocks that a step frees, 512 MiB of them in large pages: the next wants them again.

    It gives blocks above 128 KiB back to the kernel at once, which then clears every page of them anew: a
    seventh of the time of a step on one thread. Elsewhere than on glibc nothing happens.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the highest it takes
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_TOP_PAD, _HEAP_BYTES)
    # Makes the heap grow by all that where it has no such block: addresses, advised before there is memory
    # behind them. Other threads than the first have heaps of their own, which are left as they are.
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    before = libc.sbrk(ctypes.c_ssize_t(0))
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(31 << 20))))
    _advise(libc, before, libc.sbrk(ctypes.c_ssize_t(0)) - before, _MADV_HUGEPAGE)


def use_large_pages(tensor: Tensor) -> Tensor:
    """The same tensor, in pages of 2 MiB where Linux has them to spare.

    Rows are looked up all over a table: of pages of 4 KiB the processor remembers the places of too few. On a
    GPU, and elsewhere than on Linux, nothing happens.
    """
    libc = ctypes.CDLL(None)
    if tensor.device.type == "cpu" and tensor.is_contiguous() and hasattr(libc, "madvise"):
        for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
            _advise(libc, tensor.data_ptr(), tensor.nbytes, advice)
    return tensor


def _advise(libc: ctypes.CDLL, start: int, num_bytes: int, advice: int) -> None:
    """Of the large pages whole within these bytes; a kernel that does not know the advice refuses it."""
    first = -(-start // _LARGE_PAGE) * _LARGE_PAGE
    last = (start + num_bytes) // _LARGE_PAGE * _LARGE_PAGE
    if first < last:
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice)
