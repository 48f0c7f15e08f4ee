"""What the plots of a study show."""

import io

import matplotlib
import pytest

from deepfm.experiments.tune.plots import study_figures
from deepfm.experiments.tune.results import combinations
from deepfm.experiments.tune.study import METRICS, choose, opened_study, results_of, run_trials


def found_by(study, plan, num_trials, logloss):
    """The combinations of a study whose trials have that logloss, by their choice; AUC is 1 - logloss."""

    def objective(trial):
        value = logloss(choose(trial, plan))
        valid = {"valid_logloss": value, "valid_auc": 1 - value}
        trial.set_user_attr(METRICS, valid | {"test_logloss": value + 0.1, "test_auc": 0.9 - value})
        trial.report(value, 1)
        return value

    for _ in run_trials(study, plan, num_trials, objective, lambda: False):
        pass
    return combinations(results_of(study), plan)


def drawn(figure):
    """[(ticks' labels, {curve's label: its points}, is joined)] of the axes."""
    panels = []
    for axes in figure.axes:
        curves = {
            str(container.get_label()): [tuple(point) for point in container.lines[0].get_xydata().tolist()]
            for container in axes.containers
        }
        joined = axes.containers[0].lines[0].get_linestyle() != "None"
        panels.append(([tick.get_text() for tick in axes.get_xticklabels()], curves, joined))
    return panels


def test_numbers_stand_at_their_place_and_are_joined_with_means_over_seeds(plan_of, tmp_path):
    plan = plan_of({"embedding_dim": [2, 4, 16]}, seeds=2)
    with opened_study(str(tmp_path), "study", plan) as study:
        values = {2: 0.4, 4: 0.2, 16: 0.3}
        found = found_by(study, plan, 6, lambda c: values[c["embedding_dim"]] + c["training.seed"] / 100)
        (file, figure), *others = study_figures(study, found, plan).items()
    assert (file, others) == ("embedding_dim.png", [])
    (_, of_auc, _), (ticks, of_logloss, joined) = drawn(figure)
    assert (ticks, joined) == (["2", "4", "16"], True)
    expected = [(2.0, 0.415), (4.0, 0.215), (16.0, 0.315)]
    assert [value for point in of_logloss["validation"] for value in point] == pytest.approx(
        sum(expected, ())
    )
    assert of_auc["test"][1] == pytest.approx((4.0, 0.685))
    marked = [line for line in figure.axes[1].lines if line.get_label() == "best on validation"]
    assert marked[0].get_xdata()[0] == 4.0


def test_names_stand_side_by_side_and_are_not_joined(plan_of, tmp_path):
    parameter = {"values": ["relu", "tanh"], "title": "activation"}
    plan = plan_of({"deep.activation": parameter})
    with opened_study(str(tmp_path), "study", plan) as study:
        found = found_by(study, plan, 2, lambda c: {"relu": 0.2, "tanh": 0.3}[c["deep.activation"]])
        figure = study_figures(study, found, plan)["deep.activation.png"]
    ticks, curves, joined = drawn(figure)[1]
    assert (ticks, joined, curves["validation"]) == (["relu", "tanh"], False, [(0.0, 0.2), (1.0, 0.3)])
    assert figure.axes[0].get_xlabel() == "activation"


def test_a_search_is_drawn_by_optuna_and_leaves_no_style_behind(plan_of, tmp_path):
    plan = plan_of(
        {"deep.dropout": {"low": 0.0, "high": 0.5}, "deep.activation": ["relu", "tanh"]}, search="tpe"
    )
    style = dict(matplotlib.rcParams)
    with opened_study(str(tmp_path), "study", plan) as study:
        found = found_by(study, plan, 4, lambda choice: 0.2 + choice["deep.dropout"])
        files = study_figures(study, found, plan)
    assert set(files) == {"history.png", "importances.png", "slice.png", "epochs.png"}
    assert dict(matplotlib.rcParams) == style
    for figure in files.values():
        picture = io.BytesIO()
        figure.savefig(picture)
        assert len(picture.getvalue()) > 5000


def test_one_complete_trial_is_drawn_and_without_one_nothing(plan_of, tmp_path):
    plan = plan_of({"deep.dropout": {"low": 0.0, "high": 0.5}, "embedding_dim": [2, 4]}, search="tpe")
    with opened_study(str(tmp_path), "study", plan) as study:
        assert study_figures(study, [], plan) == {}
        assert len(study_figures(study, found_by(study, plan, 1, lambda choice: 0.2), plan)) == 4
