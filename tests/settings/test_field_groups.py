"""Groups of fields in a data YAML: each key is valid for some kinds of fields only."""

import pytest
from pydantic import ValidationError

from deepfm.fields import Field
from deepfm.settings.field_groups import FieldGroup

KINDS = ("count", "category", "list", "value", "quantile", "time")
#: A value of every key, and the kinds that accept it.
KEYS = {
    "min_count": (2, {"count", "category", "list"}),
    "max_size": (2, {"count", "category", "list"}),
    "scale": ("log", {"value"}),
    "hash_buckets": (10, {"category", "list"}),
    "unknown_buckets": (10, {"category", "list"}),
    "quantile_buckets": (10, {"quantile"}),
    "max_values": (3, {"list"}),
    "separator": (" ", {"list"}),
    "pooling": ("sum", {"list"}),
}


def group(kind="category", **keys):
    names = ["hour", "weekday"] if kind == "time" else ["A", "B"]
    return FieldGroup.model_validate({"kind": kind, "names": names, **keys})


def errors_of(**keys):
    with pytest.raises(ValidationError) as caught:
        group(**keys)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_accepted_by_its_kinds_only(key, kind):
    value, kinds = KEYS[key]
    if kind in kinds:
        needed = {"max_values": 1} if kind == "list" else {}
        fields = group(kind, **{**needed, key: value}).field_list
        assert [getattr(field, key) for field in fields] == [value, value]
    else:
        message = errors_of(kind=kind, **{key: value})
        assert f"{key}: only for fields of kind " in message and f"not {kind}; remove it" in message


def test_fields_of_a_group_differ_in_name_only():
    assert group(hash_buckets=10).field_list == [
        Field(name="A", kind="category", hash_buckets=10),
        Field(name="B", kind="category", hash_buckets=10),
    ]
    assert group("count").field_list == [Field(name="A", kind="count"), Field(name="B", kind="count")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hash_buckets": 10, "min_count": 2}, "min_count: a field with hash_buckets has no rare"),
        ({"hash_buckets": 10, "max_size": 2}, "max_size: a field with hash_buckets has no rare"),
        ({"kind": "list"}, "max_values: is missing; set the maximum number"),
        (
            {"hash_buckets": 10, "unknown_buckets": 2},
            "unknown_buckets: a field with hash_buckets has no rare",
        ),
        ({"unknown_buckets": 0}, "greater than or equal to 1"),
        ({"kind": "quantile"}, "quantile_buckets: is missing; set the number"),
        ({"kind": "quantile", "quantile_buckets": 1}, "greater than or equal to 2"),
        ({"kind": "quantile", "quantile_buckets": 1001}, "less than or equal to 1000"),
        (
            {"kind": "time", "names": ["hour", "minute", "day"]},
            "names: fields of kind time are hour, weekday, day_part, found day, minute",
        ),
        ({"hash_buckets": 0}, "greater than or equal to 1"),
        ({"hash_buckets": 2**31 - 2}, "less than 2147483646"),
    ],
)
def test_inconsistent_keys_are_an_error(keys, message):
    assert message in errors_of(**keys)


def test_all_errors_of_a_group_are_reported_at_once():
    message = errors_of(kind="value", min_count=2, hash_buckets=10)
    assert "min_count: only for fields of kind count or category or list, not value; remove it; " in message
    assert "hash_buckets: only for fields of kind category or list, not value; remove it" in message
