"""Test logloss of LR, FM, the joint DeepFM of its paper and the default DeepFM on logs of several makes.

    python benchmarks/robustness.py [--makes deep,factorized] [--rows 50000,250000] [--ctrs 0.25,0.02]

Every model is trained by the code of a worker, in one process, with its YAML in conf/model; the joint DeepFM
has the settings of compare.py. The test day has 200,000 rows or more. Time is that of training and validation
up to the end of the best epoch, earlier stages included. Results are kept in --output, a line of JSON for
each model, and are not computed again. Stdout ends with a Markdown table.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean

import click
from pipeline import REPOSITORY
from synthetic_data import write_synthetic_dataset

from deepfm.distributed.collectives import SingleProcess
from deepfm.experiments.compare.plan import as_in_paper
from deepfm.launch.job_spec import TrainJob
from deepfm.launch.rank.stages import run_worker
from deepfm.settings.loader import load_settings
from deepfm.settings.model import ModelSettings
from deepfm.synthetic.makes import MAKES, TruthOptions
from deepfm.synthetic.truth import Truth
from deepfm.training.result import TrainingResult

WORK = REPOSITORY / "work" / "benchmarks" / "robustness"
MODELS = ("lr", "fm", "joint", "default")
NUM_TEST_ROWS = 200_000


@dataclass(frozen=True)
class Cell:
    """One kind of log."""

    make: str
    rows: int  # of training
    ctr: float
    seed: int


@dataclass(frozen=True)
class Result:
    """One model on one log."""

    make: str
    rows: int
    ctr: float
    seed: int
    model: str
    logloss: float
    auc: float
    calibration: float
    uncalibrated_logloss: float
    uncalibrated_calibration: float
    seconds_to_best: float
    seconds: float
    epochs: list[int]  # of each stage
    best: list[int]
    bayes_logloss: float
    bayes_auc: float


def settings_of(model: str, seed: int) -> ModelSettings:
    """Settings of a model with a seed."""
    name = model if model in ("lr", "fm") else "deepfm"
    settings = load_settings(REPOSITORY / f"conf/model/{name}.yaml", ModelSettings)
    settings = as_in_paper(settings) if model == "joint" else settings
    training = settings.training.model_copy(update={"seed": seed, "save_optimizer": False})
    return settings.model_copy(update={"training": training})


def seconds_to_best(result: TrainingResult) -> float:
    """Time up to the end of the best epoch of all stages."""
    total = best = 0.0
    for history in result.stages.values():
        if history.best:
            best = total + history.seconds_to_best
        total += history.seconds
    return best


def train_cell(cell: Cell, models: list[str], num_threads: int) -> Iterator[Result]:
    """Write the dataset of a log and train models on it."""
    truth = Truth.from_seed(cell.seed, TruthOptions(make=cell.make, ctr=cell.ctr))
    parent = WORK / f"{cell.make}_{cell.ctr:g}_{cell.rows}_{cell.seed}"  # several runs may share WORK
    folder, run = parent / "dataset", parent / "run"
    bayes = write_synthetic_dataset(folder, truth, cell.rows, max(NUM_TEST_ROWS, cell.rows // 5))
    for model in models:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        job = TrainJob(f"file://{folder}", f"file://{run}", settings_of(model, cell.seed), num_threads)
        result = run_worker(job, SingleProcess())
        assert result.test is not None
        before = result.uncalibrated.get("test", result.test)
        yield Result(
            **asdict(cell),
            model=model,
            logloss=result.test.logloss,
            auc=result.test.auc,
            calibration=result.test.calibration,
            uncalibrated_logloss=before.logloss,
            uncalibrated_calibration=before.calibration,
            seconds_to_best=seconds_to_best(result),
            seconds=sum(history.seconds for history in result.stages.values()),
            epochs=[len(history.epochs) for history in result.stages.values()],
            best=[history.best for history in result.stages.values()],
            bayes_logloss=bayes["bayes_logloss"],
            bayes_auc=bayes["bayes_auc"],
        )
    shutil.rmtree(parent)


def markdown(results: list[Result]) -> str:
    """Table of the test loglosses, means over seeds, the lowest of the others in the last columns."""
    lines = [
        ["log", "CTR", "rows", "Bayes", *MODELS, "default - best other", "time / joint", "calibration"],
        ["---", *["---:"] * 10],
    ]
    cells = dict.fromkeys((one.make, one.ctr, one.rows) for one in results)
    for make, ctr, rows in cells:
        of_cell = [one for one in results if (one.make, one.ctr, one.rows) == (make, ctr, rows)]
        by_model = {model: [one for one in of_cell if one.model == model] for model in MODELS}
        if not all(by_model.values()):
            continue
        loss = {model: mean(one.logloss for one in ones) for model, ones in by_model.items()}
        times = {model: mean(one.seconds_to_best for one in ones) for model, ones in by_model.items()}
        error = mean(abs(one.calibration - 1) for one in by_model["default"])
        lines.append(
            [
                make,
                f"{ctr:g}",
                f"{rows:,}",
                f"{mean(one.bayes_logloss for one in of_cell):.4f}",
                *(f"{loss[model]:.4f}" for model in MODELS),
                f"{loss['default'] - min(loss[model] for model in MODELS[:-1]):+.4f}",
                f"{times['default'] / times['joint']:.2f}",
                f"{100 * error:.1f} %",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _list(kind: type):
    return lambda context, option, text: [kind(word) for word in text.split(",")]


@click.command(help=__doc__)
@click.option("--makes", default=",".join(MAKES), show_default=True, callback=_list(str))
@click.option("--rows", default="50000,250000,1000000", show_default=True, callback=_list(int))
@click.option("--ctrs", default="0.25,0.02", show_default=True, callback=_list(float))
@click.option("--seeds", default="1", show_default=True, callback=_list(int))
@click.option("--models", default=",".join(MODELS), show_default=True, callback=_list(str))
@click.option("--num-threads", default=2, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=WORK / "results.jsonl", show_default=True)
def main(makes, rows, ctrs, seeds, models, num_threads, output) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = output.read_text().splitlines() if output.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    # The smallest first, so that an interrupted run has complete tables.
    for num_rows, ctr, make, seed in product(rows, ctrs, makes, seeds):
        cell = Cell(make, num_rows, ctr, seed)
        done = {one.model for one in results if Cell(one.make, one.rows, one.ctr, one.seed) == cell}
        missing = [model for model in models if model not in done]
        started = time.monotonic()
        for result in train_cell(cell, missing, num_threads) if missing else ():
            results.append(result)
            with output.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
            click.echo(
                f"{cell} {result.model}: logloss {result.logloss:.5f} calibration {result.calibration:.4f} "
                f"epochs {result.epochs} best {result.best} {time.monotonic() - started:.0f} s",
                err=True,
            )
    click.echo(markdown(results))


if __name__ == "__main__":
    main()
