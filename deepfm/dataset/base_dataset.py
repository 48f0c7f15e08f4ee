"""Base dataset of a growing dataset: it provides the vocabulary and the values that are still rare in it."""

from deepfm.dataset.manifest import read_manifest, require_vocabulary
from deepfm.errors import UserError
from deepfm.features.vocabulary.rare_values import RARE_VALUES, rare_tables
from deepfm.features.vocabulary.stored import ReadErrors, StoredVocabulary, open_stored_vocabulary
from deepfm.fields import FieldSet


def base_vocabulary(url: str, fields: FieldSet) -> StoredVocabulary:
    """Open the vocabulary of a complete dataset, with its rare values.

    Raise UserError if it is damaged or its fields differ from `fields`.
    """
    manifest, stored = read_manifest(url), open_stored_vocabulary(url)
    require_vocabulary(url, manifest, stored.fingerprint)
    stored.check()
    if stored.header.fields != fields:
        raise UserError(
            f"--grow {url}: expected a dataset with the fields in --data, found other fields or field "
            "settings; use the data YAML of that dataset, or build without --grow"
        )
    try:
        # Read all of it now: a build may take hours until it needs the rare values.
        for _ in rare_tables(url):
            pass
    except ReadErrors as error:
        raise UserError(
            f"{url}/{RARE_VALUES}: cannot read the dataset's rare values: {error}; build the dataset again"
        ) from error
    return stored
