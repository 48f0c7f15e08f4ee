"""Display names of ids; text from a log becomes printable and is on one line."""

from deepfm.features.kinds.count_buckets import FIRST_LOG_BUCKET, NEGATIVE_BUCKET, bucket_start
from deepfm.features.vocabulary.vocabulary import Vocabulary

MAX_CHARACTERS = 120
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def value_name(vocabulary: Vocabulary, index: int, id_: int) -> str:
    """Return the value or range of values of a known id of the field at `index`."""
    field = vocabulary.fields[index]
    position = id_ - field.first_known_id
    if field.kind == "quantile":
        return _range_name(vocabulary.boundaries[field.name], position)
    if field.kind == "time":
        return _time_name(field.name, position)
    text = vocabulary.values[index][position].as_py()
    return _count_name(int(text)) if field.kind == "count" else printable(text)


def value_order(vocabulary: Vocabulary, index: int, id_: int) -> int:
    """Return the sort key of an id: ascending values for buckets, ids for a vocabulary."""
    field = vocabulary.fields[index]
    position = id_ - field.first_known_id
    return int(vocabulary.values[index][position].as_py()) if field.kind == "count" else position


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """Truncate the text and escape characters that a page would hide or that reverse its direction."""
    shown = text[:max_characters]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return escaped + ("…" if len(text) > max_characters else "")


def _count_name(bucket: int) -> str:
    if bucket == NEGATIVE_BUCKET:
        return "below 0"
    return str(bucket) if bucket < FIRST_LOG_BUCKET else f"from {bucket_start(bucket)}"


def _range_name(boundaries: tuple[float, ...], bucket: int) -> str:
    if not boundaries:
        return "all"
    if bucket == len(boundaries):
        return f"above {boundaries[-1]:.6g}"
    upper = f"to {boundaries[bucket]:.6g}"
    return f"{boundaries[bucket - 1]:.6g} {upper}" if bucket else f"up {upper}"


def _time_name(name: str, bucket: int) -> str:
    if name == "weekday":
        return _WEEKDAYS[bucket]
    return f"{bucket} h" if name == "hour" else f"{6 * bucket} to {6 * bucket + 5} h"
