"""Profile of a few steps: a trace file and a table."""

import gzip
import json

import torch

from deepfm.training.profiler import TABLE, TRACE, StepProfiler


def test_the_given_number_of_steps_after_warm_up_is_profiled(tmp_path):
    with StepProfiler(f"file://{tmp_path}", 2) as profiler:
        for _ in range(8):
            torch.ones(30, 30) @ torch.ones(30, 30)
            profiler.step()
    events = json.loads(gzip.decompress((tmp_path / TRACE).read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "aten::mm" for event in events) == 2
    assert "aten::mm" in (tmp_path / TABLE).read_text()


def test_a_training_with_fewer_steps_is_profiled_until_its_end(tmp_path):
    with StepProfiler(f"file://{tmp_path}", 100) as profiler:
        for _ in range(5):
            torch.ones(30, 30) @ torch.ones(30, 30)
            profiler.step()
    assert (tmp_path / TRACE).exists()


def test_a_training_with_only_warm_up_steps_writes_no_files(tmp_path):
    with StepProfiler(f"file://{tmp_path}", 100) as profiler:
        for _ in range(3):
            torch.ones(30, 30) @ torch.ones(30, 30)
            profiler.step()
    assert not list(tmp_path.iterdir())
