"""What an id stands for, in words for people; any text of a log comes out printable and on one line."""

from deepfm.features.kinds.count_buckets import FIRST_LOG_BUCKET, NEGATIVE_BUCKET, bucket_start
from deepfm.features.vocabulary.vocabulary import Vocabulary

MAX_CHARACTERS = 120
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def value_name(vocabulary: Vocabulary, index: int, id_: int) -> str:
    """The value or range of values of a known id of the field at `index`."""
    field = vocabulary.fields[index]
    place = id_ - field.first_known_id
    if field.kind == "quantile":
        return _range_name(vocabulary.boundaries[field.name], place)
    if field.kind == "time":
        return _time_name(field.name, place)
    text = vocabulary.values[index][place].as_py()
    return _count_name(int(text)) if field.kind == "count" else printable(text)


def value_order(vocabulary: Vocabulary, index: int, id_: int) -> int:
    """By what the buckets of a field are put in order: from the smallest value up."""
    field = vocabulary.fields[index]
    place = id_ - field.first_known_id
    return int(vocabulary.values[index][place].as_py()) if field.kind == "count" else place


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """The text, cut, with escapes such as \\n for what a page would hide or be turned around by."""
    shown = text[:max_characters]
    seen = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return seen + ("…" if len(text) > max_characters else "")


def _count_name(bucket: int) -> str:
    if bucket == NEGATIVE_BUCKET:
        return "below 0"
    return str(bucket) if bucket < FIRST_LOG_BUCKET else f"from {bucket_start(bucket)}"


def _range_name(boundaries: tuple[float, ...], place: int) -> str:
    if not boundaries:
        return "all"
    if place == len(boundaries):
        return f"above {boundaries[-1]:.6g}"
    upper = f"to {boundaries[place]:.6g}"
    return f"{boundaries[place - 1]:.6g} {upper}" if place else f"up {upper}"


def _time_name(name: str, place: int) -> str:
    if name == "weekday":
        return _WEEKDAYS[place]
    return f"{place} h" if name == "hour" else f"{6 * place} to {6 * place + 5} h"
