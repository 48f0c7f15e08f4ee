"""The trace of a few steps: files that a viewer and a person can read."""

import gzip
import json

import torch

from deepfm.training.profiler import TABLE, TRACE, StepProfiler


def test_so_many_steps_after_the_first_ones_are_traced(tmp_path):
    with StepProfiler(f"file://{tmp_path}", 2) as trace:
        for _ in range(8):
            torch.ones(30, 30) @ torch.ones(30, 30)
            trace.step()
    events = json.loads(gzip.decompress((tmp_path / TRACE).read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "aten::mm" for event in events) == 2
    assert "aten::mm" in (tmp_path / TABLE).read_text()


def test_a_training_of_fewer_steps_is_traced_as_far_as_it_goes(tmp_path):
    with StepProfiler(f"file://{tmp_path}", 100) as trace:
        for _ in range(5):
            torch.ones(30, 30) @ torch.ones(30, 30)
            trace.step()
    assert (tmp_path / TRACE).exists()


def test_a_training_of_no_more_than_the_first_steps_leaves_none(tmp_path):
    with StepProfiler(f"file://{tmp_path}", 100) as trace:
        for _ in range(3):
            torch.ones(30, 30) @ torch.ones(30, 30)
            trace.step()
    assert not list(tmp_path.iterdir())
