"""Field and FieldSet: names, kinds and order of the columns a model is made of; what every stage speaks."""

from keyword import iskeyword
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic import Field as Setting

#: Ids every field reserves before its first known value.
MISSING_ID = 0
UNKNOWN_ID = 1
FIRST_KNOWN_ID = 2


def _no_keyword(name: str) -> str:
    if iskeyword(name):
        raise ValueError("is a word of Python's, which Petastorm cannot name a column; rename it in the log")
    return name


#: A field is also a column of the dataset and an attribute of what Petastorm reads from it.
FieldName = Annotated[str, Setting(pattern=r"^[A-Za-z][A-Za-z0-9_]*$"), AfterValidator(_no_keyword)]
Kind = Literal["count", "category"]


class Field(BaseModel):
    """One column of the click log and how its raw value becomes a feature.

    A `count` (an integer such as I1..I13) is bucketed by floor(log(x)^2) first, a `category` is taken as it
    is; either way the value then gets an id from the field's vocabulary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: FieldName
    kind: Kind
    min_count: int = Setting(
        default=1, ge=1
    )  # training impressions below which a value is rare: the unknown id


class FieldSet:
    """The ordered fields of one model; the order is that of the columns on disk and of the F in (B, F)."""

    def __init__(self, fields: list[Field] | tuple[Field, ...]):
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in self.fields)

    def __iter__(self):
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, index: int) -> Field:
        return self.fields[index]

    def __eq__(self, other) -> bool:
        return isinstance(other, FieldSet) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)
