"""The planted truth of the synthetic click log: distributions of the values, and the logit they determine.

    logit = bias + first_order + pairwise + third_order

LR can learn the first part only, FM the first two, DeepFM all three.

An impression consists of 39 *codes*: for a category the rank by frequency (0 = most frequent), for a count
the difference from the field's minimum, and -1 (MISSING) if the log's column is empty.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from deepfm.metrics.formulas import sigmoid

MISSING = -1


class Count(NamedTuple):
    """minimum + floor(exp(Normal(log_median, sigma))): heavy-tailed, like Criteo's counts."""

    log_median: float
    sigma: float
    missing: float
    minimum: int = 0


class Category(NamedTuple):
    """Zipf: P(rank r) ~ r ** -exponent, `cardinality` values; an exponent of exactly 1 is not supported."""

    cardinality: int
    exponent: float
    missing: float = 0.0


# Missing shares and medians follow Criteo's sample, in which I2 has negative values too.
COUNTS = {
    "I1": Count(0.7, 1.4, 0.45), "I2": Count(1.8, 1.9, 0.0, minimum=-2), "I3": Count(2.0, 1.4, 0.22),
    "I4": Count(1.5, 1.1, 0.21), "I5": Count(7.8, 2.0, 0.03), "I6": Count(3.7, 1.7, 0.23),
    "I7": Count(1.3, 1.5, 0.04), "I8": Count(2.1, 1.2, 0.001), "I9": Count(3.7, 1.6, 0.04),
    "I10": Count(0.0, 0.8, 0.45), "I11": Count(0.6, 1.0, 0.04), "I12": Count(-0.5, 1.2, 0.77),
    "I13": Count(1.8, 1.2, 0.21),
}  # fmt: skip
CATEGORIES = {
    "C1": Category(1_400, 1.5), "C2": Category(100, 0.9), "C3": Category(1_000_000, 1.2, 0.03),
    "C4": Category(400_000, 1.25, 0.03), "C5": Category(20, 0.4), "C6": Category(12, 0.4, 0.01),
    "C7": Category(12_000, 1.15), "C8": Category(40, 0.8), "C9": Category(3, 1.5),
    "C10": Category(90_000, 1.25), "C11": Category(5_600, 1.15), "C12": Category(800_000, 1.15, 0.03),
    "C13": Category(3_200, 1.1), "C14": Category(27, 0.6), "C15": Category(15_000, 1.2),
    "C16": Category(500_000, 1.22, 0.03), "C17": Category(8, 0.0), "C18": Category(5_600, 1.1),
    "C19": Category(2_200, 1.6, 0.44), "C20": Category(4, 0.0), "C21": Category(600_000, 1.18, 0.03),
    "C22": Category(18, 1.3, 0.76), "C23": Category(6, 0.0), "C24": Category(280_000, 1.3, 0.03),
    "C25": Category(30, 0.7, 0.01), "C26": Category(140_000, 1.25, 0.44),
}  # fmt: skip

# Fields with interactions have few values and are rarely missing, so that 250,000 impressions contain every
# combination often. The triple's values are equally frequent, half of them +1 and half -1, so each sign has
# mean zero, and their product has no effects of lower order.
# The triple's fields also occur in pairs: gradient descent would overfit rare values before it discovers an
# isolated product of three signs, because no single step towards it lowers the loss. With the second-order
# effects, a DeepFM learns it within one epoch of 250,000 impressions.
PAIRS = (("C17", "C20"), ("C20", "C23"), ("C5", "C6"))
TRIPLE = ("C17", "C20", "C23")
LATENT_DIM = 2
SIGN_IN_LATENT = 1.5  # first latent dimension of triple fields: their sign times this; others Normal(0, 1)
FIRST_ORDER_STD, PAIRWISE_STD, THIRD_ORDER_SIZE = 0.55, 0.8, 0.9  # in logits
CTR = 0.25
CHURN_MIN_CARDINALITY = 1_000  # categories with fewer values (such as weekdays) never change them

Codes = dict[str, np.ndarray]  # field -> (B,) int64


@dataclass(frozen=True, eq=False)
class Truth:
    """All planted parameters; determined by seed and drift, independent of the number of days and rows.

    `drift` (0 = none) is the rotation of the first-order weights per day in radians, and the share
    of values that is replaced per day in each wide category.
    """

    seed: int
    drift: float
    # category -> (4,) uint32: salts of the values, of two weights per value, and of the replacement
    salts: dict[str, np.ndarray]
    slopes: dict[str, np.ndarray]  # count -> (2, 2): two of (weight of the logarithm, weight if missing)
    # field of a pair -> (cardinality + 1, LATENT_DIM); last row: missing, zeros
    latent: dict[str, np.ndarray]
    # field of the triple -> (cardinality + 1,) of +1, -1; last row: missing, zero
    signs: dict[str, np.ndarray]
    bias: float = 0.0
    first_order_scale: float = 1.0
    pairwise_scale: float = 1.0

    @classmethod
    def from_seed(cls, seed: int, drift: float = 0.0) -> "Truth":
        """Draw the weights, and scale them so that CTR and Bayes AUC are similar for every seed."""
        rng = np.random.default_rng([seed, 0])
        signs = {name: _draw_signs(rng, CATEGORIES[name]) for name in TRIPLE}
        latent = {name: _draw_latent(rng, CATEGORIES[name]) for pair in PAIRS for name in pair}
        for name in signs.keys() & latent.keys():
            latent[name][:, 0] = SIGN_IN_LATENT * signs[name]
        truth = cls(
            seed=seed,
            drift=drift,
            salts={name: rng.integers(2**32, size=4, dtype=np.uint32) for name in CATEGORIES},
            slopes={name: rng.standard_normal((2, 2)) for name in COUNTS},
            latent=latent,
            signs=signs,
        )
        sample = draw_codes(np.random.default_rng([seed, 1]), 50_000)
        truth = replace(
            truth,
            first_order_scale=FIRST_ORDER_STD / truth.first_order(sample).std(),
            pairwise_scale=PAIRWISE_STD / truth.pairwise(sample).std(),
        )
        return replace(truth, bias=_bias_for(truth.logit(sample), CTR))

    def logit(self, codes: Codes, day_index: int = 0) -> np.ndarray:
        """39 columns of (B,) codes -> (B,) true logits on that day."""
        interactions = self.pairwise(codes) + self.third_order(codes)
        return self.bias + self.first_order(codes, day_index) + interactions

    def first_order(self, codes: Codes, day_index: int = 0) -> np.ndarray:
        """(B,) sum of one weight per value (counts: slope times standardized logarithm), on that day."""
        angle = self.drift * day_index
        rotation = np.array([np.cos(angle), np.sin(angle)])
        total = np.zeros(len(codes["C1"]))
        for name, count in COUNTS.items():
            slope, missing_weight = rotation @ self.slopes[name]
            height = (np.log1p(np.maximum(codes[name], 0)) - count.log_median) / count.sigma
            total += np.where(codes[name] == MISSING, missing_weight, slope * height)
        for name, category in CATEGORIES.items():
            # Rare values cannot be learned from a log of practical size, so wide fields have less weight.
            size = min(1.0, (1_000 / category.cardinality) ** 0.25)
            for part, salt in zip(rotation, self.salts[name][1:3], strict=True):
                if part:
                    total += part * size * _weight(codes[name], salt)
        return self.first_order_scale * total

    def pairwise(self, codes: Codes) -> np.ndarray:
        """(B,) sum over PAIRS of the inner product of both values' latent vectors."""
        products = (
            np.einsum("bk,bk->b", self.latent[a][codes[a]], self.latent[b][codes[b]]) for a, b in PAIRS
        )
        return self.pairwise_scale * sum(products)

    def third_order(self, codes: Codes) -> np.ndarray:
        """(B,) THIRD_ORDER_SIZE times the product of TRIPLE's three signs."""
        a, b, c = (self.signs[name][codes[name]] for name in TRIPLE)
        return THIRD_ORDER_SIZE * a * b * c

    def with_new_values(self, codes: Codes, day_index: int) -> Codes:
        """Replace values as of that day: in each wide category a share `drift` of the values per day."""
        if not self.drift:
            return codes
        wide = {name: c for name, c in CATEGORIES.items() if c.cardinality >= CHURN_MIN_CARDINALITY}
        replaced = {}
        for name, category in wide.items():
            phase = mix(codes[name], self.salts[name][3]) / 2**32  # when in the cycle the value is replaced
            generation = np.floor(self.drift * day_index + phase).astype(np.int64)
            newest = codes[name] + category.cardinality * generation
            replaced[name] = np.where(codes[name] == MISSING, MISSING, newest)
        return codes | replaced


def draw_codes(rng: np.random.Generator, num_rows: int) -> Codes:
    """Draw independent columns of (num_rows,) codes from the distributions in COUNTS and CATEGORIES."""
    codes = {}
    for name, count in COUNTS.items():
        height = np.exp(count.log_median + count.sigma * rng.standard_normal(num_rows)).astype(np.int64)
        codes[name] = np.where(rng.random(num_rows) < count.missing, MISSING, height)
    for name, category in CATEGORIES.items():
        # Inverse CDF of the continuous Zipf distribution on [1, cardinality + 1): needs no table.
        power = 1.0 - category.exponent
        top = (category.cardinality + 1.0) ** power
        rank = (1.0 + (top - 1.0) * rng.random(num_rows)) ** (1.0 / power)
        codes[name] = np.minimum(rank.astype(np.int64), category.cardinality) - 1
        if category.missing:
            codes[name][rng.random(num_rows) < category.missing] = MISSING
    return codes


def mix(codes: np.ndarray, salt: np.uint32) -> np.ndarray:
    """(B,) codes -> (B,) pseudo-random uint32; murmur3's finalizer, a bijection of 32 bits."""
    x = codes.astype(np.uint32) ^ salt
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def _weight(codes: np.ndarray, salt: np.uint32) -> np.ndarray:
    """(B,) codes -> (B,) weights with mean 0 and standard deviation 1 over the values, without a table."""
    return (mix(codes, salt) / 2**31 - 1.0) * np.sqrt(3.0)


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


def _bias_for(logits: np.ndarray, ctr: float) -> float:
    """Bias for which the mean probability of these logits is `ctr`, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if sigmoid(logits + middle).mean() < ctr else (low, middle)
    return middle
