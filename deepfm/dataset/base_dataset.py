"""What a dataset that grows takes over from the one before: its vocabulary, and values still rare in it."""

from deepfm.dataset.manifest import read_manifest, require_vocabulary
from deepfm.errors import UserError
from deepfm.features.vocabulary.rare_values import RARE_VALUES, rare_tables
from deepfm.features.vocabulary.stored import ReadErrors, StoredVocabulary, open_stored_vocabulary
from deepfm.fields import FieldSet


def base_vocabulary(url: str, fields: FieldSet) -> StoredVocabulary:
    """The vocabulary of a finished dataset with its rare values; UserError where its fields are others."""
    manifest, stored = read_manifest(url), open_stored_vocabulary(url)
    require_vocabulary(url, manifest, stored.fingerprint)
    stored.check()
    if stored.header.fields != fields:
        raise UserError(
            f"--grow {url}: expected a dataset of the fields in --data, found others or other settings of "
            "them; grow with the data YAML it was built with, or build anew"
        )
    try:
        # All of it, before a build that takes hours comes to it.
        for _ in rare_tables(url):
            pass
    except ReadErrors as error:
        raise UserError(
            f"{url}/{RARE_VALUES}: expected the dataset's rare values, found {error}; build it anew"
        ) from error
    return stored
