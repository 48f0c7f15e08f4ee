"""Times that Spark passes to a Python function without their zone."""

import sys

import pandas as pd
from dateutil import tz

_ZONE = "spark.sql.session.timeZone"


def with_zone(column: pd.Series) -> pd.Series:
    """Return a column with times that have a zone, if it was passed to a pandas UDF of Spark; else unchanged.

    Spark writes the local time of its session into a pandas column without a zone.
    """
    if "pyspark" not in sys.modules or not pd.api.types.is_datetime64_dtype(column.dtype):
        return column
    from pyspark import TaskContext

    context = TaskContext.get()
    if context is None:
        return column
    # Without the setting, sessions use the zone of the machine.
    zone = context.getLocalProperty(_ZONE) or tz.tzlocal()
    # An hour that occurs twice is the first; one that is skipped does not occur.
    local = column.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return local.dt.tz_convert("UTC")
