"""Plots of a study: by parameter, as in figures 7 to 11 of the DeepFM paper, and those of Optuna."""

import logging
import warnings
from collections.abc import Callable, Sequence
from statistics import fmean, stdev

import matplotlib
import numpy as np
import optuna
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.visualization import matplotlib as plots

from deepfm.experiments.tune.plan import TuningPlan
from deepfm.experiments.tune.results import Combination, best
from deepfm.experiments.tune.space import Label


def study_figures(study: optuna.Study, found: Sequence[Combination], plan: TuningPlan) -> dict[str, Figure]:
    """Plots by file name: one per parameter for a grid, else Optuna's; empty without complete trials."""
    complete = [one for one in found if one.is_complete]
    if not complete:
        return {}
    if plan.space.search == "grid":
        return {f"{name}.png": parameter_plot(complete, plan, name) for name in plan.space.parameters}
    name = {"target_name": f"validation {plan.goal}"}
    return {
        "history.png": _optuna_plot(plots.plot_optimization_history, study, **name),
        "importances.png": _optuna_plot(plots.plot_param_importances, study, **name),
        "slice.png": _optuna_plot(plots.plot_slice, study, **name),
        "epochs.png": _optuna_plot(plots.plot_intermediate_values, study),
    }


def _optuna_plot(plot: Callable, study: optuna.Study, **settings) -> Figure:
    # At INFO it reports names that look like numbers.
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)
    # Optuna sets a pyplot style, which must not affect later figures.
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its plots are experimental
        figure = np.ravel(plot(study, **settings))[0].figure
    pyplot.close(figure)
    return figure


def parameter_plot(complete: Sequence[Combination], plan: TuningPlan, name: str) -> Figure:
    """AUC and logloss by one parameter: mean and standard deviation over all other parameters."""
    tried = {one.choice[name] for one in complete}
    labels = [label for label in plan.space.parameters[name].labels if label in tried]
    best_one = best(complete, plan)
    assert best_one is not None
    chosen = best_one.choice[name]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, title in zip(figure.subplots(1, 2), ("auc", "logloss"), ("AUC", "logloss"), strict=True):
        positions, are_numbers = _positions(axes, labels)
        line = "-" if are_numbers else ""  # a line between categories has no meaning
        for part, title_of_part, marker in (("valid", "validation", "o"), ("test", "test", "s")):
            values = [
                [
                    value
                    for one in complete
                    if one.choice[name] == label
                    for value in one.values(f"{part}_{key}")
                ]
                for label in labels
            ]
            _draw(axes, positions, values, title_of_part, marker + line)
        axes.axvline(
            positions[labels.index(chosen)], color="tab:green", linestyle=":", label="best on validation"
        )
        axes.set_title(title)
        axes.set_xlabel(plan.space.title(name))
        axes.legend()
    return figure


def _draw(
    axes: Axes, positions: Sequence[float], values: Sequence[Sequence[float]], label: str, style: str
) -> None:
    errors = [stdev(label_values) if len(label_values) > 1 else 0.0 for label_values in values]
    bars = errors if any(errors) else None
    axes.errorbar(
        positions,
        [fmean(label_values) for label_values in values],
        yerr=bars,
        fmt=style,
        capsize=3,
        label=label,
    )


def _positions(axes: Axes, labels: Sequence[Label]) -> tuple[list[float], bool]:
    """Positions of labels on the x-axis, and whether the labels are numbers."""
    numbers = [number for label in labels if (number := _number(label)) is not None]
    if len(numbers) == len(labels):
        axes.set_xticks(numbers, [str(label) for label in labels])
        return numbers, True
    positions = [float(index) for index in range(len(labels))]
    axes.set_xticks(positions, [str(label) for label in labels])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    return positions, False


def _number(label: Label) -> float | None:
    try:
        return None if isinstance(label, bool) else float(label)
    except ValueError:
        return None
