"""Device of a worker, its precision and its memory settings."""

import ctypes
import inspect
import platform
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deepfm.training.device import choose_device, multiplies_bf16, retain_freed_memory, use_large_pages


def test_without_a_gpu_training_uses_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(1) == torch.device("cpu")


def test_without_gpu_support_in_horovod_training_uses_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(None) == torch.device("cpu")


@pytest.mark.parametrize(("assigned", "visible", "expected"), [(1, 4, 1), (3, 4, 3), (3, 1, 0)])
def test_a_worker_uses_its_assigned_gpu_even_if_only_one_is_visible(monkeypatch, assigned, visible, expected):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device(assigned) == torch.device("cuda", expected)
    assert chosen == [expected]


def test_bfloat16_is_used_if_the_device_supports_it(monkeypatch):
    for amx, avx, expected in ((True, False, True), (False, True, True), (False, False, False)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=amx: answer)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=avx: answer)
        assert multiplies_bf16(torch.device("cpu")) == expected
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not multiplies_bf16(torch.device("cuda"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_a_step_frees_is_reused_without_page_faults():
    retain_freed_memory()
    for _ in range(3):
        torch.ones(3_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(3_000_000)  # 2930 pages each
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * 2930
    )  # without reuse: all of them


def kib_in_large_pages():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("AnonHugePages")).split()[1])


def has_large_pages():
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    # Since Linux 6.1 existing pages can be moved.
    version = tuple(map(int, platform.release().split(".")[:2])) if setting.exists() else (0, 0)
    return version >= (6, 1) and "[madvise]" in setting.read_text()


def output_of(code):
    """Run code in a new process, with a new heap, and return its output."""
    helper = inspect.getsource(kib_in_large_pages)
    code = f"from pathlib import Path\nimport torch\nfrom deepfm.training import device\n{helper}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not has_large_pages(), reason="needs Linux 6.1 with transparent huge pages by madvise")
def test_a_table_moves_to_large_pages_with_its_values():
    code = """
table = torch.arange(16_000_000, dtype=torch.float32).view(-1, 16)  # 64 MB
before = kib_in_large_pages()
assert device.use_large_pages(table) is table
assert torch.equal(table.flatten(), torch.arange(16_000_000, dtype=torch.float32))
print(kib_in_large_pages() - before)
"""
    assert int(output_of(code)) > 4 * 2048  # of 30 pages: few huge pages may be available


@pytest.mark.skipif(not has_large_pages(), reason="needs Linux 6.1 with transparent huge pages by madvise")
def test_allocations_of_a_step_use_large_pages():
    code = """
device.retain_freed_memory()
blocks = [torch.ones(5_000_000) for _ in range(10)]  # 20 MB each
print(kib_in_large_pages())
"""
    assert int(output_of(code)) > 20 * 1024


def test_small_empty_or_not_contiguous_tensors_are_not_moved(monkeypatch):
    advised = []
    libc = SimpleNamespace(madvise=lambda start, num_bytes, advice: advised.append(num_bytes.value))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    for tensor in (torch.ones(3), torch.ones(2000, 2000).t(), torch.empty(0, 16)):
        use_large_pages(tensor)
    assert advised == []
    use_large_pages(torch.ones(2000, 2000))  # 16 MB
    assert advised
    assert all(num_bytes % (2 << 20) == 0 and 8 << 20 < num_bytes <= 16_000_000 for num_bytes in advised)
