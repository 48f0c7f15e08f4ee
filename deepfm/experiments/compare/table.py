"""Results of a comparison as Markdown, CSV and bar charts, next to the values of the DeepFM paper."""

import csv
import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from deepfm.experiments.compare.comparison import ModelResult

#: Names of the models in the DeepFM paper.
TITLES = {
    "lr": "LR",
    "fm": "FM",
    "fnn": "FNN",
    "ipnn": "IPNN",
    "opnn": "OPNN",
    "pnn": "PNN*",
    "wide_deep": "LR & DNN",
    "fm_dnn": "FM & DNN",
    "dnn": "DNN",
    "deepfm": "DeepFM",
}
#: AUC and logloss on Criteo's 45 million impressions: Guo et al. 2017, Table 2.
PAPER = {
    "lr": (0.7686, 0.47762),
    "fm": (0.7892, 0.46077),
    "fnn": (0.7963, 0.45738),
    "ipnn": (0.7972, 0.45323),
    "opnn": (0.7982, 0.45256),
    "pnn": (0.7987, 0.45214),
    "wide_deep": (0.7981, 0.46772),
    "fm_dnn": (0.7850, 0.45382),
    "deepfm": (0.8007, 0.45083),
}


def table_rows(results: Sequence[ModelResult]) -> list[dict]:
    """One row per model: means over the seeds, and in `_spread` their standard deviation (None for one seed).

    `time_over_lr` is the training time divided by that of LR, or None without LR.
    """
    lr_seconds = next((result.mean("train_seconds") for result in results if result.model == "lr"), None)
    rows = []
    for result in results:
        paper_auc, paper_logloss = PAPER.get(result.model, (None, None))
        rows.append(
            {
                "model": result.model,
                "auc": result.mean("test_auc"),
                "auc_spread": result.spread("test_auc"),
                "logloss": result.mean("test_logloss"),
                "logloss_spread": result.spread("test_logloss"),
                "train_seconds": result.mean("train_seconds"),
                "time_over_lr": lr_seconds and result.mean("train_seconds") / lr_seconds,
                "epochs": result.mean("epochs"),
                "samples_per_s": result.mean("samples_per_s"),
                "num_weights": result.num_weights,
                "paper_auc": paper_auc,
                "paper_logloss": paper_logloss,
            }
        )
    return rows


def markdown(rows: Sequence[dict]) -> str:
    """Table in Markdown."""
    head = ["", "AUC", "logloss", "time / LR", "epochs", "samples/s", "weights", "paper: AUC", "logloss"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        lines.append(
            [
                TITLES.get(row["model"], row["model"]),
                _with_spread(row["auc"], row["auc_spread"], 4),
                _with_spread(row["logloss"], row["logloss_spread"], 4),
                _number(row["time_over_lr"], ".2f"),
                _number(row["epochs"], ".3g"),
                _number(row["samples_per_s"], ",.0f"),
                _number(row["num_weights"], ",d"),
                _number(row["paper_auc"], ".4f"),
                _number(row["paper_logloss"], ".5f"),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(rows: Sequence[dict]) -> str:
    """Table in CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def bar_chart(rows: Sequence[dict]) -> Figure:
    """Bar charts of AUC, logloss and training time over LR's (figure 6 of the paper)."""
    panels = [("auc", "AUC"), ("logloss", "logloss"), ("time_over_lr", "training time / LR")]
    panels = [(key, title) for key, title in panels if all(row[key] is not None for row in rows)]
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        values = [row[key] for row in rows]
        errors = [row.get(f"{key}_spread") or 0.0 for row in rows]
        names = [TITLES.get(row["model"], row["model"]) for row in rows]
        colours = ["tab:red" if row["model"] == "deepfm" else "tab:blue" for row in rows]
        axes.bar(names, values, yerr=errors if any(errors) else None, color=colours)
        axes.set_title(title)
        axes.tick_params(axis="x", rotation=60)
        if key != "time_over_lr":
            # With an axis from zero, differences in the third digit would be invisible.
            margin = 0.15 * (max(values) - min(values)) + 1e-4
            axes.set_ylim(min(values) - margin, max(values) + margin)
    return figure


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _with_spread(value: float, spread: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
