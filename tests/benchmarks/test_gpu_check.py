"""The check of a GPU runs to its end on a CPU, so that no time on a GPU is lost to a mistake in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def check(*options):
    """Run the check with small sizes; return its results."""
    command = [sys.executable, "benchmarks/gpu_check.py", "--device", "cpu", "--small", *options]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout)


@pytest.mark.slow
def test_every_measurement_runs_on_a_cpu():
    results = check()
    assert {name for name, result in results.items() if "failed" in result} == set()
    assert results["losses"]["adagrad"] == results["losses"]["adam"] == 0.0
    assert results["losses"]["adam, last loss"] < results["losses"]["adam, first loss"]
    horovod = results["horovod"]
    assert all(horovod[name]["works"] for name in ("all_reduce", "all_gather", "broadcast", "alltoall"))
    assert results["files"]["rows"] == 3 * 2048
    assert results["files"]["scoring"]["max_difference_from_cpu"] == 0.0
    assert "lower training.batch_size (now 512)" in results["out_of_memory"]["error"]


def test_chosen_measurements_run_alone():
    assert set(check("--only", "out_of_memory")) == {"ceilings", "out_of_memory"}
