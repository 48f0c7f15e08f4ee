"""What an id stands for, in words for people; any text of a log comes out printable and on one line."""

from deepfm.features.vocabulary.vocabulary import Vocabulary

MAX_CHARACTERS = 120


def value_name(vocabulary: Vocabulary, index: int, id_: int) -> str:
    """The value or range of values of a known id of the field at `index`."""
    field, fitted = vocabulary.fields[index], vocabulary.fitted(index)
    return printable(field.behaviour.value_name(field, id_ - field.first_known_id, fitted))


def value_order(vocabulary: Vocabulary, index: int, id_: int) -> int:
    """By what the buckets of a field are put in order: from the smallest value up."""
    field, fitted = vocabulary.fields[index], vocabulary.fitted(index)
    return field.behaviour.value_order(id_ - field.first_known_id, fitted)


def printable(text: str, max_characters: int = MAX_CHARACTERS) -> str:
    """The text, cut, with escapes such as \\n for what a page would hide or be turned around by."""
    shown = text[:max_characters]
    seen = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return seen + ("…" if len(text) > max_characters else "")
