"""Standardization of value fields: moments of the training values, and the scaled values."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.features.moments import FieldMoments
from deepfm.fields import Field, FieldSet
from deepfm.kinds.scaling import MAX_X, Moments, Scaling, apply_scale


def moments(*numbers) -> Moments:
    return Moments.from_array(np.array(numbers, np.float64))


def fitted(*numbers, scale="standard") -> Scaling:
    return Scaling.fit(Moments.from_array(apply_scale(np.array(numbers, np.float64), scale)))


def scaled(scaling, *numbers, scale="standard") -> list[float]:
    return scaling.apply(np.array(numbers, np.float64), scale).tolist()


def test_moments_are_count_mean_and_squared_deviations():
    assert moments(1, 2, 6) == Moments(3, 3.0, 4 + 1 + 9)
    assert moments() == Moments(0, 0.0, 0.0)


@given(st.lists(st.integers(-1000, 1000), max_size=20), st.integers(0, 20))
def test_merged_moments_equal_those_of_all_numbers(numbers, cut):
    merged, whole = moments(*numbers[:cut]).merge(moments(*numbers[cut:])), moments(*numbers)
    assert merged.num == whole.num
    assert (merged.mean, merged.m2) == pytest.approx((whole.mean, whole.m2), rel=1e-9, abs=1e-9)


def test_deviations_are_accurate_with_a_large_mean():
    # As a difference of sums of squares (1e18) they would be lost in rounding.
    parts = moments(1e9 + 1, 1e9 + 2).merge(moments(1e9 + 3, 1e9 + 6))
    assert parts == Moments(4, 1e9 + 3, 4 + 1 + 0 + 9)


def test_training_values_get_mean_0_and_standard_deviation_1():
    scaling = fitted(1, 3, 5, 7)  # mean 4, variance (9 + 1 + 1 + 9) / 4
    assert scaling == Scaling(4.0, 2.23607)
    assert scaled(scaling, 4, 1, 10) == pytest.approx([0, -3 / 2.23607, 6 / 2.23607])


def test_x_is_float32():
    assert Scaling().apply(np.array([1.0]), "standard").dtype == np.float32


def test_the_log_scale_is_taken_before_the_statistics_and_keeps_the_sign():
    e = math.e
    scaling = fitted(e - 1, 1 - e, scale="log")  # 1 and -1 on the scale
    assert scaling == Scaling(0.0, 1.0)
    assert scaled(scaling, e**2 - 1, 0, 1 - e**3, scale="log") == pytest.approx([2, 0, -3])


def test_a_missing_number_stays_missing():
    for scale in ("standard", "log"):
        assert math.isnan(scaled(fitted(1, 3), math.nan, scale=scale)[0])


@pytest.mark.parametrize("constant", [0, 5, 0.1, -1.7e9, 0.123456789, 1e300])
def test_a_constant_field_is_divided_by_1(constant):
    scaling = fitted(*[constant] * 7)
    assert scaling.std == 1.0
    assert scaled(scaling, min(constant, 1e100)) == [0.0]


def test_without_training_values_numbers_are_not_scaled():
    assert fitted() == Scaling(0.0, 1.0)
    assert scaled(fitted(), 2.5) == [2.5]


def in_parts(numbers, num_parts) -> Scaling:
    merged = Moments()
    for part in np.array_split(np.array(numbers, np.float64), num_parts):
        merged = merged.merge(Moments.from_array(part))
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
    # As text, which distinguishes -0.0 from 0.0 as a fingerprint does.
    assert len({repr(in_parts(order, parts)) for order in orders for parts in range(1, 9)}) == 1


def test_statistics_are_rounded_to_6_digits_of_the_standard_deviation():
    assert fitted(0, 0, 1000.0 / 3) == Scaling(111.111, 157.135)  # 111.1111… and 157.1348…
    # Rounded to the digits of the mean they would be 1234560.
    assert fitted(1234561, 1234564, 1234567) == Scaling(1234564.0, 2.44949)


def test_extreme_numbers_stay_finite():
    scaling = fitted(1e308, -1e308, 1e200)
    assert math.isfinite(scaling.mean) and math.isfinite(scaling.std)
    assert scaled(fitted(1, 3), 1e308, -1e308) == [MAX_X, -MAX_X]
    assert all(map(math.isfinite, scaled(fitted(1, 3, scale="log"), 1e308, -1e308, scale="log")))


@pytest.mark.parametrize("scale", ["standard", "log"])
@pytest.mark.parametrize("x", [-2.0, 0.0, 1.0])
def test_inverse_undoes_apply(scale, x):
    scaling = fitted(1, 3, 5, 7, scale=scale)
    assert scaled(scaling, scaling.inverse(x, scale), scale=scale) == pytest.approx([x], abs=1e-6)


def test_field_moments_accumulate_over_batches_on_the_fields_scale_without_missing_values():
    fields = FieldSet(
        [
            Field(name="C", kind="category"),
            Field(name="V", kind="value"),
            Field(name="L", kind="value", scale="log"),
        ]
    )
    field_moments = FieldMoments(fields)
    e = math.e
    for numbers in ([1.0, None], [], [None, None], [3.0, None]):
        logs = [None if number is None else e**number - 1 for number in numbers]
        columns = {"C": pa.array(["a"] * len(numbers)), "V": numbers, "L": logs}
        field_moments.update(pa.table({name: pa.array(column, None if name == "C" else pa.float64())
                                       for name, column in columns.items()}))  # fmt: skip
    assert field_moments.by_index[1] == Moments(2, 2.0, 2.0)
    assert field_moments.by_index[2].mean == pytest.approx(2.0)
    assert field_moments.by_index.keys() == {1, 2}


def test_moments_of_integer_weights_equal_those_of_repeated_numbers():
    numbers, weights = np.array([1.5, -2.0, 7.0, 0.25]), np.array([3.0, 0.0, 1.0, 2.0])
    moments, expected = (
        Moments.from_array(numbers, weights),
        Moments.from_array(numbers.repeat(weights.astype(int))),
    )
    assert moments.num == expected.num == 6
    assert (moments.mean, moments.m2) == pytest.approx((expected.mean, expected.m2))
