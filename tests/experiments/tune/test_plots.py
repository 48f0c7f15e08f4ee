"""Plots of a study."""

import io

import matplotlib
import pytest

from deepfm.experiments.tune.plots import study_figures
from deepfm.experiments.tune.results import combinations
from deepfm.experiments.tune.study import METRICS, choose, opened_study, results_of, run_trials


def run_study(study, plan, num_trials, logloss):
    """Run trials whose logloss is a function of the choice, AUC 1 - logloss; return the combinations."""

    def objective(trial):
        value = logloss(choose(trial, plan))
        valid = {"valid_logloss": value, "valid_auc": 1 - value}
        trial.set_user_attr(METRICS, valid | {"test_logloss": value + 0.1, "test_auc": 0.9 - value})
        trial.report(value, 1)
        return value

    for _ in run_trials(study, plan, num_trials, objective, lambda: False):
        pass
    return combinations(results_of(study), plan)


def read_plot(figure):
    """Return [(tick labels, {curve label: points}, is joined by a line)] of the axes."""
    panels = []
    for axes in figure.axes:
        curves = {
            str(container.get_label()): [tuple(point) for point in container.lines[0].get_xydata().tolist()]
            for container in axes.containers
        }
        joined = axes.containers[0].lines[0].get_linestyle() != "None"
        panels.append(([tick.get_text() for tick in axes.get_xticklabels()], curves, joined))
    return panels


def test_numbers_have_a_numeric_axis_and_a_line_of_means_over_seeds(plan_of, tmp_path):
    plan = plan_of({"embedding_dim": [2, 4, 16]}, seeds=2)
    with opened_study(str(tmp_path), "study", plan) as study:
        values = {2: 0.4, 4: 0.2, 16: 0.3}
        results = run_study(study, plan, 6, lambda c: values[c["embedding_dim"]] + c["training.seed"] / 100)
        (file, figure), *others = study_figures(study, results, plan).items()
    assert (file, others) == ("embedding_dim.png", [])
    (_, auc_curves, _), (ticks, logloss_curves, joined) = read_plot(figure)
    assert (ticks, joined) == (["2", "4", "16"], True)
    expected = [(2.0, 0.415), (4.0, 0.215), (16.0, 0.315)]
    assert [value for point in logloss_curves["validation"] for value in point] == pytest.approx(
        sum(expected, ())
    )
    assert auc_curves["test"][1] == pytest.approx((4.0, 0.685))
    marked = [line for line in figure.axes[1].lines if line.get_label() == "best on validation"]
    assert marked[0].get_xdata()[0] == 4.0


def test_names_have_a_categorical_axis_without_a_line(plan_of, tmp_path):
    parameter = {"values": ["relu", "tanh"], "title": "activation"}
    plan = plan_of({"deep.activation": parameter})
    with opened_study(str(tmp_path), "study", plan) as study:
        results = run_study(study, plan, 2, lambda c: {"relu": 0.2, "tanh": 0.3}[c["deep.activation"]])
        figure = study_figures(study, results, plan)["deep.activation.png"]
    ticks, curves, joined = read_plot(figure)[1]
    assert (ticks, joined, curves["validation"]) == (["relu", "tanh"], False, [(0.0, 0.2), (1.0, 0.3)])
    assert figure.axes[0].get_xlabel() == "activation"


def test_a_search_is_drawn_by_optuna_without_changing_the_style(plan_of, tmp_path):
    plan = plan_of(
        {"deep.dropout": {"low": 0.0, "high": 0.5}, "deep.activation": ["relu", "tanh"]}, search="tpe"
    )
    style = dict(matplotlib.rcParams)
    with opened_study(str(tmp_path), "study", plan) as study:
        results = run_study(study, plan, 4, lambda choice: 0.2 + choice["deep.dropout"])
        files = study_figures(study, results, plan)
    assert set(files) == {"history.png", "importances.png", "slice.png", "epochs.png"}
    assert dict(matplotlib.rcParams) == style
    for figure in files.values():
        picture = io.BytesIO()
        figure.savefig(picture)
        assert len(picture.getvalue()) > 5000


def test_plots_need_at_least_one_complete_trial(plan_of, tmp_path):
    plan = plan_of({"deep.dropout": {"low": 0.0, "high": 0.5}, "embedding_dim": [2, 4]}, search="tpe")
    with opened_study(str(tmp_path), "study", plan) as study:
        assert study_figures(study, [], plan) == {}
        assert len(study_figures(study, run_study(study, plan, 1, lambda choice: 0.2), plan)) == 4
