"""Training speed, test AUC and logloss of DeepFM compared with FuxiCTR and DeepCTR-Torch, for one epoch.

    python benchmarks/training.py --peers ../shared/peers [--rows 1000000]

A synthetic log in Criteo's layout is generated and built into a dataset. Ours trains through train.py, in one
process with two threads, with several settings; FuxiCTR and DeepCTR-Torch train the same network on the same
rows. Machines are noisy, so our fastest settings run before and after the peers, and the mean is reported.
Stdout ends with a line of JSON. gpu_check.py measures a GPU.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import yaml
from peers import DEEPCTR, FUXICTR, find_driver, make_environment, run_driver, write_part
from pipeline import REPOSITORY, run_job
from rich.console import Console
from rich.table import Table

from deepfm.dataset.manifest import read_manifest
from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import load_settings

WORK = REPOSITORY / "work" / "benchmarks" / "training"
DAYS = {"train": "2026-01-01:2026-01-05", "valid": "2026-01-06:2026-01-06", "test": "2026-01-07:2026-01-07"}
BATCH = 4096
#: Changes of `training` in the model YAML; the first is compared with the peers.
VARIANTS: dict[str, dict[str, Any]] = {
    "bf16, row-wise Adagrad": {"precision": "bf16", "optimizer": "adagrad", "table_learning_rate": 0.02},
    "bf16, lazy Adam": {"precision": "bf16"},
    "fp32, lazy Adam": {"precision": "fp32"},
    "fp32, Adam over all rows": {"precision": "fp32", "optimizer": "adam_dense"},
    # Two Horovod processes with half the batch each: the effect of 16 bit instead of 32 bit compression.
    "two workers, rows sent in 32 bits": {
        "precision": "fp32",
        "gradient_compression": "fp32",
        "batch_size": BATCH // 2,
    },
    "two workers, rows sent in 16 bits": {
        "precision": "fp32",
        "gradient_compression": "bf16",
        "batch_size": BATCH // 2,
    },
}


@dataclass(frozen=True)
class Result:
    """Result of one training."""

    name: str
    samples_per_s: float
    auc: float
    logloss: float


def build(rows: int) -> tuple[Path, Path]:
    """Generate the synthetic log and build its dataset."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    log, dataset = WORK / "log", WORK / "dataset"
    run_job("-m", "deepfm.cli.synthetic", "--days", 7, "--rows-per-day", rows // 5, "--output", log)
    flags = [word for part, days in DAYS.items() for word in (f"--{part}-days", days)]
    run_job(
        "jobs/build_features.py",
        "--data",
        "conf/data/criteo.yaml",
        "--input",
        log,
        "--output",
        dataset,
        *flags,
    )
    profile = yaml.safe_load((REPOSITORY / "conf/profile/local.yaml").read_text())
    profile["workers"]["threads_per_worker"] = 2
    (WORK / "profile.yaml").write_text(yaml.safe_dump(profile))
    return log, dataset


def train_ours(variant: str, dataset: Path) -> Result:
    """Train one epoch through train.py."""
    settings = yaml.safe_load((REPOSITORY / "conf/model/deepfm.yaml").read_text()) | {"init_std": 0.0001}
    settings["training"] |= {
        "batch_size": BATCH,
        "max_epochs": 1,
        "save_optimizer": False,
        **VARIANTS[variant],
    }
    model = WORK / "model.yaml"
    model.write_text(yaml.safe_dump(settings))
    flags: list[object] = ["--name", "training", "--tracking-uri", f"sqlite:///{WORK}/mlflow.db"]
    # One process uses both threads; of two processes each uses one.
    is_single_process = "gradient_compression" not in VARIANTS[variant]
    flags += (
        ["--num-workers", 0, "--profile", WORK / "profile.yaml"]
        if is_single_process
        else ["--num-workers", 2]
    )
    run = run_job("jobs/train.py", "--dataset", dataset, "--model", model, *flags)
    return Result(f"ours, {variant}", run["samples_per_s"], run["test_auc"], run["test_logloss"])


def train_fuxictr(python: Path, driver: Path, log: Path) -> Result:
    """Train one epoch on the rows as text."""
    data = load_settings(REPOSITORY / "conf/data/criteo.yaml", DataSettings)
    parts = [write_part(log, data, DAYS[part], WORK / f"{part}.tsv") for part in ("train", "test")]
    arguments = [*parts, str(WORK / "fuxictr"), "--batch", str(BATCH)]
    run = run_driver(python, driver, arguments, WORK / "fuxictr.log")
    last = run["epochs"][-1]
    return Result("FuxiCTR 2.3.10", run["train_samples_s"], last["AUC"], last["logloss"])


def train_deepctr(python: Path, driver: Path, dataset: Path) -> Result:
    """Train one epoch on the ids of our dataset, as arrays in memory."""
    manifest = read_manifest(f"file://{dataset}")
    offsets = np.concatenate([[0], np.cumsum(manifest.num_ids)[:-1]])
    arrays = {"V": sum(manifest.num_ids)}
    for part, x, y in (("train", "xtr", "ytr"), ("test", "xte", "yte")):
        rows = pq.read_table([dataset / part / file.name for file in manifest.splits[part].files])
        columns = [
            rows[name].to_numpy() + start for name, start in zip(manifest.fields.slots, offsets, strict=True)
        ]
        arrays |= {x: np.stack(columns, axis=1), y: rows[manifest.data.label].to_numpy().astype(np.float32)}
    np.savez(WORK / "arrays.npz", **arrays)
    run = run_driver(python, driver, [str(WORK / "arrays.npz"), "16", str(BATCH)], WORK / "deepctr.log")
    return Result("DeepCTR-Torch 0.3.0", run["train_samples_s"], run["auc"], run["logloss"])


def show(results: list[Result]) -> None:
    """Print a table with speeds relative to FuxiCTR."""
    (fuxictr_speed,) = [result.samples_per_s for result in results if result.name.startswith("FuxiCTR")]
    table = Table("DeepFM, one epoch", "samples/s", "relative to FuxiCTR", "test AUC", "logloss")
    for result in results:
        speeds = f"{result.samples_per_s:,.0f}", f"{result.samples_per_s / fuxictr_speed:.2f}"
        table.add_row(result.name, *speeds, f"{result.auc:.5f}", f"{result.logloss:.5f}")
    Console().print(table)


@click.command(help=__doc__.replace("for one epoch.\n\n", "for one epoch.\n\n\b\n"))
@click.option("--peers", required=True, type=click.Path(path_type=Path), help="Folder of the peers' drivers.")
@click.option("--rows", default=1_000_000, show_default=True, help="Training rows.")
def main(peers: Path, rows: int) -> None:
    try:
        drivers = {peer: (make_environment(peer), find_driver(peers, peer)) for peer in (FUXICTR, DEEPCTR)}
        log, dataset = build(rows)
        fastest, *others = VARIANTS
        before = train_ours(fastest, dataset)
        peers_results = [train_fuxictr(*drivers[FUXICTR], log), train_deepctr(*drivers[DEEPCTR], dataset)]
        after = train_ours(fastest, dataset)
        mean = (before.samples_per_s + after.samples_per_s) / 2
        ours = [Result(after.name, mean, after.auc, after.logloss)]
        results = [*ours, *(train_ours(variant, dataset) for variant in others), *peers_results]
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    show(results)
    click.echo(json.dumps({"rows": rows, "results": [result.__dict__ for result in results]}))


if __name__ == "__main__":
    main()
