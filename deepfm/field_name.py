"""Name of a field; separate from deepfm.fields, because profiles need no other package."""

from keyword import iskeyword
from typing import Annotated

from pydantic import AfterValidator
from pydantic import Field as Setting


def _reject_keyword(name: str) -> str:
    if iskeyword(name):
        raise ValueError("is a Python keyword and cannot name a Petastorm column; rename it in the log")
    return name


#: A field name is also a column of the dataset and an attribute of the rows that Petastorm returns.
FieldName = Annotated[str, Setting(pattern=r"^[A-Za-z][A-Za-z0-9_]*$"), AfterValidator(_reject_keyword)]
