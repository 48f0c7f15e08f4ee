"""Settings of a log's columns: consistency checks and their errors."""

import json
from pathlib import Path
from typing import get_args

import pytest

from deepfm.errors import UserError
from deepfm.fields import Field, RawKind
from deepfm.settings.data import DataSettings
from deepfm.settings.field_groups import FieldGroup
from deepfm.settings.loader import load_settings, parse_settings

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"

DATA = {
    "format": "delimited",
    "columns": ["label", "I1", "C1", "C2"],
    "fields": [
        {"kind": "count", "names": ["I1"], "min_count": 2},
        {"kind": "category", "names": ["C2", "C1"]},
    ],
}
VALUE = {"kind": "value", "names": ["I1"]}
LIST = {"kind": "list", "names": ["C1"], "max_values": 3}
CATEGORIES = {"kind": "category", "names": ["C2", "C1"], "min_count": 3}


def data(**changes):
    return parse_settings({**DATA, **changes}, DataSettings, "data.yaml")


def errors_of(**changes):
    with pytest.raises(UserError) as caught:
        data(**changes)
    return str(caught.value)


def test_the_example_shows_every_kind_and_every_key_of_a_field():
    settings = load_settings(CONF / "example.yaml", DataSettings)
    assert {group.kind for group in settings.fields} == set(get_args(RawKind))
    assert {key for group in settings.fields for key in group.model_fields_set} == set(
        FieldGroup.model_fields
    )


def test_fields_keep_the_order_of_the_file():
    assert list(data().field_set) == [
        Field(name="I1", kind="count", min_count=2),
        Field(name="C2", kind="category"),
        Field(name="C1", kind="category"),
    ]


def test_a_value_is_standardized_unless_its_scale_is_log():
    fields = data(fields=[VALUE, {**VALUE, "names": ["C1"], "scale": "log"}]).field_set
    assert list(fields) == [
        Field(name="I1", kind="value", scale="standard"),
        Field(name="C1", kind="value", scale="log"),
    ]


def test_crossed_fields_come_last_and_are_named_after_their_parts():
    crossed = data(fields=[CATEGORIES, VALUE], cross=[["C1", "C2"]], cross_buckets=50).field_set
    assert crossed.names == ("C2", "C1", "I1", "C1_x_C2")
    assert crossed[3] == Field(name="C1_x_C2", kind="cross", parts=("C1", "C2"), buckets=50)
    assert data(cross=[["I1", "C1", "C2"]]).field_set[3] == Field(
        name="I1_x_C1_x_C2", kind="cross", parts=("I1", "C1", "C2"), buckets=100_000
    )


def test_time_fields_have_the_time_column_and_format():
    times = {"kind": "time", "names": ["weekday", "hour"]}
    fields = data(fields=[times], time_column="C1", time_format="unix_s", columns=["label", "C1"]).field_set
    assert list(fields) == [
        Field(name=name, kind="time", source="C1", time_format="unix_s") for name in ("weekday", "hour")
    ]


def test_settings_survive_a_json_round_trip():
    settings = data(fields=[{**VALUE, "scale": "log"}, CATEGORIES], cross=[["C1", "C2"]])
    assert parse_settings(json.loads(settings.model_dump_json()), DataSettings, "again") == settings


def test_criteos_counts_can_be_value_fields():
    fields = load_settings(CONF / "criteo_values.yaml", DataSettings).field_set
    assert fields.are_values == (True,) * 13 + (False,) * 28
    assert {field.scale for field in fields if field.kind == "value"} == {"log"}
    assert [field.parts for field in fields if field.kind == "cross"] == [("C6", "C9"), ("C14", "C17", "C20")]
    plain = load_settings(CONF / "criteo.yaml", DataSettings).field_set
    assert fields.raw.names == plain.names


def test_inconsistent_columns_are_reported_together():
    message = errors_of(columns=["I1", "C1"], hash_split={"valid": 0.5, "test": 0.5})
    assert "columns: missing, but used below: C2, label" in message
    assert "valid + test must leave rows for training" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": []}, "needs its column names"),
        ({"header": True}, "only for delimited files with header: false"),
        ({"format": "parquet"}, "only for delimited files with header: false"),
        ({"day_column": "day"}, "used below: day"),
        ({"label": "I1"}, "the label I1 cannot also be a field"),
        ({"columns": ["i1", "I1", "C1", "C2"], "label": "i1"}, "the label i1 cannot also be a field"),
        ({"label": "?!"}, "label: expected a name with a letter or digit"),
        ({"delimiter": "\\n"}, "delimiter: a line break ends a row"),
        ({"fields": []}, "fields: Tuple should have at least 1 item"),
        ({"fields": [{"kind": "category", "names": ["C1", "C1", "C2"]}]}, "found duplicates: C1"),
        ({"fields": [{"kind": "category", "names": ["C1", "c1"]}]}, "found duplicates: C1, c1"),
        ({"fields": [{"kind": "category", "names": ["?!"]}]}, "'?!' gives no field name"),
        (
            {"fields": [{"kind": "number", "names": ["C1"]}]},
            "fields.0.kind: Input should be 'count', 'category', 'list', 'value', 'quantile' or 'time'",
        ),
        ({"fields": [{**VALUE, "min_count": 2}]}, "fields.0: min_count: only for fields of kind count or"),
        ({"fields": [{**VALUE, "min_count": 1}]}, "fields.0: min_count: only for fields of kind count or"),
        ({"fields": [{**VALUE, "scale": "cubic"}]}, "fields.0.scale: Input should be 'standard' or 'log'"),
        ({"fields": [{**CATEGORIES, "scale": "log"}]}, "fields.0: scale: only for fields of kind value, not"),
        ({"fields": [{"kind": "cross", "names": ["C1"]}]}, "fields.0.kind: Input should be"),
        ({"cross": [["C1"]]}, "cross.0: Tuple should have at least 2 items"),
        ({"cross": [["C1", "C1"]]}, "cross [C1, C1]: a field cannot be crossed with itself"),
        (
            {"cross": [["C1", "C9"]]},
            "cross [C1, C9]: C9 must be a field of kind count or category or quantile or time, but is not a",
        ),
        (
            {"cross": [["C1", "I1"]], "fields": [VALUE, CATEGORIES]},
            "I1 must be a field of kind count or category or quantile or time, but is a value",
        ),
        ({"cross": [["C1", "C2"], ["C2", "C1"]]}, "cross [C1, C2]: is duplicated"),
        ({"cross": [["C1", "C2"], ["C1", "C2"]]}, "cross [C1, C2]: is duplicated"),
        ({"cross": [["C1", "C2"]], "label": "C1_x_C2"}, "the label C1_x_C2 cannot also be a field"),
        (
            {
                "cross": [["A", "B_x_C"], ["A_x_B", "C"]],
                "header": True,
                "columns": [],
                "fields": [{"kind": "category", "names": ["A", "C", "A_x_B", "B_x_C"]}],
            },
            "found duplicates: A_x_B_x_C",
        ),
        ({"cross_buckets": 0}, "cross_buckets: Input should be greater than or equal to 1"),
        ({"cross_buckets": 2**31}, "cross_buckets: Input should be less than 2147483648"),
        ({"time_column": "C1"}, "time_column and time_format must be set together"),
        ({"time_format": "iso"}, "time_column and time_format must be set together"),
        ({"time_column": "ts", "time_format": "iso"}, "used below: ts"),
        (
            {"time_column": "C1", "time_format": "rfc"},
            "time_format: expected iso, unix_s, unix_ms, unix_us, unix_ns, or a format",
        ),
        ({"time_column": "label", "time_format": "iso"}, "the label label cannot also be the time column"),
        ({"fields": [{"kind": "time", "names": ["hour"]}]}, "time_column: is missing, but required by"),
        ({"fields": [LIST]}, "separator: is missing; set it to the text between"),
        ({"fields": [{**LIST, "separator": "a\tb"}]}, "separator: cannot contain the delimiter '\\t'"),
        (
            {
                "header": True,
                "columns": [],
                "fields": [{**LIST, "separator": " "}, {"kind": "category", "names": ["C1__2"]}],
            },
            "found duplicates: C1__2",
        ),
        (
            {
                "fields": [{**LIST, "separator": " "}, {"kind": "category", "names": ["C2"]}],
                "cross": [["C1", "C2"]],
            },
            "C1 must be a field of kind count or category or quantile or time, but is a list",
        ),
        ({"time_split": {}}, "time_split: requires time_column and no day_column"),
        (
            {"time_split": {}, "time_column": "C1", "time_format": "iso", "day_column": "C2"},
            "time_split: requires time_column and no day_column",
        ),
        (
            {"time_split": {"valid": 0.5, "test": 0.5}, "time_column": "C1", "time_format": "iso"},
            "time_split: valid + test must leave rows for training",
        ),
        ({"keep_negatives": 0}, "keep_negatives: Input should be greater than 0"),
        ({"keep_negatives": 1.5}, "keep_negatives: Input should be less than or equal to 1"),
        ({"hash_split": {"valid": 0}}, "hash_split.valid: Input should be greater than 0"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction: Input should be less than or equal to 1"),
        ({"max_bad_fraction": float("nan")}, "max_bad_fraction"),
    ],
)
def test_an_invalid_data_setting_is_an_error(changes, message):
    assert message in errors_of(**changes)


def test_a_file_with_header_needs_no_columns():
    assert data(header=True, columns=[]).columns == ()


def test_the_yaml_in_the_readme_is_valid(tmp_path):
    readme = (CONF.parent.parent / "README.md").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(readme.split("```yaml\n")[1].split("```")[0])
    assert load_settings(path, DataSettings).field_set.names == ("site", "device", "price", "num_views")


def test_a_separator_may_be_the_delimiter_if_quote_is_set():
    changes = {"fields": [{**LIST, "separator": ","}], "delimiter": ",", "header": True, "columns": []}
    assert "cannot contain the delimiter ','" in errors_of(**changes)
    assert data(**changes, quote='"').field_set[0].separator == ","


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"weight": "w", "impressions": "n", "clicks": "k"}, "weight: cannot be combined with impressions"),
        ({"impressions": "n"}, "impressions and clicks must be set together"),
        ({"clicks": "k"}, "impressions and clicks must be set together"),
        ({"weight": "i1"}, "weight: the column i1 is already used as field I1"),
        ({"weight": "label"}, "weight: the column label is already used as label"),
        ({"impressions": "n", "clicks": "n"}, "clicks: the column n is already used as impressions"),
    ],
)
def test_settings_of_weights_are_checked(changes, error):
    assert error in errors_of(**changes)


def test_an_aggregated_log_needs_no_label_column():
    settings = data(columns=["n", "k", "I1", "C1", "C2"], impressions="n", clicks="k")
    assert settings.label_columns == ("n", "k")
    assert settings.weight_column == "n"
    assert data().weight_column is None
