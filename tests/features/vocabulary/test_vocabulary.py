"""Vocabulary: value -> id, ordered by count and then by value, fitted to the training rows only."""

import hashlib
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import Field, FieldSet
from deepfm.kinds.scaling import Moments, Scaling

FIELDS = FieldSet(
    [Field(name="I", kind="count"), Field(name="C", kind="category", min_count=2)],
)


def count_table(*rows):
    """(field, value, num) rows -> the table that `fit` expects."""
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    return pa.table(
        {
            "field": pa.array(columns[0], pa.int32()),
            "value": pa.array(columns[1], pa.string()),
            "num": pa.array(columns[2], pa.int64()),
        }
    )


MOMENTS = Moments(4, 2.0, 16.0)
#: I and C, a value, a value on the log scale and a cross with five ids.
ALL_KINDS = FieldSet(
    [
        *FIELDS,
        Field(name="V", kind="value"),
        Field(name="L", kind="value", scale="log"),
        Field(name="I_x_C", kind="cross", parts=("I", "C"), buckets=5),
    ]
)
COUNTS = count_table((1, "b", 5), (0, "3", 4), (1, "a", 5), (1, "z", 9), (1, "once", 1), (0, "-1", 6))


def known(vocabulary):
    return [values.to_pylist() for values in vocabulary.values]


def test_values_are_ordered_by_count_and_ties_by_value():
    assert known(Vocabulary.fit(FIELDS, COUNTS)) == [["-1", "3"], ["z", "a", "b"]]


def test_ties_are_ordered_by_the_bytes_of_the_value():
    one = FieldSet([Field(name="C", kind="category")])
    counts = count_table(*[(0, value, 1) for value in ["é", "b", "Z", "a", "10", "9"]])
    assert known(Vocabulary.fit(one, counts)) == [["10", "9", "Z", "a", "b", "é"]]


def test_a_value_below_min_count_is_not_known():
    vocabulary = Vocabulary.fit(FIELDS, count_table((1, "twice", 2), (1, "once", 1), (0, "7", 1)))
    assert known(vocabulary) == [["7"], ["twice"]]


def test_two_ids_per_field_are_reserved():
    assert Vocabulary.fit(FIELDS, COUNTS).num_ids == (4, 5)
    assert Vocabulary.fit(FIELDS, count_table()).num_ids == (2, 2)


def test_a_value_has_two_ids_and_a_cross_its_buckets():
    vocabulary = Vocabulary.fit(ALL_KINDS, COUNTS)
    assert vocabulary.num_ids == (4, 5, 2, 2, 5)
    assert known(vocabulary)[2:] == [[], [], []]


def test_scalings_come_from_the_moments_of_their_fields():
    vocabulary = Vocabulary.fit(ALL_KINDS, COUNTS, {3: MOMENTS})
    # V has no training value.
    assert vocabulary.scalings == {"V": Scaling(0.0, 1.0), "L": Scaling(2.0, 2.0)}


@given(st.permutations(COUNTS.to_pylist()))
def test_ids_do_not_depend_on_the_order_of_the_counts(rows):
    vocabulary = Vocabulary.fit(FIELDS, pa.Table.from_pylist(rows, COUNTS.schema))
    assert known(vocabulary) == known(Vocabulary.fit(FIELDS, COUNTS))
    assert vocabulary.fingerprint == Vocabulary.fit(FIELDS, COUNTS).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        Vocabulary.fit(FIELDS, count_table((1, "a", 5), (1, "b", 6))),  # another order
        Vocabulary.fit(FIELDS, count_table((1, "ab", 5), (1, "", 5))),  # same text, other value boundaries
        Vocabulary.fit(FIELDS, count_table((1, "a", 5), (1, "b", 5), (1, "c", 5))),
        Vocabulary.fit(FIELDS, count_table((0, "1", 5), (1, "a", 5), (1, "b", 5))),
        Vocabulary.fit(
            FieldSet([FIELDS[0], Field(name="D", kind="category")]), count_table((1, "a", 5), (1, "b", 5))
        ),
    ],
)
def test_everything_that_determines_an_id_changes_the_fingerprint(other):
    assert other.fingerprint != Vocabulary.fit(FIELDS, count_table((1, "a", 5), (1, "b", 5))).fingerprint


def fit_all_kinds(*changed_fields, moments=MOMENTS):
    fields = [{field.name: field for field in changed_fields}.get(field.name, field) for field in ALL_KINDS]
    return Vocabulary.fit(FieldSet(fields), COUNTS, {2: moments})


@pytest.mark.parametrize(
    "other",
    [
        fit_all_kinds(moments=Moments(4, 3.0, 16.0)),
        fit_all_kinds(moments=Moments(4, 2.0, 4.0)),
        fit_all_kinds(Field(name="V", kind="value", scale="log")),
        fit_all_kinds(Field(name="I_x_C", kind="cross", parts=("I", "C"), buckets=6)),
        fit_all_kinds(Field(name="I_x_C", kind="cross", parts=("C", "I"), buckets=5)),
    ],
)
def test_everything_that_determines_a_value_or_cross_changes_the_fingerprint(other):
    assert other.fingerprint != fit_all_kinds().fingerprint


def fit_hashed(num_buckets):
    return Vocabulary.fit(
        FieldSet([Field(name="C", kind="category", hash_buckets=num_buckets), FIELDS[0]]), count_table()
    )


def test_a_category_with_hash_buckets_has_no_known_values_and_one_id_per_bucket():
    assert fit_hashed(5).num_ids == (7, 2)
    assert fit_hashed(5).fingerprint != fit_hashed(6).fingerprint


def fit_unknown_buckets(unknown_buckets):
    fields = FieldSet([Field(name="C", kind="category", unknown_buckets=unknown_buckets)])
    return Vocabulary.fit(fields, count_table((0, "a", 5), (0, "b", 4)))


def test_known_values_follow_the_unknown_ids_of_their_field(tmp_path):
    assert fit_unknown_buckets(3).num_ids == (6,)
    fit_unknown_buckets(3).save(f"file://{tmp_path}")
    assert pq.read_table(tmp_path / "vocabulary.parquet").column("id").to_pylist() == [4, 5]
    assert Vocabulary.load(f"file://{tmp_path}").fingerprint == fit_unknown_buckets(3).fingerprint
    assert len({fit_unknown_buckets(num).fingerprint for num in (1, 2, 3)}) == 3


def fit_quantile(*values):
    fields = FieldSet([Field(name="Q", kind="quantile", quantile_buckets=2)])
    return Vocabulary.fit(fields, count_table(*[(0, value, 1) for value in values]))


def test_a_quantile_has_boundaries_and_one_id_per_bucket():
    assert fit_quantile("1.000e+00", "2.000e+00", "4.000e+00", "5.000e+00").boundaries == {"Q": (3.0,)}
    assert fit_quantile("1.000e+00", "2.000e+00").num_ids == (4,)
    assert known(fit_quantile("1.000e+00", "2.000e+00")) == [[]]
    # Zero or one value gives one bucket.
    assert fit_quantile("1.000e+00").num_ids == fit_quantile().num_ids == (3,)
    assert (
        fit_quantile("1.000e+00", "2.000e+00").fingerprint
        != fit_quantile("1.000e+00", "2.001e+00").fingerprint
    )


def test_boundaries_survive_saving_and_changed_ones_are_rejected(tmp_path):
    saved = fit_quantile("1.000e-01", "1.000e+00")
    saved.save(f"file://{tmp_path}")
    loaded = Vocabulary.load(f"file://{tmp_path}")
    assert (loaded.boundaries, loaded.fingerprint) == ({"Q": (0.55,)}, saved.fingerprint)
    document = json.loads((tmp_path / "vocabulary.json").read_text())
    assert document["fields"][0]["boundaries"] == [0.55]
    document["fields"][0]["boundaries"] = [0.56]
    (tmp_path / "vocabulary.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="the file was changed"):
        Vocabulary.load(f"file://{tmp_path}")


def fit_times(time_format="iso", source="ts"):
    names = ("hour", "weekday", "day_part")
    fields = [Field(name=name, kind="time", source=source, time_format=time_format) for name in names]
    return Vocabulary.fit(FieldSet(fields), count_table())


def test_a_time_has_fixed_ids_and_its_column_and_format_are_in_the_fingerprint(tmp_path):
    assert fit_times().num_ids == (26, 9, 6)
    assert (
        len({fit_times().fingerprint, fit_times("unix_s").fingerprint, fit_times(source="t").fingerprint})
        == 3
    )
    fit_times().save(f"file://{tmp_path}")
    assert Vocabulary.load(f"file://{tmp_path}").fields == fit_times().fields


def test_the_fingerprint_of_counts_and_categories_never_changes():
    # For each field its name, its kind, the number of known values, their lengths and their texts.
    content = b"I\0count\0" + b"2\0" + (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + b"-13"
    content += b"C\0category\0" + b"3\0" + 3 * (1).to_bytes(8, "little") + b"zab"
    assert Vocabulary.fit(FIELDS, COUNTS).fingerprint == hashlib.sha256(content).hexdigest()[:16]


def test_counts_do_not_change_the_fingerprint():
    more = Vocabulary.fit(FIELDS, count_table((1, "a", 50), (1, "b", 50)))
    assert more.fingerprint == Vocabulary.fit(FIELDS, count_table((1, "a", 5), (1, "b", 5))).fingerprint


@pytest.fixture
def saved(tmp_path):
    Vocabulary.fit(FIELDS, COUNTS).save(f"file://{tmp_path}")
    return tmp_path


def test_a_loaded_vocabulary_equals_the_saved_one(saved):
    vocabulary, loaded = Vocabulary.fit(FIELDS, COUNTS), Vocabulary.load(f"file://{saved}")
    assert loaded.fields == FIELDS
    assert known(loaded) == known(vocabulary)
    assert loaded.num_ids == vocabulary.num_ids
    assert [counts.to_pylist() for counts in loaded.counts] == [[6, 4], [9, 5, 5]]


def test_scalings_and_crosses_survive_saving(tmp_path):
    vocabulary = fit_all_kinds(moments=Moments(3, 1 / 3, 0.2))
    vocabulary.save(f"file://{tmp_path}")
    loaded = Vocabulary.load(f"file://{tmp_path}")
    assert loaded.fields == ALL_KINDS
    assert loaded.scalings == vocabulary.scalings
    assert loaded.num_ids == (4, 5, 2, 2, 5)
    assert loaded.fingerprint == vocabulary.fingerprint


def test_a_changed_scaling_is_rejected(tmp_path):
    fit_all_kinds().save(f"file://{tmp_path}")
    document = json.loads((tmp_path / "vocabulary.json").read_text())
    assert document["fields"][2]["scaling"] == {"mean": 2.0, "std": 2.0}
    document["fields"][2]["scaling"]["mean"] = 2.5
    (tmp_path / "vocabulary.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="the file was changed"):
        Vocabulary.load(f"file://{tmp_path}")


def test_a_saved_vocabulary_is_human_readable(saved):
    assert pq.read_table(saved / "vocabulary.parquet").to_pylist()[:3] == [
        {"field": "I", "value": "-1", "id": 2, "count": 6},
        {"field": "I", "value": "3", "id": 3, "count": 4},
        {"field": "C", "value": "z", "id": 2, "count": 9},
    ]
    assert [field["num_ids"] for field in json.loads((saved / "vocabulary.json").read_text())["fields"]] == [
        4,
        5,
    ]


def test_an_empty_vocabulary_survives_saving(tmp_path):
    Vocabulary.fit(FIELDS, count_table()).save(f"file://{tmp_path}")
    assert Vocabulary.load(f"file://{tmp_path}").num_ids == (2, 2)


def test_a_file_with_one_row_group_for_all_fields_or_none_is_read(saved, tmp_path):
    """Older versions wrote such files, before every field had separate row groups."""
    for vocabulary, folder in ((Vocabulary.fit(FIELDS, COUNTS), saved), (fit_hashed(5), tmp_path / "hashed")):
        folder.mkdir(exist_ok=True)
        vocabulary.save(f"file://{folder}")
        file = folder / "vocabulary.parquet"
        pq.write_table(pq.read_table(file), file)
        assert pq.ParquetFile(file).num_row_groups == 1
        assert known(Vocabulary.load(f"file://{folder}")) == known(vocabulary)


def test_a_changed_vocabulary_is_rejected(saved):
    table = pq.read_table(saved / "vocabulary.parquet").to_pandas()
    table.loc[table["value"] == "z", "value"] = "y"
    table.to_parquet(saved / "vocabulary.parquet")
    with pytest.raises(UserError, match="the file was changed"):
        Vocabulary.load(f"file://{saved}")


@pytest.mark.parametrize("name", ["vocabulary.json", "vocabulary.parquet"])
def test_a_vocabulary_with_a_missing_or_broken_file_is_rejected(saved, name):
    (saved / name).write_bytes(b"{}")
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        Vocabulary.load(f"file://{saved}")
    os.remove(saved / name)
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        Vocabulary.load(f"file://{saved}")
