"""One line of the doctor's report."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["green", "yellow", "red"]


@dataclass(frozen=True)
class Finding:
    """Result of one check: what was checked, what was found, and the command to run if it is not green."""

    what: str
    level: Level
    found: str
    remedy: str = ""

    def __post_init__(self):
        # Messages of libraries may have many lines; a finding has one.
        object.__setattr__(self, "found", " ".join(self.found.split()))
        assert (self.level == "green") == (not self.remedy), self


def green(what: str, found: str) -> Finding:
    """The check passed."""
    return Finding(what, "green", found)


def yellow(what: str, found: str, remedy: str) -> Finding:
    """Jobs run, but more slowly or with fewer resources than possible."""
    return Finding(what, "yellow", found, remedy)


def red(what: str, found: str, remedy: str) -> Finding:
    """Jobs will fail."""
    return Finding(what, "red", found, remedy)
