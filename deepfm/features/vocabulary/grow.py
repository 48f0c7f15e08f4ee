"""A vocabulary that grew: whether it did from another one, and from which old id each new one starts.

Known values keep their ids for ever, so a model that was trained before fits after its tables got longer. A
value that is new was unknown before: its row starts as that of the unknown id it had, so growth alone moves
no score.
"""

import numpy as np

from deepfm.errors import UserError
from deepfm.features.kinds.hashing import text_buckets
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import UNKNOWN_ID, Field


def previous_ids(old: Vocabulary, new: Vocabulary) -> list[np.ndarray]:
    """By field (new number of ids,) int64: the id in `old` whose weights each id of `new` starts from.

    UserError where `new` did not grow from `old`: an id would have another meaning.
    """
    if old.fields != new.fields:
        raise UserError(
            f"expected a dataset with the fields of the model, found {_difference(old, new)}; build it with "
            "--grow from the model's dataset and its data YAML"
        )
    return [_previous_ids_of(field, old, new, index) for index, field in enumerate(new.fields)]


def _previous_ids_of(field: Field, old: Vocabulary, new: Vocabulary, index: int) -> np.ndarray:
    before, after = old.values[index], new.values[index]
    same_numbers = old.scalings.get(field.name) == new.scalings.get(field.name)
    same_numbers &= old.boundaries.get(field.name) == new.boundaries.get(field.name)
    if not same_numbers or not after.slice(0, len(before)).equals(before):
        raise UserError(
            f"expected a dataset that grew from the model's, but ids of field {field.name} have other "
            "meanings in it; build it with --grow from the model's dataset"
        )
    kept = np.arange(old.num_ids[index])
    unknown = np.full(new.num_ids[index] - len(kept), UNKNOWN_ID)
    if field.unknown_buckets > 1:
        unknown += text_buckets(after.slice(len(before)), field.unknown_buckets)
    return np.concatenate([kept, unknown])


def _difference(old: Vocabulary, new: Vocabulary) -> str:
    added = sorted(set(new.fields.names) - set(old.fields.names))
    absent = sorted(set(old.fields.names) - set(new.fields.names))
    changed = [f.name for f in new.fields if f.name in old.fields.names and f not in tuple(old.fields)]
    named = {"new": added, "missing": absent, "changed": changed}
    return "; ".join(f"{how} {', '.join(names)}" for how, names in named.items() if names) or "another order"
