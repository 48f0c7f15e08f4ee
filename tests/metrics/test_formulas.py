"""Sigmoid and logloss compared with their definitions."""

import math

import numpy as np
import pytest

from deepfm.metrics.formulas import logloss, sigmoid


def test_logloss_is_the_negative_logarithm_of_the_probability_of_the_label():
    logits = np.array([-2.0, 0.0, 3.0])
    probabilities = sigmoid(logits)
    assert logloss(logits, np.ones(3)) == pytest.approx(-np.log(probabilities), rel=1e-12)
    assert logloss(logits, np.zeros(3)) == pytest.approx(-np.log(1 - probabilities), rel=1e-12)
    assert probabilities[0] == pytest.approx(1 / (1 + math.exp(2)))


def test_logloss_of_an_extreme_logit_is_finite():
    assert logloss(np.array([-800.0, 800.0]), np.array([1.0, 0.0])).tolist() == [800.0, 800.0]
