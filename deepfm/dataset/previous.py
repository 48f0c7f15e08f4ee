"""What a dataset that grows takes over from the one before: its vocabulary, and values still rare in it."""

import pyarrow as pa

from deepfm.dataset.manifest import read_manifest, require_vocabulary
from deepfm.errors import UserError
from deepfm.features.rare_values import RARE_VALUES, num_rare
from deepfm.features.vocabulary_file import StoredVocabulary, stored_vocabulary
from deepfm.fields import FieldSet


def previous_vocabulary(url: str, fields: FieldSet) -> StoredVocabulary:
    """The vocabulary of a finished dataset with its rare values; UserError where its fields are others."""
    manifest, stored = read_manifest(url), stored_vocabulary(url)
    require_vocabulary(url, manifest, stored.fingerprint)
    stored.check()
    if stored.header.fields != fields:
        raise UserError(
            f"--grow {url}: expected a dataset of the fields in --data, found others or other settings of "
            "them; grow with the data YAML it was built with, or build anew"
        )
    try:
        num_rare(url)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{url}/{RARE_VALUES}: expected the dataset's rare values, found {error}; build it anew"
        ) from error
    return stored
