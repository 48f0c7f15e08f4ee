"""One line of what the doctor says."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["green", "yellow", "red"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and the line to run where that is not enough."""

    what: str
    level: Level
    found: str
    remedy: str = ""

    def __post_init__(self):
        # What libraries say may have many lines; a finding has one.
        object.__setattr__(self, "found", " ".join(self.found.split()))
        assert (self.level == "green") == (not self.remedy), self


def green(what: str, found: str) -> Finding:
    """All is well."""
    return Finding(what, "green", found)


def yellow(what: str, found: str, remedy: str) -> Finding:
    """The jobs run, but slower or with less than they could have."""
    return Finding(what, "yellow", found, remedy)


def red(what: str, found: str, remedy: str) -> Finding:
    """A job will fail of it."""
    return Finding(what, "red", found, remedy)
