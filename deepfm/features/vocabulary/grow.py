"""Growth of a vocabulary: check that one grew from another, and map new ids to the ids they start from.

Known values keep their ids, so a trained model fits after its tables are extended. A new value was unknown
before: its row starts as a copy of the unknown id it had, so growth alone changes no score.
"""

import numpy as np

from deepfm.errors import UserError
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.fields import UNKNOWN_ID, Field
from deepfm.kinds.hashing import text_buckets


def previous_ids(old: Vocabulary, new: Vocabulary) -> list[np.ndarray]:
    """Per field, (number of new ids,) int64: the id in `old` whose weights each id of `new` starts from.

    Raise UserError if `new` did not grow from `old`, so that ids have other meanings.
    """
    if old.fields != new.fields:
        raise UserError(
            f"expected a dataset with the fields of the model, found {_difference(old, new)}; build it with "
            "--grow from the model's dataset and its data YAML"
        )
    return [_field_previous_ids(field, old, new, index) for index, field in enumerate(new.fields)]


def _field_previous_ids(field: Field, old: Vocabulary, new: Vocabulary, index: int) -> np.ndarray:
    before, after = old.values[index], new.values[index]
    same_numbers = old.scalings.get(field.name) == new.scalings.get(field.name)
    same_numbers &= old.boundaries.get(field.name) == new.boundaries.get(field.name)
    if not same_numbers or not after.slice(0, len(before)).equals(before):
        raise UserError(
            f"expected a dataset that grew from the model's dataset, but field {field.name} has ids with "
            "another meaning; build it with --grow from the model's dataset"
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
    changes = {"new": added, "missing": absent, "changed": changed}
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in changes.items() if names) or (
        "another order"
    )
