"""Times in a pandas UDF are those of the log, whatever the time zone of the session."""

import pandas as pd
import pytest

from deepfm.spark.session_time import with_zone

NINE_UTC = pd.Timestamp("2026-07-01 09:00")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_a_time_in_a_udf_has_its_zone(spark, zone):
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        rows = spark.sql("select timestamp_seconds(1782896400) as at, 1 as other")
        in_udf = rows.mapInPandas(
            lambda frames: (
                pd.DataFrame({"at": with_zone(frame["at"]).astype(str), "other": with_zone(frame["other"])})
                for frame in frames
            ),
            "at string, other int",
        )
        assert in_udf.first().asDict() == {"at": f"{NINE_UTC}+00:00", "other": 1}
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def test_a_time_outside_of_spark_is_unchanged():
    column = pd.Series([NINE_UTC, None])
    assert with_zone(column) is column
