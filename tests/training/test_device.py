"""Which device a worker takes and what it asks of it."""

import platform
import resource

import pytest
import torch

from deepfm.training.device import choose_device, keep_freed_memory, multiplies_bf16


def test_without_a_gpu_the_cpu_trains(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(1) == torch.device("cpu")


def test_workers_whose_exchange_takes_no_gpu_tensors_train_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(None) == torch.device("cpu")


@pytest.mark.parametrize(("given", "visible", "taken"), [(1, 4, 1), (3, 4, 3), (3, 1, 0)])
def test_a_worker_takes_the_gpu_it_was_given_also_where_it_sees_no_other(monkeypatch, given, visible, taken):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device(given) == torch.device("cuda", taken)
    assert chosen == [taken]


def test_bfloat16_is_used_where_the_device_multiplies_it(monkeypatch):
    for amx, avx, expected in ((True, False, True), (False, True, True), (False, False, False)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=amx: answer)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=avx: answer)
        assert multiplies_bf16(torch.device("cpu")) == expected
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not multiplies_bf16(torch.device("cuda"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_that_a_step_frees_is_there_for_the_next_without_the_kernel():
    keep_freed_memory()
    for _ in range(3):
        torch.ones(3_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(3_000_000)  # 2930 pages each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 10 * 2930  # else all of them
