"""AUC and logloss over what was tried, as in the DeepFM paper's figures 7 to 11, and Optuna's own plots."""

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
    """By file name: of a grid one a parameter, else Optuna's; none where no trial is complete."""
    complete = [one for one in found if one.is_complete]
    if not complete:
        return {}
    if plan.space.search == "grid":
        return {f"{name}.png": of_parameter(complete, plan, name) for name in plan.space.parameters}
    name = {"target_name": f"validation {plan.goal}"}
    return {
        "history.png": _by_optuna(plots.plot_optimization_history, study, **name),
        "importances.png": _by_optuna(plots.plot_param_importances, study, **name),
        "slice.png": _by_optuna(plots.plot_slice, study, **name),
        "epochs.png": _by_optuna(plots.plot_intermediate_values, study),
    }


def _by_optuna(plot: Callable, study: optuna.Study, **settings) -> Figure:
    logging.getLogger("matplotlib.category").setLevel(logging.WARNING)  # names may look like numbers
    # It draws with pyplot, in a style that it would leave behind for all figures after it.
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its plots are experimental
        figure = np.ravel(plot(study, **settings))[0].figure
    pyplot.close(figure)
    return figure


def of_parameter(complete: Sequence[Combination], plan: TuningPlan, name: str) -> Figure:
    """AUC and logloss by one parameter: mean and standard deviation over all else that was tried."""
    tried = {one.choice[name] for one in complete}
    labels = [label for label in plan.space.parameters[name].labels if label in tried]
    chosen = best(complete, plan).choice[name]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, title in zip(figure.subplots(1, 2), ("auc", "logloss"), ("AUC", "logloss"), strict=True):
        places, are_numbers = _places(axes, labels)
        line = "-" if are_numbers else ""  # between names there is nothing
        for part, told, marker in (("valid", "validation", "o"), ("test", "test", "s")):
            values = [
                [
                    value
                    for one in complete
                    if one.choice[name] == label
                    for value in one.values(f"{part}_{key}")
                ]
                for label in labels
            ]
            _draw(axes, places, values, told, marker + line)
        axes.axvline(
            places[labels.index(chosen)], color="tab:green", linestyle=":", label="best on validation"
        )
        axes.set_title(title)
        axes.set_xlabel(plan.space.title(name))
        axes.legend()
    return figure


def _draw(
    axes: Axes, places: Sequence[float], values: Sequence[Sequence[float]], label: str, style: str
) -> None:
    errors = [stdev(of_label) if len(of_label) > 1 else 0.0 for of_label in values]
    bars = errors if any(errors) else None
    axes.errorbar(
        places, [fmean(of_label) for of_label in values], yerr=bars, fmt=style, capsize=3, label=label
    )


def _places(axes: Axes, labels: Sequence[Label]) -> tuple[list[float], bool]:
    """Where labels stand on the x-axis, names side by side; whether they are numbers, at their place."""
    numbers = [_number(label) for label in labels]
    if None not in numbers:
        axes.set_xticks(numbers, [str(label) for label in labels])
        return numbers, True
    places = [float(place) for place in range(len(labels))]
    axes.set_xticks(places, [str(label) for label in labels])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    return places, False


def _number(label: Label) -> float | None:
    try:
        return None if isinstance(label, bool) else float(label)
    except ValueError:
        return None
