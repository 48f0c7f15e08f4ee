"""Test AUC and logloss of our DeepFM and FuxiCTR's on the same rows, trained in one call.

    python benchmarks/quality.py --data movielens --peers PEERS --log LOG [--seeds 1,2,3] [--peer-runs 3]
    python benchmarks/quality.py --data synthetic --peers PEERS

Ours runs through the jobs; its settings and best epoch were chosen on the validation days. The peer (FuxiCTR)
runs with several L2 strengths, --peer-runs times each, because its runs differ; the means are reported. It is
reported twice: with L2 and epoch chosen on the validation days, separately for AUC and logloss; and with its
best metrics ON THE TEST DAYS, which a user could not choose. MovieLens has a second round, as in production:
both also train on the validation days, with the number of epochs (and the peer's L2) chosen in the first
round. LOG is MovieLens 100K with a header, a day column and a label; the synthetic log is generated. Stdout
ends with a line of JSON.
"""

import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean

import click
import yaml
from peers import find_driver, make_environment, run_driver, write_part
from pipeline import REPOSITORY, run_job
from rich.console import Console
from rich.table import Table

from deepfm.errors import UserError
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import load_settings

WORK = REPOSITORY / "work" / "benchmarks" / "quality"


METRICS = ("auc", "logloss")


@dataclass(frozen=True)
class Epoch:
    """Metrics of the peer after one epoch."""

    l2: str
    number: int
    auc: float
    logloss: float


@dataclass(frozen=True)
class Contest:
    """A log, its days (A:B, inclusive), and the settings of both programs."""

    data: str  # data YAML
    model: str  # model YAML
    days: dict[str, str]
    peer: str  # flags of its driver
    peer_l2: tuple[str, ...]  # one run for each
    training: dict = field(default_factory=dict)  # overrides `training` in the model YAML
    refit_days: dict[str, str] | None = None  # days of the second round
    settings: dict = field(default_factory=dict)  # overrides the model YAML


MOVIELENS = Contest(
    "conf/data/movielens.yaml",
    "conf/model/deepfm_movielens.yaml",
    # 80.3, 10.4 and 9.4 % of the rows
    {"train": "1997-09-20:1998-03-07", "valid": "1998-03-08:1998-03-31", "test": "1998-04-01:1998-04-22"},
    "--epochs 6 --batch 512 --min-count 1",
    ("1e-5", "1e-3"),
    # The last day only shows validation metrics; nothing is chosen on it.
    refit_days={
        "train": "1997-09-20:1998-03-30", "valid": "1998-03-31:1998-03-31", "test": "1998-04-01:1998-04-22"
    },
)  # fmt: skip
# The same network, batch, epoch and minimum count for both.
SYNTHETIC = Contest(
    "conf/data/criteo.yaml",
    "conf/model/deepfm.yaml",
    {"train": "2026-01-01:2026-01-05", "valid": "2026-01-06:2026-01-06", "test": "2026-01-07:2026-01-07"},
    "--epochs 1 --batch 4096 --min-count 2",
    ("1e-7",),
    {"batch_size": 4096, "max_epochs": 1},
    # Better than 0.01 on the validation day; the default of FuxiCTR.
    settings={"init_std": 0.0001},
)
CONTESTS = {"movielens": MOVIELENS, "synthetic": SYNTHETIC}


def train_ours(contest: Contest, log: Path, trainings: dict[int, dict], days: dict[str, str]) -> list[dict]:
    """Train with each seed and its changes of the `training` settings; return the test metrics."""
    dataset = WORK / f"dataset_{days['valid'][:10]}"
    paths = ("--data", contest.data, "--input", log, "--output", dataset)
    flags = [word for part, day_range in days.items() for word in (f"--{part}-days", day_range)]
    run_job("jobs/build_features.py", *paths, *flags)
    settings, summaries = yaml.safe_load((REPOSITORY / contest.model).read_text()) | contest.settings, []
    for seed, changes in trainings.items():
        settings["training"] |= {**contest.training, **changes, "seed": seed}
        model = WORK / f"model_{seed}.yaml"
        model.write_text(yaml.safe_dump(settings))
        options = ("--dataset", dataset, "--model", model, "--num-workers", 0, "--name", "quality")
        run = run_job("jobs/train.py", *options, "--tracking-uri", f"sqlite:///{WORK}/mlflow.db")
        metrics = {"auc": run["test_auc"], "logloss": run["test_logloss"], "best_epoch": run["best_epoch"]}
        summaries.append({"seed": seed, **metrics})
    return summaries


def run_rounds(contest: Contest, log: Path, seeds: list[int]) -> dict[str, tuple[list[dict], dict[str, str]]]:
    """Train ours for each round; also return the days on which the peer trains and is evaluated."""
    ours = train_ours(contest, log, {seed: {} for seed in seeds}, contest.days)
    rounds = {"as split": (ours, contest.days)}
    if contest.refit_days:
        refits = {run["seed"]: {"max_epochs": run["best_epoch"], "keep": "last"} for run in ours}
        days, first = contest.refit_days, contest.refit_days["train"].split(":")[0]
        both = {**days, "train": f"{first}:{days['valid'].split(':')[1]}"}
        rounds["with validation days in training"] = train_ours(contest, log, refits, days), both
    return rounds


def train_peer(
    contest: Contest, log: Path, peer: tuple[Path, Path], days: dict[str, str], split: str, num_runs: int
) -> list[Epoch]:
    """Train with each L2 and return the metrics of each epoch on one split, mean over the runs."""
    data = load_settings(REPOSITORY / contest.data, DataSettings)
    parts = [write_part(log, data, days[part], WORK / f"{part}.tsv") for part in ("train", split)]
    fields = ["--fields", ",".join(data.field_set.names)] if data.header else []
    epochs = []
    for l2 in contest.peer_l2:
        arguments = [*parts, str(WORK / "fuxictr"), *fields, *contest.peer.split(), "--l2", l2]
        click.secho(f"$ python {peer[1].name} {' '.join(arguments)}", fg="cyan", err=True)
        runs = [run_driver(*peer, arguments, WORK / f"fuxictr_{l2}.log")["epochs"] for _ in range(num_runs)]
        for number, run_epochs in enumerate(zip(*runs, strict=True), start=1):
            auc, logloss = (mean(epoch[metric] for epoch in run_epochs) for metric in ("AUC", "logloss"))
            epochs.append(Epoch(l2, number, auc, logloss))
    return epochs


def show(name: str, ours: list[dict], peer: list[Epoch], chosen: tuple[int, int]) -> dict[str, float]:
    """Print a table of each seed, the peer's best epoch for each L2, and the summary, which is returned.

    `chosen`: indices of the peer's epochs with the best AUC and the best logloss on the validation days.
    """
    table = Table("On the test days", "chosen by", "AUC", "logloss", title=f"DeepFM, {name}")

    def add_row(who: str, how: str, auc: float, logloss: float) -> None:
        table.add_row(who, how, f"{auc:.4f}", f"{logloss:.4f}")

    for run in ours:
        add_row(f"ours, seed {run['seed']}", "validation days", run["auc"], run["logloss"])
    for l2 in dict.fromkeys(epoch.l2 for epoch in peer):
        best = max((epoch for epoch in peer if epoch.l2 == l2), key=lambda epoch: epoch.auc)
        add_row(f"FuxiCTR, L2 {l2}, epoch {best.number}", "test days", best.auc, best.logloss)
    table.add_section()
    summary = {
        "": (mean(run["auc"] for run in ours), mean(run["logloss"] for run in ours)),
        "peer_": (peer[chosen[0]].auc, peer[chosen[1]].logloss),
        "peer_best_": (max(epoch.auc for epoch in peer), min(epoch.logloss for epoch in peer)),
    }
    add_row("ours, mean over seeds", "validation days", *summary[""])
    add_row("FuxiCTR", "validation days", *summary["peer_"])
    add_row("FuxiCTR, best of each", "test days", *summary["peer_best_"])
    Console().print(table)
    return {f"{who}{what}": v for who, pair in summary.items() for what, v in zip(METRICS, pair, strict=True)}


@click.command(help=__doc__.replace("trained in one call.\n\n", "trained in one call.\n\n\b\n"))
@click.option("--data", "name", type=click.Choice(sorted(CONTESTS)), required=True, help="Log to train on.")
@click.option("--peers", type=click.Path(path_type=Path), required=True, help="Folder of the peer's driver.")
@click.option("--log", type=click.Path(path_type=Path), help="MovieLens 100K as a click log.")
@click.option("--seeds", default="1", show_default=True, help="Train ours with each; the mean is compared.")
@click.option("--peer-runs", type=click.IntRange(min=1), default=1, show_default=True)
def main(name: str, peers: Path, log: Path | None, seeds: str, peer_runs: int) -> None:
    try:
        started, contest, driver = time.monotonic(), CONTESTS[name], find_driver(peers)
        if name == "movielens" and not (log and log.is_file()):
            raise UserError(f"expected MovieLens 100K as one file at --log, found {log or 'no --log'}")
        seed_numbers = _seeds(seeds)
        peer = make_environment(), driver
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        if name == "synthetic":
            log = WORK / "log"
            run_job("-m", "deepfm.cli.synthetic", "--days", 7, "--rows-per-day", 200_000, "--output", log)
        assert log is not None
        log = log.resolve()
        rounds = run_rounds(contest, log, seed_numbers)
        on_valid, results = train_peer(contest, log, peer, contest.days, "valid", peer_runs), []
        best_auc = max(range(len(on_valid)), key=lambda index: on_valid[index].auc)
        best_logloss = min(range(len(on_valid)), key=lambda index: on_valid[index].logloss)
        for title, (ours, days) in rounds.items():
            peer_epochs = train_peer(contest, log, peer, days, "test", peer_runs)
            summary = show(f"{name}, {title}", ours, peer_epochs, (best_auc, best_logloss))
            results.append(
                {"round": title, **summary, "ours": ours, "peer": [asdict(e) for e in peer_epochs]}
            )
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    seconds = round(time.monotonic() - started, 1)
    click.echo(json.dumps({"data": name, "rounds": results, "seconds": seconds}))


def _seeds(text: str) -> list[int]:
    if not all(seed.strip().isdigit() for seed in text.split(",")):
        raise UserError(f"--seeds: expected whole numbers such as 1,2,3, found {text}")
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    main()
