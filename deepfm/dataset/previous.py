"""What a dataset that grows takes over from the one before: its vocabulary, and values still rare in it."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from deepfm import storage
from deepfm.dataset.manifest import read_parts
from deepfm.errors import UserError
from deepfm.features.vocabulary import Vocabulary
from deepfm.fields import FieldSet

_RARE = "rare_values.parquet"


def write_rare(url: str, rare: pa.Table) -> None:
    """Keep (field: index, value, num) of the values that are not known: counts carry over."""
    content = io.BytesIO()
    pq.write_table(rare, content)
    storage.write_bytes(f"{url}/{_RARE}", content.getvalue())


def read_vocabulary(url: str, fields: FieldSet) -> tuple[Vocabulary, pa.Table]:
    """The vocabulary of a finished dataset and its rare values; UserError where its fields are others."""
    _, vocabulary = read_parts(url)
    if vocabulary.fields != fields:
        raise UserError(
            f"--grow {url}: expected a dataset of the fields in --data, found others or other settings of "
            "them; grow with the data YAML it was built with, or build anew"
        )
    try:
        rare = pq.read_table(io.BytesIO(storage.read_bytes(f"{url}/{_RARE}")))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{url}/{_RARE}: expected the dataset's rare values, found {error}; build it anew"
        ) from error
    return vocabulary, rare
