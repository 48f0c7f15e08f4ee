"""Values of the synthetic click log: 39 fields in Criteo's layout, and the distributions of their codes.

An impression consists of 39 *codes*: for a category the rank by frequency (0 = most frequent), for a count
the difference from the field's minimum, and -1 (MISSING) if the log's column is empty.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

MISSING = -1
#: Categories with fewer values (such as weekdays) have the same ones in every log, and never change them.
MIN_WIDE_CARDINALITY = 1_000

Codes = dict[str, np.ndarray]  # field -> (B,) int64


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


def scaled_categories(num_values: int) -> dict[str, Category]:
    """Return CATEGORIES with about `num_values` values in all, by scaling the wide ones alike."""
    narrow = sum(c.cardinality for c in CATEGORIES.values() if c.cardinality < MIN_WIDE_CARDINALITY)
    wide = sum(c.cardinality for c in CATEGORIES.values()) - narrow
    scale = max(num_values - narrow, 0) / wide
    return {
        name: category
        if category.cardinality < MIN_WIDE_CARDINALITY
        else category._replace(cardinality=max(round(category.cardinality * scale), 2))
        for name, category in CATEGORIES.items()
    }


def draw_codes(
    rng: np.random.Generator, num_rows: int, categories: Mapping[str, Category] = CATEGORIES
) -> Codes:
    """Draw independent columns of (num_rows,) codes from the distributions in COUNTS and `categories`."""
    codes = {}
    for name, count in COUNTS.items():
        height = np.exp(count.log_median + count.sigma * rng.standard_normal(num_rows)).astype(np.int64)
        codes[name] = np.where(rng.random(num_rows) < count.missing, MISSING, height)
    for name, category in categories.items():
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
