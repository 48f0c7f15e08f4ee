"""What a study found: a row a combination, and the best one's settings as a YAML for train.py."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from deepfm.experiments.tune.plan import TuningPlan, of_seed
from deepfm.experiments.tune.space import SEED, Choice
from deepfm.experiments.tune.study import TrialResult
from deepfm.settings.loader import yaml_text

FIGURES = ("valid_auc", "valid_logloss", "test_auc", "test_logloss")


@dataclass(frozen=True)
class Combination:
    """The trials of one choice, of several seeds in a grid."""

    choice: Choice  # without the seed
    trials: tuple[TrialResult, ...]
    num_seeds: int

    @property
    def is_complete(self) -> bool:
        """Whether all its trainings went to their end: a mean of the lucky ones would flatter it."""
        return [trial.state for trial in self.trials] == ["complete"] * self.num_seeds

    @property
    def states(self) -> str:
        return ", ".join(
            state if count == 1 else f"{count} {state}"
            for state, count in Counter(trial.state for trial in self.trials).items()
        )

    def mean(self, figure: str) -> float | None:
        """Over the trials that have the figure; None where none has."""
        values = self.values(figure)
        return fmean(values) if values else None

    def spread(self, figure: str) -> float | None:
        """Standard deviation over the seeds; None of one."""
        values = self.values(figure)
        return stdev(values) if len(values) > 1 else None

    def values(self, figure: str) -> list[float]:
        return [trial.metrics[figure] for trial in self.trials if figure in trial.metrics]


def combinations(trials: Iterable[TrialResult], plan: TuningPlan) -> list[Combination]:
    """Trials by what they tried; of a grid in the space's order, else the best first.

    Those that failed and were tried again are told by their successors.
    """
    tried: dict[tuple, list[TrialResult]] = {}
    for trial in trials:
        has_chosen = plan.space.parameters.keys() <= trial.choice.keys()  # one may be killed before it has
        if has_chosen and not trial.tried_again and trial.state not in ("waiting", "running"):
            # Each of a TPE study by itself, though two may have tried the same.
            number = () if SEED in trial.choice else (trial.number,)
            tried.setdefault((*sorted(of_seed(trial.choice).items()), *number), []).append(trial)
    found = [Combination(of_seed(group[0].choice), tuple(group), plan.num_seeds) for group in tried.values()]
    if plan.space.search == "grid":
        parameters = plan.space.parameters.items()
        return sorted(found, key=lambda one: [p.labels.index(one.choice[name]) for name, p in parameters])
    return sorted(found, key=lambda one: _rank(one, plan))


def best(found: Sequence[Combination], plan: TuningPlan) -> Combination | None:
    """The best on the validation rows, of those complete; None where none is."""
    return min((one for one in found if one.is_complete), key=lambda one: _rank(one, plan), default=None)


def _rank(combination: Combination, plan: TuningPlan) -> tuple[bool, float]:
    """Lower is better; what is not complete comes last."""
    value = combination.mean(f"valid_{plan.goal}")
    if value is None:
        return True, float("inf")
    return not combination.is_complete, -value if plan.goal == "auc" else value


def best_yaml(chosen: Combination, plan: TuningPlan) -> str:
    """The settings as a model's YAML, ready for train.py."""
    tried = ", ".join(f"{name} = {label}" for name, label in chosen.choice.items())
    value = chosen.mean(f"valid_{plan.goal}")
    # One line, whatever a label holds.
    head = " ".join(f"The best of a study, with validation {plan.goal} {value:.5f}: {tried}".split())
    return f"# {head}\n{yaml_text(plan.settings_of(chosen.choice))}"


def summary_of(chosen: Combination | None, yaml_path: Path) -> dict:
    """What a job says of the best: what it tried, its figures, and where its YAML is."""
    if chosen is None:
        return {"best": None, "best_model": None}
    figures = {figure: chosen.mean(figure) for figure in (*FIGURES, "epochs")}
    return {"best": chosen.choice, **figures, "best_model": str(yaml_path)}


def counts(trials: Sequence[TrialResult]) -> dict[str, int]:
    """How many trials ended how."""
    states = Counter(trial.state for trial in trials)
    return {state: states[state] for state in ("complete", "pruned", "diverged", "failed")}


def markdown(found: Sequence[Combination], plan: TuningPlan) -> str:
    """The table for people; the best in bold."""
    names = list(plan.space.parameters)
    titles = ["validation: AUC", "logloss", "test: AUC", "logloss", "epochs"]
    head = [*(plan.space.title(name) for name in names), *titles, "trial"]
    lines = [head, [*["---"] * len(names), *["---:"] * len(titles), "---"]]
    chosen = best(found, plan)
    for one in found:
        labels = [_label(one.choice[name]) for name in names]
        figures = [_with_spread(one, figure) for figure in FIGURES]
        epochs = one.mean("epochs")
        numbers = ", ".join(str(trial.number) for trial in one.trials)
        cells = [*labels, *figures, "" if epochs is None else f"{epochs:.3g}", f"{numbers}: {one.states}"]
        lines.append([f"**{cell}**" if one is chosen and cell else cell for cell in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(trials: Sequence[TrialResult], plan: TuningPlan) -> str:
    """The table for machines: a row a trial."""
    names = [*plan.space.parameters, *([SEED] if plan.space.search == "grid" else [])]
    figures = (*FIGURES, "epochs", "samples_per_s", "num_weights")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", *names, *figures, "reason"])
    for trial in trials:
        choice = [trial.choice.get(name, "") for name in names]
        measured = [trial.metrics.get(figure, "") for figure in figures]
        writer.writerow([trial.number, trial.state, *choice, *measured, trial.reason])
    return text.getvalue()


def _label(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _with_spread(one: Combination, figure: str) -> str:
    mean, spread = one.mean(figure), one.spread(figure)
    return "" if mean is None else f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
