"""A day is published completely or not at all, and is the same after a rerun."""

import json
import math

import pytest

from deepfm import storage
from deepfm.errors import JobFailedError, UserError
from deepfm.metrics.binary import SCORE_BINS
from deepfm.metrics.field_counts import NUM_KINDS
from deepfm.ownership import exclusive_ownership
from deepfm.scoring.days import (
    Provenance,
    day_url,
    days_before,
    parse_days,
    published_day,
    require_keepable,
)
from deepfm.scoring.publishing import day_versions, publish
from deepfm.scoring.publishing.day_output import DayOutput
from deepfm.scoring.publishing.publish import DriftDecision, ScoredRows, publish_day

DAY = "2026-01-08"
SCHEMA = "kind string, `keep:C` string, probability double, source_file string, text string, reason string"


def scored(*probabilities: float) -> list[tuple]:
    return [("scored", f"c{index}", p, None, None, None) for index, p in enumerate(probabilities)]


BAD = ("bad", None, None, "file:///log/part.tsv", "0\tx", "count_not_an_integer")
UNDATED = ("undated", *BAD[1:])
OTHER = ("other_day", None, None, None, None, None)
_PART = {"hashes": "255", "scores": [0] * SCORE_BINS, "fields": [[0] * NUM_KINDS]}
TOTALS = ("totals", None, None, None, json.dumps(_PART), None)
NO_DRIFT = DriftDecision(())


@pytest.fixture
def output(tmp_path):
    return tmp_path / "scores"


@pytest.fixture(scope="module")
def publish_to(spark):
    """Publish rows of `score_rows` as a version of ctr."""

    def publish(
        output,
        rows,
        *,
        num_input_rows=None,
        version="1",
        max_bad_fraction=0.5,
        keep=("C",),
        key=(),
        day=DAY,
        decision=NO_DRIFT,
    ):
        url = f"file://{output}"
        with exclusive_ownership(url, f"ds={day}", day, "") as ownership:
            return publish_day(
                spark,
                ScoredRows(
                    spark.createDataFrame([*rows, TOTALS], SCHEMA).coalesce(1),
                    num_input_rows=len(rows) if num_input_rows is None else num_input_rows,
                    num_fields=1,
                ),
                Provenance("ctr", version, model_digest="m"),
                DayOutput(day, f"file://{output}", keep, max_bad_fraction, key),
                check_drift=lambda totals, mean_probability: decision,
                ownership=ownership,
            )

    return publish


@pytest.fixture
def publish_rows(publish_to, output):
    """Publish to this test's output."""
    return lambda rows, **settings: publish_to(output, rows, **settings)


@pytest.fixture(scope="module")
def published(publish_to, tmp_path_factory):
    """(output, PublishedDay) of a day with two scored rows, a bad one and one of another day."""
    output = tmp_path_factory.mktemp("published")
    return output, publish_to(output, [*scored(0.25, 0.75), BAD, OTHER])


def rows_of(spark, output):
    return sorted(spark.read.parquet(f"file://{output}/ds={DAY}").collect())


def contents(output) -> dict[str, bytes]:
    """Every file below a folder except Spark's checksums."""
    files = (path for path in output.rglob("*") if path.is_file() and path.suffix != ".crc")
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def test_a_day_has_the_kept_columns_and_the_reserved_ones(spark, published):
    first, second = rows_of(spark, published[0])
    assert list(first.asDict()) == ["C", "probability", "model_name", "model_version"]
    assert [(row.C, row.probability, row.model_name, row.model_version) for row in (first, second)] == [
        ("c0", 0.25, "ctr", "1"),
        ("c1", 0.75, "ctr", "1"),
    ]


def test_rows_in_are_the_scored_and_the_rejected(published):
    day = published[1]
    assert (day.rows_scored, day.rows_bad, day.rows_in, day.mean_probability) == (2, 1, 3, 0.5)


def test_a_day_records_its_provenance(published):
    day = published[1]
    assert day.provenance == Provenance("ctr", "1", model_digest="m")
    assert day.input_digest == "00000000000000ff"
    assert day.scored_at.endswith("+00:00")


def test_the_provenance_file_has_flat_keys(published):
    document = json.loads((published[0] / f"ds={DAY}" / "_provenance.json").read_text())
    assert set(document) == {
        "rows_scored", "rows_bad", "name", "version", "mean_probability", "model_digest", "input_url",
        "input_digest", "code_version", "scored_at", "num_compared", "warnings", "kept",
    }  # fmt: skip


def test_a_day_with_an_unknown_key_is_not_a_published_day(output):
    storage.make_folder(f"file://{output}/ds={DAY}")
    known = {"name": "ctr", "version": "1", "rows_scored": 1, "rows_bad": 0, "mean_probability": 0.5}
    storage.write_json(f"file://{output}/ds={DAY}/_provenance.json", known)
    assert published_day(f"file://{output}", DAY).provenance.kept is None
    storage.write_json(f"file://{output}/ds={DAY}/_provenance.json", known | {"rows": 1})
    with pytest.raises(UserError, match="expected a day that score.py published"):
        published_day(f"file://{output}", DAY)


def test_a_published_day_is_described_without_reading_its_rows(published):
    assert published_day(f"file://{published[0]}", DAY) == published[1]


def test_undated_rows_count_against_the_whole_log(publish_rows):
    """Two undated rows are a fifth of all rows, and a third of the rows of the day."""
    rows = [*scored(0.1, 0.2, 0.3, 0.4), UNDATED, UNDATED, *[OTHER] * 4]
    assert publish_rows(rows, max_bad_fraction=0.2).rows_bad == 2
    with pytest.raises(UserError, match="3 of 10 rows do not fit"):
        publish_rows([*rows[:-1], UNDATED], max_bad_fraction=0.2)


def test_bad_rows_of_a_day_count_against_the_day(publish_rows):
    rows = [*scored(0.1, 0.2, 0.3), BAD, UNDATED, *[OTHER] * 95]
    with pytest.raises(UserError, match="1 of 4 rows do not fit"):
        publish_rows(rows, max_bad_fraction=0.2)


def test_rejected_rows_are_stored_next_to_the_days(published):
    files = (published[0] / "_rejected" / f"ds={DAY}").glob("part-*")
    assert json.loads("".join(file.read_text() for file in files)) == {
        "source_file": "file:///log/part.tsv",
        "text": "0\tx",
        "reason": "count_not_an_integer",
    }


def test_readers_of_the_output_see_only_published_rows(spark, published):
    frame = spark.read.parquet(f"file://{published[0]}")
    assert frame.count() == 2
    assert str(frame.first().ds) == DAY


def test_a_day_that_is_not_published_is_none(output):
    assert published_day(f"file://{output}", DAY) is None


def test_a_folder_that_is_not_a_published_day_is_reported(output):
    (output / f"ds={DAY}").mkdir(parents=True)
    with pytest.raises(UserError, match="expected a day that score.py published"):
        published_day(f"file://{output}", DAY)


def test_a_new_day_replaces_the_old_one_completely(spark, publish_rows, output):
    publish_rows([*scored(0.25, 0.75), BAD])
    publish_rows(scored(0.5), version="2")
    assert [(row.probability, row.model_version) for row in rows_of(spark, output)] == [(0.5, "2")]
    assert published_day(f"file://{output}", DAY).provenance.version == "2"
    assert not list((output / "_rejected").iterdir())


def test_rows_that_do_not_add_up_are_not_published(publish_rows, output):
    with pytest.raises(JobFailedError, match="4 rows were read, but 2 scored"):
        publish_rows([*scored(0.25, 0.75), BAD], num_input_rows=4)
    assert contents(output) == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*scored(0.5), BAD, BAD], r"2 of 3 rows do not fit \(2 count_not_an_integer\)"),
        ([BAD], "check that ctr is a model of this log"),
        ([OTHER], "expected impressions, found none"),
        ([], "expected impressions, found none"),
    ],
)
def test_a_day_with_too_few_good_rows_is_not_published(publish_rows, output, rows, message):
    with pytest.raises(UserError, match=message):
        publish_rows(rows)
    assert published_day(f"file://{output}", DAY) is None
    assert not list((output / "_attempts").iterdir())


def test_a_failed_attempt_keeps_the_published_day(publish_rows, output):
    before = publish_rows(scored(0.25, 0.75))
    files = contents(output / f"ds={DAY}")
    with pytest.raises(UserError, match="2 of 2 rows do not fit"):
        publish_rows([BAD, BAD])
    assert contents(output / f"ds={DAY}") == files
    assert published_day(f"file://{output}", DAY) == before


def test_an_interrupted_attempt_keeps_the_published_day(publish_rows, output, monkeypatch):
    publish_rows(scored(0.25, 0.75))
    before = contents(output)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "check_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        publish_rows(scored(0.5))
    assert contents(output) == before


def test_a_day_that_a_killed_run_was_replacing_is_restored(publish_rows, output):
    publish_rows(scored(0.25), version="1")
    before = contents(output / f"ds={DAY}")
    attempt = output / "_attempts" / f"ds={DAY}.0123"
    attempt.mkdir()
    (output / f"ds={DAY}").rename(attempt / "replaced")
    with pytest.raises(UserError, match="drifted"):
        publish_rows(scored(0.5), version="2", decision=DriftDecision(("drifted",), stop=True))
    assert contents(output / f"ds={DAY}") == before
    assert not list((output / "_attempts").iterdir())


def test_a_run_whose_attempt_another_run_removed_fails(publish_rows, output, monkeypatch):
    write_reports = publish._write_reports

    def write_and_clear(*arguments):
        write_reports(*arguments)
        day_versions.clear_attempts(f"file://{output}", DAY)

    monkeypatch.setattr(publish, "_write_reports", write_and_clear)
    with pytest.raises(JobFailedError, match="another run of this day has started since"):
        publish_rows(scored(0.5))
    assert not (output / f"ds={DAY}").exists()


def test_if_a_rename_is_a_copy_the_last_file_publishes_the_day(monkeypatch):
    day, target = "memory://scores/_attempts/day", f"memory://scores/ds={DAY}"
    for name in ("_provenance.json", "part-0.parquet"):
        storage.write_bytes(f"{day}/{name}", name.encode())
    rename = storage.rename

    def check_and_rename(source, new):
        assert not storage.exists(f"{source}/_provenance.json")
        rename(source, new)
        assert storage.exists(f"{new}/part-0.parquet")

    monkeypatch.setattr(storage, "rename", check_and_rename)
    day_versions._move(day, target)
    assert storage.read_bytes(f"{target}/_provenance.json") == b"_provenance.json"


def test_the_next_run_removes_a_killed_attempt(publish_rows, output):
    killed = output / "_attempts" / f"ds={DAY}.0123"
    other = output / "_attempts" / "ds=2026-01-09.0123"
    for folder in (killed, other):
        folder.mkdir(parents=True)
        (folder / "part-00000.parquet").write_text("half")
    publish_rows(scored(0.5))
    assert not killed.exists()
    assert other.exists()  # another run may be writing that day


@pytest.mark.parametrize("date", ["2026-13-01", "../x", "2026-1-1", "20260101", "2026-01-01/..", ""])
def test_a_malformed_day_is_refused(date):
    with pytest.raises(UserError, match="--date: expected a day YYYY-MM-DD"):
        day_url("file:///scores", date)


@pytest.mark.parametrize("keep", [["C", "C"], ["C", "c"], ["probability"], ["Model_Name"], ["ds"]])
def test_duplicate_columns_are_refused(keep):
    with pytest.raises(UserError, match=f"--keep: duplicate column .*{keep[0]}"):
        require_keepable(keep)


def test_other_columns_can_be_kept():
    require_keepable(["C", "label", "kind", "text"])


def test_the_same_rows_give_the_same_bytes(publish_to, tmp_path):
    rows = [
        path.read_bytes() for name in ("one", "two") for path in _published_rows(publish_to, tmp_path / name)
    ]
    assert rows[0] == rows[1]


def _published_rows(publish_to, output):
    publish_to(output, scored(0.25, 0.75))
    return (output / f"ds={DAY}").glob("*.parquet")


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.1, None])
def test_invalid_probabilities_are_not_published(publish_rows, output, wrong):
    with pytest.raises(UserError, match="1 probabilities are NaN or outside 0 to 1; nothing was published"):
        publish_rows([*scored(0.5), ("scored", "c", wrong, None, None, None)])
    assert published_day(f"file://{output}", DAY) is None


def test_a_duplicate_key_is_not_published(publish_rows, output):
    rows = [*scored(0.25, 0.5), ("scored", "c1", 0.5, None, None, None)]
    with pytest.raises(UserError, match="expected each C once, found C c1 2 times"):
        publish_rows(rows, key=("C",))
    assert published_day(f"file://{output}", DAY) is None
    assert publish_rows(rows[:2], key=("C",)).rows_scored == 2


def test_a_key_must_be_published():
    with pytest.raises(UserError, match="--key: id must be among --keep"):
        require_keepable(["C"], ["id"])


def test_a_day_whose_drift_says_stop_is_not_published(publish_rows, output):
    stop = DriftDecision(("scores: PSI 0.3 is above 0.25",), {"psi": 0.3}, "<html>", stop=True)
    with pytest.raises(UserError, match="nothing was published: scores: PSI 0.3 is above 0.25"):
        publish_rows(scored(0.5), decision=stop)
    assert published_day(f"file://{output}", DAY) is None


def test_drift_reports_are_in_the_days_folder_and_hidden_from_readers(spark, publish_rows, output):
    publish_rows(scored(0.5), decision=DriftDecision(("late",), {"psi": 0.3}, "<p>late</p>"))
    folder = output / f"ds={DAY}"
    assert json.loads((folder / "_drift.json").read_text()) == {"psi": 0.3}
    assert (folder / "_report.html").read_text() == "<p>late</p>"
    assert published_day(f"file://{output}", DAY).warnings == ("late",)
    assert spark.read.parquet(f"file://{output}").count() == 1


def test_days_before_are_the_last_published_ones(publish_rows, output):
    for day, num_rows in (("2026-01-05", 1), ("2026-01-06", 2), ("2026-01-07", 3), ("2026-01-09", 4)):
        publish_rows(scored(*[0.5] * num_rows), day=day)
    (output / "ds=2026-01-04").mkdir()
    assert [day.rows_scored for day in days_before(f"file://{output}", DAY, 2)] == [2, 3]
    assert [day.rows_scored for day in days_before(f"file://{output}", DAY, 9)] == [1, 2, 3]
    assert days_before("file:///nowhere/at/all", DAY, 2) == []


def test_days_are_one_date_or_all_dates_of_a_range():
    assert parse_days(DAY, None, None) == [DAY]
    assert parse_days(None, "2026-02-27", "2026-03-01") == ["2026-02-27", "2026-02-28", "2026-03-01"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, None, None), "expected --date D, or --from D1 and --to D2"),
        ((DAY, DAY, DAY), "expected --date D, or --from D1 and --to D2"),
        ((None, DAY, None), "--to: expected a day"),
        (("../x", None, None), "--date: expected a day"),
        ((None, DAY, "2026-01-07"), "expected the earlier day first"),
    ],
)
def test_invalid_dates_are_reported(flags, message):
    with pytest.raises(UserError, match=message):
        parse_days(*flags)
