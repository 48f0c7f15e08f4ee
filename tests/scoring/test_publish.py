"""A published day: whole or not there, the same after a rerun, and never mixed with an older one."""

import json

import pytest

from deepfm.errors import UserError
from deepfm.scoring import publish
from deepfm.scoring.publish import PublishedDay, day_url, publish_day, published_day, require_keepable

DAY = "2026-01-08"
SCHEMA = "kind string, `keep:C` string, probability double, source_file string, text string, reason string"


def scored(*probabilities: float) -> list[tuple]:
    return [("scored", f"c{at}", p, None, None, None) for at, p in enumerate(probabilities)]


BAD = ("bad", None, None, "file:///log/part.tsv", "0\tx", "count_not_an_integer")
OTHER = ("other_day", None, None, None, None, None)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "scores"


@pytest.fixture(scope="module")
def publish_to(spark):
    """Publish rows of `scored_rows` as a version of ctr."""

    def publish(output, rows, *, num_raw=None, version="1", max_bad_fraction=0.5, keep=(("C", "string"),)):
        return publish_day(
            spark,
            spark.createDataFrame(rows, SCHEMA).coalesce(1),
            num_raw=len(rows) if num_raw is None else num_raw,
            model=("ctr", version),
            day=DAY,
            keep=keep,
            max_bad_fraction=max_bad_fraction,
            output_url=f"file://{output}",
        )

    return publish


@pytest.fixture
def publish_rows(publish_to, output):
    """The same, to this test's output."""
    return lambda rows, **settings: publish_to(output, rows, **settings)


@pytest.fixture(scope="module")
def published(publish_to, tmp_path_factory):
    """(output, what was told) of a day with two scored rows, a bad one and one of another day."""
    output = tmp_path_factory.mktemp("published")
    return output, publish_to(output, [*scored(0.25, 0.75), BAD, OTHER])


def rows_of(spark, output):
    return sorted(spark.read.parquet(f"file://{output}/ds={DAY}").collect())


def contents(output) -> dict[str, bytes]:
    """Every file below a folder, but for Spark's checksums."""
    files = (path for path in output.rglob("*") if path.is_file() and path.suffix != ".crc")
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


def test_a_day_has_the_kept_columns_and_its_own(spark, published):
    first, second = rows_of(spark, published[0])
    assert list(first.asDict()) == ["C", "probability", "model_name", "model_version", "scored_at"]
    assert [(row.C, row.probability, row.model_name, row.model_version) for row in (first, second)] == [
        ("c0", 0.25, "ctr", "1"),
        ("c1", 0.75, "ctr", "1"),
    ]
    assert first.scored_at == second.scored_at


def test_rows_in_are_the_scored_and_the_rejected(published):
    day = published[1]
    assert day == PublishedDay(rows_scored=2, rows_bad=1, name="ctr", version="1", mean_probability=0.5)
    assert day.rows_in == 3


def test_a_published_day_is_told_without_reading_its_rows(published):
    assert published_day(f"file://{published[0]}", DAY) == published[1]


def test_rejected_rows_lie_beside_the_days(published):
    files = (published[0] / "_rejected" / f"ds={DAY}").glob("part-*")
    assert json.loads("".join(file.read_text() for file in files)) == {
        "source_file": "file:///log/part.tsv",
        "text": "0\tx",
        "reason": "count_not_an_integer",
    }


def test_readers_of_the_output_see_only_published_rows(spark, published):
    found = spark.read.parquet(f"file://{published[0]}")
    assert found.count() == 2
    assert str(found.first().ds) == DAY


def test_kept_columns_get_their_type_back(spark, publish_rows, output):
    publish_rows([("scored", "7", 0.5, None, None, None)], keep=(("C", "bigint"),))
    assert rows_of(spark, output)[0].C == 7


def test_a_day_that_is_not_there_is_none(output):
    assert published_day(f"file://{output}", DAY) is None


def test_a_folder_that_is_no_published_day_is_told(output):
    (output / f"ds={DAY}").mkdir(parents=True)
    with pytest.raises(UserError, match="expected a day that score.py published"):
        published_day(f"file://{output}", DAY)


def test_a_new_day_replaces_the_old_one_whole(spark, publish_rows, output):
    publish_rows([*scored(0.25, 0.75), BAD])
    publish_rows(scored(0.5), version="2")
    assert [(row.probability, row.model_version) for row in rows_of(spark, output)] == [(0.5, "2")]
    assert published_day(f"file://{output}", DAY).version == "2"
    assert not list((output / "_rejected").iterdir())


def test_rows_that_do_not_add_up_are_not_published(publish_rows, output):
    with pytest.raises(RuntimeError, match="4 rows were read, but 2 scored"):
        publish_rows([*scored(0.25, 0.75), BAD], num_raw=4)
    assert contents(output) == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*scored(0.5), BAD, BAD], "2 of 3 rows do not fit"),
        ([BAD], "1 of 1 rows do not fit"),
        ([OTHER], "expected impressions, found none"),
        ([], "expected impressions, found none"),
    ],
)
def test_a_day_with_too_few_good_rows_is_not_published(publish_rows, output, rows, message):
    with pytest.raises(UserError, match=message):
        publish_rows(rows)
    assert published_day(f"file://{output}", DAY) is None
    assert not list((output / "_attempts").iterdir())


def test_a_failed_attempt_leaves_the_standing_day_as_it_was(publish_rows, output):
    before = publish_rows(scored(0.25, 0.75))
    files = contents(output / f"ds={DAY}")
    with pytest.raises(UserError, match="2 of 2 rows do not fit"):
        publish_rows([BAD, BAD])
    assert contents(output / f"ds={DAY}") == files
    assert published_day(f"file://{output}", DAY) == before


def test_a_stopped_attempt_leaves_the_standing_day_as_it_was(publish_rows, output, monkeypatch):
    publish_rows(scored(0.25, 0.75))
    before = contents(output)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "_check_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        publish_rows(scored(0.5))
    assert contents(output) == before


def test_what_a_killed_attempt_left_is_removed_by_the_next(publish_rows, output):
    left = output / "_attempts" / f"ds={DAY}.0123"
    other = output / "_attempts" / "ds=2026-01-09.0123"
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / "part-00000.parquet").write_text("half")
    publish_rows(scored(0.5))
    assert not left.exists()
    assert other.exists()  # another night may be at work on it


@pytest.mark.parametrize("date", ["2026-13-01", "../x", "2026-1-1", "20260101", "2026-01-01/..", ""])
def test_what_is_no_day_names_no_folder(date):
    with pytest.raises(UserError, match="--date: expected a day YYYY-MM-DD"):
        day_url("file:///scores", date)


@pytest.mark.parametrize("keep", [["C", "C"], ["C", "c"], ["probability"], ["Model_Name"], ["ds"]])
def test_columns_that_would_be_there_twice_are_refused(keep):
    with pytest.raises(UserError, match=f"--keep: .*{keep[0]}.* twice"):
        require_keepable(keep)


def test_other_columns_can_be_kept():
    require_keepable(["C", "label", "kind", "text"])
