"""Follows the steps of deepfm/models/README.md exactly, in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import json, sys
import deepfm.model_specs
assert deepfm.model_specs.__file__.startswith(sys.argv[1])  # the copy, not the checkout
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.rank.stages import run_worker
from deepfm.distributed.collectives import SingleProcess
settings = load_settings("conf/model/dcn.yaml", ModelSettings)
training = settings.training.model_copy(update={"max_epochs": 1, "batch_size": 8})
settings = settings.model_copy(update={"training": training})
result = run_worker(TrainJob(sys.argv[2], f"file://{sys.argv[1]}/run", settings, 1), SingleProcess())
import pytest
exit_code = pytest.main(["-q", "-p", "no:cacheprovider", "tests/models/test_dcn.py"])
summary = {"num_weights": result.num_weights, "logloss": result.test.logloss, "exit_code": int(exit_code)}
print(json.dumps(summary))
"""


def blocks():
    """Code blocks of the README: model, entry, YAML and test."""
    text = (ROOT / "deepfm/models/README.md").read_text(encoding="utf-8")
    return [block for _, block in re.findall(r"```(python|yaml)\n(.*?)```", text, re.DOTALL)]


def test_a_model_needs_a_file_an_entry_and_a_yaml(small_dataset, tmp_path):
    model, entry, settings, test_text = blocks()
    assert len("".join(blocks()).splitlines()) < 70
    shutil.copytree(ROOT / "deepfm", tmp_path / "deepfm", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("conf/model", "tests/models", "run"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "deepfm/models/dcn.py").write_text(model)
    specs = tmp_path / "deepfm/model_specs.py"
    specs.write_text(specs.read_text().replace("MODELS = {\n", f"MODELS = {{\n{entry}"))
    (tmp_path / "conf/model/dcn.yaml").write_text(settings)
    (tmp_path / "tests/models/test_dcn.py").write_text(test_text)
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path), f"file://{small_dataset}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    # 9 ids of 2 fields, K = 8: table, two cross layers, output, 16 -> 64 -> 64 -> 1.
    assert summary["num_weights"] == 9 * 8 + 2 * 2 * 16 + 17 + 17 * 64 + 65 * 64 + 65
    assert summary["exit_code"] == 0, done.stdout
    assert 0 < summary["logloss"] < 2
