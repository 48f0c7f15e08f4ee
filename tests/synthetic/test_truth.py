"""Makes of the planted truth: which parts the logit has, how rare and how noisy clicks are."""

from itertools import combinations

import numpy as np
import pytest

from deepfm.metrics.formulas import sigmoid
from deepfm.synthetic.click_log import BayesScore, generate_day
from deepfm.synthetic.codes import CATEGORIES, COUNTS, MISSING, draw_codes
from deepfm.synthetic.makes import MAKES, TruthOptions
from deepfm.synthetic.truth import FACTOR_DIM, Truth


def sample(truth, num_rows=50_000):
    return draw_codes(np.random.default_rng(5), num_rows, truth.categories)


@pytest.mark.parametrize("make", list(MAKES))
@pytest.mark.parametrize("part", ["first_order", "pairwise", "factorized"])
def test_each_part_has_the_size_of_its_make(make, part):
    truth = Truth.from_seed(3, TruthOptions(make=make))
    assert getattr(truth, part)(sample(truth)).std() == pytest.approx(
        getattr(MAKES[make], part), rel=0.1, abs=1e-9
    )


@pytest.mark.parametrize("make", list(MAKES))
def test_the_third_order_is_a_product_of_signs(make):
    truth = Truth.from_seed(3, TruthOptions(make=make))
    assert set(np.abs(truth.third_order(sample(truth)))) == {MAKES[make].third_order}


def test_the_factorized_part_is_the_sum_over_all_pairs_of_fields():
    truth = Truth.from_seed(3, TruthOptions(make="factorized"))
    codes = sample(truth, 20)
    factors = np.array([list(truth._factors(codes, dim)) for dim in range(FACTOR_DIM)])  # (dim, field, row)
    assert factors.shape[1] == len(COUNTS) + len(CATEGORIES)
    pairs = sum((factors[:, i] * factors[:, j]).sum(0) for i, j in combinations(range(factors.shape[1]), 2))
    assert truth.factorized(codes) == pytest.approx(truth.factorized_scale * pairs)


@pytest.mark.parametrize("make", list(MAKES))
@pytest.mark.parametrize("ctr", [0.002, 0.02, 0.4])
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_a_log_has_the_ctr_asked_for(make, ctr, noise):
    truth = Truth.from_seed(4, TruthOptions(make=make, ctr=ctr, noise=noise))
    assert sigmoid(truth.logit(sample(truth))).mean() == pytest.approx(ctr, rel=0.05)


def test_the_logit_with_noise_is_that_of_the_mean_probability():
    truth = Truth.from_seed(4, TruthOptions(noise=2.0))
    codes = {name: values[:1] for name, values in sample(truth).items()}
    noise = 2.0 * np.random.default_rng(1).standard_normal(1_000_000)
    drawn = sigmoid(truth.bias + truth.score(codes) + noise).mean()
    assert sigmoid(truth.logit(codes))[0] == pytest.approx(drawn, abs=0.002)


def test_noise_lowers_the_best_possible_auc():
    aucs = []
    for noise in (0.0, 1.0, 3.0):
        truth = Truth.from_seed(4, TruthOptions(noise=noise))
        table, probabilities = generate_day(truth, 0, 20_000)
        score = BayesScore()
        score.update(np.log(probabilities / (1 - probabilities)), table["label"].to_numpy())
        aucs.append(score.compute()["bayes_auc"])
    assert aucs == sorted(aucs, reverse=True) and aucs[0] - aucs[2] > 0.05


def test_the_number_of_values_is_about_the_one_asked_for():
    truth = Truth.from_seed(4, TruthOptions(num_values=30_000))
    assert sum(c.cardinality for c in truth.categories.values()) == pytest.approx(30_000, rel=0.01)
    for name, codes in sample(truth).items():
        if name in CATEGORIES:
            assert codes.max() < truth.categories[name].cardinality
            assert codes.min() >= (MISSING if CATEGORIES[name].missing else 0)


def test_values_that_are_never_replaced_keep_their_number():
    truth = Truth.from_seed(4, TruthOptions(num_values=30_000))
    assert truth.categories["C5"] == CATEGORIES["C5"]
