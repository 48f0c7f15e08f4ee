"""Fields: names, kinds and order of the columns."""

import json

import pytest
from pydantic import ValidationError

from deepfm.fields import Field, FieldSet

I1 = Field(name="I1", kind="count")
C1 = Field(name="C1", kind="category", min_count=2)


def test_a_field_set_keeps_the_order_it_was_given():
    assert FieldSet([C1, I1]).names == ("C1", "I1")
    assert list(FieldSet([C1, I1])) == [C1, I1]
    assert FieldSet([C1, I1])[1] is I1
    assert len(FieldSet([C1, I1])) == 2


def test_field_sets_are_equal_if_fields_and_order_are():
    assert FieldSet([I1, C1]) == FieldSet((I1, C1))
    assert hash(FieldSet([I1, C1])) == hash(FieldSet((I1, C1)))
    assert FieldSet([I1, C1]) != FieldSet([C1, I1])


def test_crossed_fields_are_not_raw_fields():
    cross = Field(name="I1_x_C1", kind="cross", parts=("I1", "C1"), buckets=10)
    assert FieldSet([I1, C1, cross]).raw == FieldSet([I1, C1])
    assert FieldSet([I1, C1, cross]).num_crossed == 1
    assert FieldSet([I1, C1]).raw == FieldSet([I1, C1])
    with pytest.raises(ValueError, match="crossed fields after all others"):
        FieldSet([cross, I1, C1])


def test_time_fields_share_one_column():
    times = [Field(name=name, kind="time", source="ts", time_format="iso") for name in ("hour", "weekday")]
    cross = Field(name="I1_x_hour", kind="cross", parts=("I1", "hour"), buckets=10)
    assert FieldSet([times[0], I1, times[1], cross]).columns == ("ts", "I1")
    assert FieldSet([I1, C1]).columns == ("I1", "C1")


def test_are_values_marks_value_fields():
    assert FieldSet([I1, Field(name="V", kind="value"), C1]).are_values == (False, True, False)


def test_fields_with_fitted_ids_are_counted():
    quantile = Field(name="Q", kind="quantile", quantile_buckets=9)
    hashed = Field(name="H", kind="category", hash_buckets=9)
    value = Field(name="V", kind="value")
    crossed = Field(name="X", kind="cross", parts=("I1", "C1"), buckets=10)
    assert [field.is_counted for field in (I1, C1, quantile)] == [True] * 3
    assert [field.is_counted for field in (hashed, value, crossed)] == [False] * 3


def test_a_field_survives_a_json_round_trip():
    for field in (
        I1,
        Field(name="V", kind="value", scale="log"),
        Field(name="H", kind="category", hash_buckets=9),
        Field(name="U", kind="category", unknown_buckets=9),
        Field(name="Q", kind="quantile", quantile_buckets=9),
        Field(name="hour", kind="time", source="ts", time_format="unix_ms"),
        Field(name="X", kind="cross", parts=("A", "B")),
    ):
        assert Field.model_validate(json.loads(field.model_dump_json())) == field


@pytest.mark.parametrize("name", ["", "1st", "_hidden", "user id", "a.b", "C1\n"])
def test_a_field_name_must_fit_every_stage(name):
    with pytest.raises(ValidationError):
        Field(name=name, kind="category")


def test_a_python_keyword_cannot_be_a_field_name():
    with pytest.raises(ValidationError, match="Python keyword"):
        Field(name="class", kind="category")


def test_a_field_cannot_be_changed():
    with pytest.raises(ValidationError):
        I1.kind = "category"


@pytest.mark.parametrize(
    "invalid",
    [
        {"kind": "number"},
        {"min_count": 0},
        {"min_count": "2"},
        {"size": 3},
        {"scale": "cubic"},
        {"buckets": -1},
        {"hash_buckets": -1},
        {"unknown_buckets": 0},
    ],
)
def test_invalid_field_settings_are_rejected(invalid):
    with pytest.raises(ValidationError):
        Field(**{"name": "I1", "kind": "count", **invalid})
