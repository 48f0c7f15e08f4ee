"""A few steps under PyTorch's profiler."""

import gzip
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from deepfm import storage

TRACE, TABLE = "trace.json.gz", "operations.txt"
#: Of the first steps memory is fetched and kernels are chosen: they say nothing of the others.
_NUM_STEPS_BEFORE = 3


class StepTrace:
    """Of `num_steps` steps, into two files of a folder: for a trace viewer, and a table of operations."""

    def __init__(self, folder_url: str, num_steps: int):
        self._folder_url = folder_url
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=_NUM_STEPS_BEFORE - 1, warmup=1, active=num_steps, repeat=1),
            on_trace_ready=self._write,
        )

    def __enter__(self) -> "StepTrace":
        self._profile.start()
        return self

    def __exit__(self, *_) -> None:
        self._profile.stop()

    def step(self) -> None:
        """After each step."""
        self._profile.step()

    def _write(self, traced: profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trace.json"
            traced.export_chrome_trace(str(file))
            storage.write_bytes(f"{self._folder_url}/{TRACE}", gzip.compress(file.read_bytes()))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = traced.key_averages().table(sort_by=by, row_limit=40)
        storage.write_bytes(f"{self._folder_url}/{TABLE}", table.encode())
