"""Fields that enter by value: moments of the training values, and the x that they make of a number."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.features.kinds.scaling import MAX_X, FieldMoments, Moments, Scaling, on_scale
from deepfm.fields import Field, FieldSet


def moments(*numbers) -> Moments:
    return Moments.of(np.array(numbers, np.float64))


def fitted(*numbers, scale="standard") -> Scaling:
    return Scaling.fit(Moments.of(on_scale(np.array(numbers, np.float64), scale)))


def x_of(scaling, *numbers, scale="standard") -> list[float]:
    return scaling.apply(np.array(numbers, np.float64), scale).tolist()


def test_moments_are_number_mean_and_squared_deviations():
    assert moments(1, 2, 6) == Moments(3, 3.0, 4 + 1 + 9)
    assert moments() == Moments(0, 0.0, 0.0)


@given(st.lists(st.integers(-1000, 1000), max_size=20), st.integers(0, 20))
def test_merged_moments_are_those_of_all_numbers(numbers, cut):
    merged, whole = moments(*numbers[:cut]).merged(moments(*numbers[cut:])), moments(*numbers)
    assert merged.num == whole.num
    assert (merged.mean, merged.m2) == pytest.approx((whole.mean, whole.m2), rel=1e-9, abs=1e-9)


def test_deviations_survive_beside_a_large_mean():
    # As sums of squares (1e18) less the square of the sum they would be lost in rounding.
    parts = moments(1e9 + 1, 1e9 + 2).merged(moments(1e9 + 3, 1e9 + 6))
    assert parts == Moments(4, 1e9 + 3, 4 + 1 + 0 + 9)


def test_training_values_get_mean_0_and_standard_deviation_1():
    scaling = fitted(1, 3, 5, 7)  # mean 4, variance (9 + 1 + 1 + 9) / 4
    assert scaling == Scaling(4.0, 2.23607)
    assert x_of(scaling, 4, 1, 10) == pytest.approx([0, -3 / 2.23607, 6 / 2.23607])


def test_x_is_float32():
    assert Scaling().apply(np.array([1.0]), "standard").dtype == np.float32


def test_the_log_scale_is_taken_before_the_statistics_and_keeps_the_sign():
    e = math.e
    scaling = fitted(e - 1, 1 - e, scale="log")  # 1 and -1 on the scale
    assert scaling == Scaling(0.0, 1.0)
    assert x_of(scaling, e**2 - 1, 0, 1 - e**3, scale="log") == pytest.approx([2, 0, -3])


def test_a_missing_number_stays_missing():
    for scale in ("standard", "log"):
        assert math.isnan(x_of(fitted(1, 3), math.nan, scale=scale)[0])


@pytest.mark.parametrize("constant", [0, 5, 0.1, -1.7e9, 0.123456789, 1e300])
def test_a_constant_field_is_divided_by_1(constant):
    scaling = fitted(*[constant] * 7)
    assert scaling.std == 1.0
    assert x_of(scaling, min(constant, 1e100)) == [0.0]


def test_without_training_values_numbers_stay_as_they_are():
    assert fitted() == Scaling(0.0, 1.0)
    assert x_of(fitted(), 2.5) == [2.5]


def in_parts(numbers, num_parts) -> Scaling:
    merged = Moments()
    for part in np.array_split(np.array(numbers, np.float64), num_parts):
        merged = merged.merged(Moments.of(part))
    return Scaling.fit(merged)


@pytest.mark.parametrize(
    "numbers",
    [
        [0.1, 0.2, 0.3, 0.7, 1.1],
        [-0.1, 0.3, -0.2],  # a mean that is 0, or 1e-17, or -0.0
        [-1.0, 1.0] * 3 + [0.1, -0.1],
        [1.7e9 + n / 7 for n in range(50)],
        [-1e9 + n / 7e5 for n in range(50)],
        [1 / 3] * 9,
    ],
)
def test_statistics_do_not_depend_on_partitions(numbers):
    orders = [numbers, numbers[::-1], np.random.default_rng(1).permutation(numbers).tolist()]
    # As text, which tells -0.0 from 0.0 as a fingerprint does.
    assert len({repr(in_parts(order, parts)) for order in orders for parts in range(1, 9)}) == 1


def test_statistics_are_rounded_to_6_digits_of_the_standard_deviation():
    assert fitted(0, 0, 1000.0 / 3) == Scaling(111.111, 157.135)  # 111.1111… and 157.1348…
    # Of the mean alone they would be 1234560.
    assert fitted(1234561, 1234564, 1234567) == Scaling(1234564.0, 2.44949)


def test_wild_numbers_stay_finite():
    scaling = fitted(1e308, -1e308, 1e200)
    assert math.isfinite(scaling.mean) and math.isfinite(scaling.std)
    assert x_of(fitted(1, 3), 1e308, -1e308) == [MAX_X, -MAX_X]
    assert all(map(math.isfinite, x_of(fitted(1, 3, scale="log"), 1e308, -1e308, scale="log")))


@pytest.mark.parametrize("scale", ["standard", "log"])
@pytest.mark.parametrize("x", [-2.0, 0.0, 1.0])
def test_the_number_at_x_is_made_x_again(scale, x):
    scaling = fitted(1, 3, 5, 7, scale=scale)
    assert x_of(scaling, scaling.number_at(x, scale), scale=scale) == pytest.approx([x], abs=1e-6)


def test_moments_of_each_field_are_taken_over_batches_on_its_scale_without_missing_values():
    fields = FieldSet(
        [
            Field(name="C", kind="category"),
            Field(name="V", kind="value"),
            Field(name="L", kind="value", scale="log"),
        ]
    )
    found = FieldMoments(fields)
    e = math.e
    for numbers in ([1.0, None], [], [None, None], [3.0, None]):
        logs = [None if number is None else e**number - 1 for number in numbers]
        columns = {"C": pa.array(["a"] * len(numbers)), "V": numbers, "L": logs}
        found.add(pa.table({name: pa.array(column, None if name == "C" else pa.float64())
                            for name, column in columns.items()}))  # fmt: skip
    assert found.by_index[1] == Moments(2, 2.0, 2.0)
    assert found.by_index[2].mean == pytest.approx(2.0)
    assert found.by_index.keys() == {1, 2}
