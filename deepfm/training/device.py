"""Device of a worker, its capabilities, and memory settings of the process."""

import ctypes

import torch
from torch import Tensor

#: Constants of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
#: Constants of Linux's mman.h: use huge pages for future memory; convert existing memory now.
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_LARGE_PAGE = 2 << 20
#: Growth increment of the heap in bytes of address space. A step of 4096 Criteo rows takes 150 MB of it.
_HEAP_BYTES = 512 << 20


def choose_device(gpu: int | None) -> torch.device:
    """Return the GPU of this worker (see Collectives.gpu), or the CPU if there is none."""
    if gpu is None or not torch.cuda.is_available():
        return torch.device("cpu")
    # CUDA_VISIBLE_DEVICES renumbers the GPUs that a worker sees.
    index = gpu % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def retain_freed_memory() -> None:
    """Make glibc keep up to 512 MiB of freed blocks, in huge pages, for the next step.

    By default it returns blocks above 128 KiB to the kernel, which has to clear their pages again: a seventh
    of the time of a step on one thread. Without glibc this does nothing.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest value it accepts
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_TOP_PAD, _HEAP_BYTES)
    # Grow the heap now, so that the advice applies before its pages exist. Other threads have separate heaps,
    # which are not changed.
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    before = libc.sbrk(ctypes.c_ssize_t(0))
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(31 << 20))))
    _advise(libc, before, libc.sbrk(ctypes.c_ssize_t(0)) - before, _MADV_HUGEPAGE)


def use_large_pages(tensor: Tensor) -> Tensor:
    """Move a tensor to 2 MiB pages if Linux has any, and return it.

    Lookups are spread over a whole table, and the TLB covers too few pages of 4 KiB. Does nothing for GPU
    tensors and on other systems than Linux.
    """
    libc = ctypes.CDLL(None)
    if tensor.device.type == "cpu" and tensor.is_contiguous() and hasattr(libc, "madvise"):
        for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):
            _advise(libc, tensor.data_ptr(), tensor.nbytes, advice)
    return tensor


def _advise(libc: ctypes.CDLL, start: int, num_bytes: int, advice: int) -> None:
    """Advise the kernel about the whole huge pages within these bytes; old kernels ignore the advice."""
    first = -(-start // _LARGE_PAGE) * _LARGE_PAGE
    last = (start + num_bytes) // _LARGE_PAGE * _LARGE_PAGE
    if first < last:
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice)
