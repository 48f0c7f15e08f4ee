"""Profile of a few training steps by torch.profiler."""

import gzip
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from deepfm import storage

TRACE, TABLE = "trace.json.gz", "operations.txt"
#: The first steps allocate memory and choose kernels, so they are not representative.
NUM_STEPS_BEFORE = 3


class StepProfiler:
    """Profiles `num_steps` steps into two files of a folder: a trace for a viewer and a table of operations.

    `prefix` distinguishes the files of several trainings of one run. A training of at most NUM_STEPS_BEFORE
    steps writes no files.
    """

    def __init__(self, folder_url: str, num_steps: int, prefix: str = ""):
        self._url, self._num_steps = f"{folder_url}/{prefix}", 0
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=NUM_STEPS_BEFORE - 1, warmup=1, active=num_steps, repeat=1),
            on_trace_ready=self._write,
        )

    def __enter__(self) -> "StepProfiler":
        self._profile.start()
        return self

    def __exit__(self, *_) -> None:
        self._profile.stop()

    def step(self) -> None:
        """Mark the end of a training step."""
        self._num_steps += 1
        self._profile.step()

    def _write(self, traced: profile) -> None:
        if self._num_steps <= NUM_STEPS_BEFORE:
            return  # no step was profiled
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trace.json"
            traced.export_chrome_trace(str(file))
            storage.write_bytes(f"{self._url}{TRACE}", gzip.compress(file.read_bytes()))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = traced.key_averages().table(sort_by=by, row_limit=40)
        storage.write_bytes(f"{self._url}{TABLE}", table.encode())
