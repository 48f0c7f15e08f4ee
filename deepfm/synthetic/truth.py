"""The planted truth of the synthetic click log: the logit that the values of an impression determine.

    logit = bias + first_order + pairwise + factorized + third_order

LR can learn the first part only, FM the first three, DeepFM all four. A `make` gives each part its size.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from deepfm.metrics.formulas import logit_of, sigmoid
from deepfm.synthetic.codes import (
    CATEGORIES,
    COUNTS,
    MIN_WIDE_CARDINALITY,
    MISSING,
    Category,
    Codes,
    draw_codes,
    mix,
    scaled_categories,
)
from deepfm.synthetic.makes import DEFAULT_OPTIONS, MAKES, Make, TruthOptions

# The fields of PAIRS have few values and are rarely missing, so that 250,000 impressions contain every
# combination often. The triple's values are equally frequent, half of them +1 and half -1, so each sign has
# mean zero, and their product has no effects of lower order.
# The triple's fields also occur in pairs: gradient descent would overfit rare values before it discovers an
# isolated product of three signs, because no single step towards it lowers the loss. With the second-order
# effects, a DeepFM learns it within one epoch of 250,000 impressions.
PAIRS = (("C17", "C20"), ("C20", "C23"), ("C5", "C6"))
TRIPLE = ("C17", "C20", "C23")
LATENT_DIM = 2
SIGN_IN_LATENT = 1.5  # first latent dimension of triple fields: their sign times this; others Normal(0, 1)
FACTOR_DIM = 4  # of the latent vectors of `factorized`, which all values of all fields have
_NUM_NOISE_NODES = 40  # of the quadrature over the noise; 20 give the same six digits up to a deviation of 3


@dataclass(frozen=True, eq=False)
class Truth:
    """All planted parameters; determined by seed and options, independent of the number of days and rows."""

    seed: int
    options: TruthOptions
    categories: Mapping[str, Category]
    # category -> (4,) uint32: salts of the values, of two weights per value, and of the replacement
    salts: dict[str, np.ndarray]
    slopes: dict[str, np.ndarray]  # count -> (2, 2): two of (weight of the logarithm, weight if missing)
    # field of a pair -> (cardinality + 1, LATENT_DIM); last row: missing, zeros
    latent: dict[str, np.ndarray]
    # field of the triple -> (cardinality + 1,) of +1, -1; last row: missing, zero
    signs: dict[str, np.ndarray]
    # category -> (FACTOR_DIM,) uint32 salts of a value's factors; empty if the make has none
    factor_salts: dict[str, np.ndarray] = field(default_factory=dict)
    # count -> (2, FACTOR_DIM): factors of the logarithm, and of a missing value
    factor_slopes: dict[str, np.ndarray] = field(default_factory=dict)
    bias: float = 0.0
    first_order_scale: float = 1.0
    pairwise_scale: float = 1.0
    factorized_scale: float = 1.0

    @classmethod
    def from_seed(cls, seed: int, options: TruthOptions = DEFAULT_OPTIONS) -> "Truth":
        """Draw the weights, and scale them so that CTR and Bayes AUC are similar for every seed."""
        rng = np.random.default_rng([seed, 0])
        signs = {name: _draw_signs(rng, CATEGORIES[name]) for name in TRIPLE}
        latent = {name: _draw_latent(rng, CATEGORIES[name]) for pair in PAIRS for name in pair}
        for name in signs.keys() & latent.keys():
            latent[name][:, 0] = SIGN_IN_LATENT * signs[name]
        num_values, make = options.num_values, MAKES[options.make]
        factor_salts, factor_slopes = _draw_factors(seed) if make.factorized else ({}, {})
        truth = cls(
            seed=seed,
            options=options,
            categories=CATEGORIES if num_values is None else scaled_categories(num_values),
            salts={name: rng.integers(2**32, size=4, dtype=np.uint32) for name in CATEGORIES},
            slopes={name: rng.standard_normal((2, 2)) for name in COUNTS},
            latent=latent,
            signs=signs,
            factor_salts=factor_salts,
            factor_slopes=factor_slopes,
        )
        return truth._scaled(make)

    def _scaled(self, make: Make) -> "Truth":
        """Return the truth with the sizes of its make and its CTR, by a sample of impressions."""
        sample = draw_codes(np.random.default_rng([self.seed, 1]), 50_000, self.categories)
        parts = ["first_order", "pairwise", *(["factorized"] if make.factorized else [])]
        scales = {f"{part}_scale": getattr(make, part) / getattr(self, part)(sample).std() for part in parts}
        truth = replace(self, **scales)
        return replace(truth, bias=_bias_for(truth.score(sample), self.options))

    def logit(self, codes: Codes, day_index: int = 0) -> np.ndarray:
        """39 columns of (B,) codes -> (B,) logits of the click probabilities on that day, over the noise."""
        return _logit_over_noise(self.bias + self.score(codes, day_index), self.options.noise)

    def score(self, codes: Codes, day_index: int = 0) -> np.ndarray:
        """(B,) sum of all parts but the bias."""
        interactions = self.pairwise(codes) + self.factorized(codes) + self.third_order(codes)
        return self.first_order(codes, day_index) + interactions

    def first_order(self, codes: Codes, day_index: int = 0) -> np.ndarray:
        """(B,) sum of one weight per value (counts: slope times standardized logarithm), on that day."""
        angle = self.options.drift * day_index
        rotation = np.array([np.cos(angle), np.sin(angle)])
        total = np.zeros(len(codes["C1"]))
        for name in COUNTS:
            slope, missing_weight = rotation @ self.slopes[name]
            total += np.where(codes[name] == MISSING, missing_weight, slope * _height(codes, name))
        for name in CATEGORIES:
            for part, salt in zip(rotation, self.salts[name][1:3], strict=True):
                if part:
                    total += part * self._size(name) * _weight(codes[name], salt)
        return self.first_order_scale * total

    def pairwise(self, codes: Codes) -> np.ndarray:
        """(B,) sum over PAIRS of the inner product of both values' latent vectors."""
        products = (
            np.einsum("bk,bk->b", self.latent[a][codes[a]], self.latent[b][codes[b]]) for a, b in PAIRS
        )
        return self.pairwise_scale * sum(products)

    def factorized(self, codes: Codes) -> np.ndarray:
        """(B,) sum over all pairs of fields of the inner product of both values' factors; 0 without any."""
        total = np.zeros(len(codes["C1"]))
        if not self.factor_salts:
            return total
        for dim in range(FACTOR_DIM):
            # The sum over pairs by the identity of Rendle 2010, lemma 3.1.
            sum_, squares = np.zeros_like(total), np.zeros_like(total)
            for factor in self._factors(codes, dim):
                sum_ += factor
                squares += factor**2
            total += (sum_**2 - squares) / 2
        return self.factorized_scale * total

    def _factors(self, codes: Codes, dim: int) -> Iterator[np.ndarray]:
        """Yield (B,) factors of one dimension, field by field."""
        for name in COUNTS:
            slope, missing = self.factor_slopes[name][:, dim]
            yield np.where(codes[name] == MISSING, missing, slope * _height(codes, name))
        for name in CATEGORIES:
            yield self._size(name) * _weight(codes[name], self.factor_salts[name][dim])

    def third_order(self, codes: Codes) -> np.ndarray:
        """(B,) size of the third order times the product of TRIPLE's three signs."""
        a, b, c = (self.signs[name][codes[name]] for name in TRIPLE)
        return MAKES[self.options.make].third_order * a * b * c

    def with_new_values(self, codes: Codes, day_index: int) -> Codes:
        """Replace values as of that day: in each wide category a share `drift` of the values per day."""
        if not self.options.drift:
            return codes
        replaced = {}
        for name, category in self.categories.items():
            if CATEGORIES[name].cardinality < MIN_WIDE_CARDINALITY:
                continue
            phase = mix(codes[name], self.salts[name][3]) / 2**32  # when in the cycle the value is replaced
            generation = np.floor(self.options.drift * day_index + phase).astype(np.int64)
            newest = codes[name] + category.cardinality * generation
            replaced[name] = np.where(codes[name] == MISSING, MISSING, newest)
        return codes | replaced

    def _size(self, name: str) -> float:
        """Factor of a category's weights: rare values cannot be learned from a log of practical size."""
        return min(1.0, (1_000 / self.categories[name].cardinality) ** 0.25)


def _height(codes: Codes, name: str) -> np.ndarray:
    """(B,) standardized logarithms of a count."""
    count = COUNTS[name]
    return (np.log1p(np.maximum(codes[name], 0)) - count.log_median) / count.sigma


def _weight(codes: np.ndarray, salt: np.uint32) -> np.ndarray:
    """(B,) codes -> (B,) weights with mean 0 and standard deviation 1 over the values, without a table."""
    return (mix(codes, salt) / 2**31 - 1.0) * np.sqrt(3.0)


def _draw_factors(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw factor_salts and factor_slopes of a truth."""
    rng = np.random.default_rng([seed, 3])
    salts = {name: rng.integers(2**32, size=FACTOR_DIM, dtype=np.uint32) for name in CATEGORIES}
    return salts, {name: rng.standard_normal((2, FACTOR_DIM)) for name in COUNTS}


def _draw_latent(rng: np.random.Generator, category: Category) -> np.ndarray:
    edges = np.arange(1, category.cardinality + 2) ** (1.0 - category.exponent)
    probability = np.diff(edges) / (edges[-1] - edges[0])
    latent = rng.standard_normal((category.cardinality, LATENT_DIM))
    # Centered by frequency, so that the pair has no first-order effect.
    latent -= probability @ latent
    return np.vstack([latent, np.zeros(LATENT_DIM)])


def _draw_signs(rng: np.random.Generator, category: Category) -> np.ndarray:
    signs = np.resize([1.0, -1.0], category.cardinality)
    return np.append(rng.permutation(signs), 0.0)


def _logit_over_noise(scores: np.ndarray, noise: float) -> np.ndarray:
    """(n,) logits before a normal term with deviation `noise` -> (n,) logits of the mean probabilities.

    No model can see the noise, so this is the best possible logit. By Gauss-Hermite quadrature.
    """
    if not noise:
        return scores
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NUM_NOISE_NODES)
    probabilities = sum(
        weight * sigmoid(scores + noise * node) for node, weight in zip(nodes, weights, strict=True)
    )
    return logit_of(probabilities / math.sqrt(2 * math.pi))


def _bias_for(scores: np.ndarray, options: TruthOptions) -> float:
    """Bias for which the mean probability of these scores is the CTR, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        mean = sigmoid(_logit_over_noise(scores + middle, options.noise)).mean()
        low, high = (middle, high) if mean < options.ctr else (low, middle)
    return middle
