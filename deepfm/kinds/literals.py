"""Reserved ids, and the values of settings that kinds of fields share."""

from typing import Literal

#: Ids every field reserves before its first known value; with unknown_buckets there are more unknown ids.
MISSING_ID = 0
UNKNOWN_ID = 1
FIRST_KNOWN_ID = 2
#: Second id of a value field, which has no vocabulary and therefore no unknown values.
PRESENT_ID = 1
#: Empty slot of a list; not a row of a table.
PADDING = -1

Scale = Literal["standard", "log"]
Pooling = Literal["mean", "sum"]
#: iso, unix_s, unix_ms, unix_us, unix_ns, or a format of strptime.
TimeFormat = str
#: Fields that can be derived from a time.
TIME_NAMES = ("hour", "weekday", "day_part")
