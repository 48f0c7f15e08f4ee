"""Columns that only some files of a log have."""

import logging
from collections.abc import Collection, Sequence

from deepfm.errors import UserError

logger = logging.getLogger(__name__)


def check_lacking(
    url: str, files: Sequence[tuple[str, Collection[str]]], name: str, *, is_optional: bool
) -> None:
    """Warn if the first files, by name or day, lack a column; raise UserError if later ones do.

    `files`: URL and columns of each file.
    """
    has_it = [name in columns for _, columns in files]
    lacking = [file for file, has in zip(files, has_it, strict=True) if not has]
    if not lacking or not any(has_it):
        return
    was_removed = not all(has_it[has_it.index(True) :])
    if was_removed or not is_optional:
        file, columns = lacking[-1]
        raise UserError(
            f"{file}: expected column {name} as in {files[has_it.index(True)][0]}, found only "
            f"{', '.join(columns):.500}; write it, empty if it has no values"
        )
    logger.warning(
        "%s: column %s is missing in %d of %d files, such as %s; its values are missing there",
        url, name, len(lacking), len(files), lacking[0][0],
    )  # fmt: skip
