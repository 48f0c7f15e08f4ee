"""Reading, training and scoring from the files of a dataset on a device."""

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from gpu_data import write_dataset
from gpu_timing import seconds
from gpu_training import DIM, HIDDEN, Sizes, new_loop

from deepfm.artifact.artifact import load_artifact, save_artifact
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import Manifest
from deepfm.dataset.read import MAX_READERS, read_batches
from deepfm.dataset.shard import Shard
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.model_factory import build_model
from deepfm.models.deepfm import DeepFM
from deepfm.settings.model import ModelSettings
from deepfm.storage import local_path


def measure_files(sizes: Sizes, device: torch.device, num_processes: int) -> dict:
    """Write a dataset; rows/s of reading it, of an epoch of training from it, and of scoring a file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "dataset"
        started = time.perf_counter()
        manifest = write_dataset(folder, sizes.files, sizes.num_ids, num_processes, sizes.rows_per_file)
        results: dict = {"write_seconds": time.perf_counter() - started}
        results["rows"] = manifest.splits["train"].num_rows
        url = f"file://{folder}"
        for num_readers in (1, 4, MAX_READERS):
            results[f"read, {num_readers} readers"] = _read_speed(url, manifest, sizes, device, num_readers)
        results["trained_rows_per_s"] = _train_speed(url, manifest, sizes, device)
        results["scoring"] = _score(url, Path(temporary) / "model", manifest, device)
    return results


def _batches(url: str, manifest: Manifest, sizes: Sizes, device: torch.device, readers: int, epoch: int = 0):
    shard = Shard(0, 1, sizes.batch)
    return read_batches(
        url, manifest, "train", shard, epoch=epoch, seed=1, device=device, num_readers=readers
    )


def _read_speed(url: str, manifest: Manifest, sizes: Sizes, device: torch.device, readers: int) -> float:
    def work() -> None:
        for _ in _batches(url, manifest, sizes, device, readers):
            pass

    return manifest.splits["train"].num_rows / seconds(work, device)


def _train_speed(url: str, manifest: Manifest, sizes: Sizes, device: torch.device) -> list[float]:
    """Rows/s of each of three epochs; the first includes the loading of kernels."""
    torch.manual_seed(1)
    loop = new_loop(DeepFM(manifest.num_ids, DIM, hidden_units=HIDDEN).to(device), device)
    num_rows = manifest.splits["train"].num_rows
    speeds = []
    for epoch in range(3):
        batches = _batches(url, manifest, sizes, device, MAX_READERS, epoch)
        speeds.append(num_rows / seconds(partial(loop.run_epoch, batches), device))
    return speeds


def _score(url: str, folder: Path, manifest: Manifest, device: torch.device) -> dict[str, float]:
    """Rows/s of the artifact's scorer for the ids of a file, and its difference from the CPU's."""
    settings = ModelSettings.model_validate(
        {
            "model": "deepfm",
            "embedding_dim": DIM,
            "deep": {"hidden_units": list(HIDDEN)},
            "training": {"batch_size": 4096, "max_epochs": 1, "learning_rate": 0.001},
        }
    )
    folder.mkdir()
    network = build_model(settings, manifest.num_ids)
    save_artifact(f"file://{folder}", settings, manifest, Vocabulary.load(url), network.state_dict())
    model = load_artifact(f"file://{folder}")
    file = local_path(f"{url}/test/{manifest.splits['test'].files[0].name}")
    num_files = 16 if device.type == "cuda" else 1

    def read_ids() -> np.ndarray:
        table = pq.read_table(file, columns=list(manifest.fields.slots))
        return to_int32_matrix([column.to_numpy() for column in table.columns])

    block = read_ids()
    on_cpu = model.logits_from_ids(block[:4096])
    moved = model.to(device)
    difference = float(np.abs(moved.logits_from_ids(block[:4096]) - on_cpu).max())
    many = np.concatenate([block] * num_files)
    moved.logits_from_ids(many)
    time_of_ids = seconds(lambda: moved.logits_from_ids(many), device)
    time_of_file = seconds(lambda: moved.logits_from_ids(read_ids()), device)
    return {
        "max_difference_from_cpu": difference,
        "rows_per_s": len(many) / time_of_ids,
        "rows_per_s_with_reading": len(block) / time_of_file,
    }
