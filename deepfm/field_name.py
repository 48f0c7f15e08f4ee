"""Name of a field; separate from deepfm.fields, because profiles need no other package."""

import re
import unicodedata
from keyword import iskeyword
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic import Field as Setting


def _require_identifier(name: str) -> str:
    if not name or name != field_name_of(name):
        raise ValueError(
            f"expected letters, digits and _, first a letter, and no Python keyword, found {name!r}; "
            f"for example {field_name_of(name) or 'site'}"
        )
    return name


def _require_text(name: Any) -> Any:
    if isinstance(name, (bool, int, float)):
        raise ValueError(f"expected a name, found {name!r}; put it in quotes")
    return name


def field_name_of(column: str) -> str:
    """Name of the field of a column: `user-id` -> `user_id`, `101` -> `column_101`; "" if there is none.

    A field name is also a column of the dataset and an attribute of the rows that Petastorm returns.
    """
    # Python compares identifiers in this normal form.
    name = re.sub(r"\W", "_", unicodedata.normalize("NFKC", column)).lstrip("_")
    if name[:1].isdigit():
        name = f"column_{name}"
    name += "_" * iskeyword(name)
    return name if name.isidentifier() else ""


FieldName = Annotated[str, BeforeValidator(_require_text), AfterValidator(_require_identifier)]
#: Name of a column of the log: any text.
ColumnName = Annotated[str, BeforeValidator(_require_text), Setting(min_length=1)]
