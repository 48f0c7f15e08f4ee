"""Results of a study: one row per combination, and the best settings as a YAML for train.py."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from deepfm.experiments.tune.plan import TuningPlan, without_seed
from deepfm.experiments.tune.space import SEED, Choice
from deepfm.experiments.tune.study import TrialResult
from deepfm.settings.loader import yaml_text

METRIC_NAMES = ("valid_auc", "valid_logloss", "test_auc", "test_logloss")


@dataclass(frozen=True)
class Combination:
    """Trials of one choice; several seeds in a grid."""

    choice: Choice  # without the seed
    trials: tuple[TrialResult, ...]
    num_seeds: int

    @property
    def is_complete(self) -> bool:
        """Whether all trainings are complete: the mean of only some of them would be biased."""
        return [trial.state for trial in self.trials] == ["complete"] * self.num_seeds

    @property
    def states(self) -> str:
        """Number of trials by state."""
        return ", ".join(
            state if count == 1 else f"{count} {state}"
            for state, count in Counter(trial.state for trial in self.trials).items()
        )

    def mean(self, metric: str) -> float | None:
        """Mean over the trials that have the metric; None if there are none."""
        values = self.values(metric)
        return fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over the seeds; None for a single seed."""
        values = self.values(metric)
        return stdev(values) if len(values) > 1 else None

    def values(self, metric: str) -> list[float]:
        """Values of a metric, of the trials that have it."""
        return [trial.metrics[metric] for trial in self.trials if metric in trial.metrics]


def combinations(trials: Iterable[TrialResult], plan: TuningPlan) -> list[Combination]:
    """Group trials by their choice; a grid in the order of the space, otherwise the best first.

    Failed trials that were repeated are left out.
    """
    tried: dict[tuple, list[TrialResult]] = {}
    for trial in trials:
        # A killed trial may have no choice yet.
        has_chosen = plan.space.parameters.keys() <= trial.choice.keys()
        if has_chosen and not trial.tried_again and trial.state not in ("waiting", "running"):
            # Trials of a TPE study are not grouped, even if two have the same choice.
            number = () if SEED in trial.choice else (trial.number,)
            tried.setdefault((*sorted(without_seed(trial.choice).items()), *number), []).append(trial)
    groups = [
        Combination(without_seed(group[0].choice), tuple(group), plan.num_seeds) for group in tried.values()
    ]
    if plan.space.search == "grid":
        parameters = plan.space.parameters.items()
        return sorted(
            groups, key=lambda group: [p.labels.index(group.choice[name]) for name, p in parameters]
        )
    return sorted(groups, key=lambda group: _rank(group, plan))


def best(found: Sequence[Combination], plan: TuningPlan) -> Combination | None:
    """Best complete combination on the validation rows; None if none is complete."""
    return min((one for one in found if one.is_complete), key=lambda one: _rank(one, plan), default=None)


def _rank(combination: Combination, plan: TuningPlan) -> tuple[bool, float]:
    """Sort key: lower is better, incomplete combinations come last."""
    value = combination.mean(f"valid_{plan.goal}")
    if value is None:
        return True, float("inf")
    return not combination.is_complete, -value if plan.goal == "auc" else value


def best_yaml(chosen: Combination, plan: TuningPlan) -> str:
    """Settings of a combination as a model YAML for train.py."""
    tried = ", ".join(f"{name} = {label}" for name, label in chosen.choice.items())
    value = chosen.mean(f"valid_{plan.goal}")
    # One line, whatever a label holds.
    head = " ".join(f"Best of a study, with validation {plan.goal} {value:.5f}: {tried}".split())
    return f"# {head}\n{yaml_text(plan.settings_of(chosen.choice))}"


def best_summary(chosen: Combination | None, yaml_path: Path) -> dict:
    """Summary of the best combination for the output of a job: choice, metrics, path of its YAML."""
    if chosen is None:
        return {"best": None, "best_model": None}
    metrics = {metric: chosen.mean(metric) for metric in (*METRIC_NAMES, "epochs")}
    return {"best": chosen.choice, **metrics, "best_model": str(yaml_path)}


def counts(trials: Sequence[TrialResult]) -> dict[str, int]:
    """Number of trials by final state."""
    states = Counter(trial.state for trial in trials)
    return {state: states[state] for state in ("complete", "pruned", "diverged", "failed")}


def markdown(found: Sequence[Combination], plan: TuningPlan) -> str:
    """Table in Markdown, with the best combination in bold."""
    names = list(plan.space.parameters)
    titles = ["validation: AUC", "logloss", "test: AUC", "logloss", "epochs"]
    head = [*(plan.space.title(name) for name in names), *titles, "trial"]
    lines = [head, [*["---"] * len(names), *["---:"] * len(titles), "---"]]
    chosen = best(found, plan)
    for one in found:
        labels = [_label(one.choice[name]) for name in names]
        metrics = [_with_spread(one, metric) for metric in METRIC_NAMES]
        epochs = one.mean("epochs")
        numbers = ", ".join(str(trial.number) for trial in one.trials)
        cells = [*labels, *metrics, "" if epochs is None else f"{epochs:.3g}", f"{numbers}: {one.states}"]
        lines.append([f"**{cell}**" if one is chosen and cell else cell for cell in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(trials: Sequence[TrialResult], plan: TuningPlan) -> str:
    """Table in CSV with one row per trial."""
    names = [*plan.space.parameters, *([SEED] if plan.space.search == "grid" else [])]
    metric_names = (*METRIC_NAMES, "epochs", "samples_per_s", "num_weights")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", *names, *metric_names, "reason"])
    for trial in trials:
        choice = [trial.choice.get(name, "") for name in names]
        metrics = [trial.metrics.get(metric, "") for metric in metric_names]
        writer.writerow([trial.number, trial.state, *choice, *metrics, trial.reason])
    return text.getvalue()


def _label(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_spread(one: Combination, metric: str) -> str:
    mean, spread = one.mean(metric), one.spread(metric)
    return "" if mean is None else f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
