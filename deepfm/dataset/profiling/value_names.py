"""Display names of ids; text from a log becomes printable and is on one line."""

from deepfm.features.vocabulary.chunked import AnyVocabulary

MAX_CHARACTERS = 120


def value_name(vocabulary: AnyVocabulary, index: int, id_: int) -> str:
    """Return the value or range of values of a known id of the field at `index`."""
    field, fitted = vocabulary.fields[index], vocabulary.fitted(index)
    return printable(field.behaviour.value_name(field, id_ - field.first_known_id, fitted))


def value_order(vocabulary: AnyVocabulary, index: int, id_: int) -> int:
    """Return the sort key of an id: ascending values for buckets, ids for a vocabulary."""
    field, fitted = vocabulary.fields[index], vocabulary.fitted(index)
    return field.behaviour.value_order(id_ - field.first_known_id, fitted)


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """Truncate the text and escape characters that a page would hide or that reverse its direction."""
    shown = text[:max_characters]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return escaped + ("…" if len(text) > max_characters else "")
