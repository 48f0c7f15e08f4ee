"""Makes of synthetic logs: which parts the planted truth has, and the options of a log."""

from dataclasses import dataclass
from typing import NamedTuple


class Make(NamedTuple):
    """Standard deviation of each part of the logit; of the third order, its absolute value."""

    first_order: float
    pairwise: float
    factorized: float
    third_order: float


#: `deep`: few strong interactions of second and third order, which a deep part finds. `factorized`: the world
#: of an FM, weak interactions of all pairs of fields, with a small term of third order.
MAKES = {
    "deep": Make(0.55, 0.8, 0.0, 0.9),
    "factorized": Make(0.55, 0.0, 0.8, 0.2),
    "mixed": Make(0.55, 0.5, 0.6, 0.5),
}


@dataclass(frozen=True)
class TruthOptions:
    """Kind of log: what determines a click, how many values there are, how rare and how noisy clicks are."""

    make: str = "deep"  # a key of MAKES
    ctr: float = 0.25  # clicks per impression, of the first day
    # Standard deviation of a normal term that is added to the logit of each impression and no field shows.
    noise: float = 0.0
    num_values: int | None = None  # of all categories together, about; None: four million
    # Rotation of the first-order weights per day in radians, and the share of values that is replaced per day
    # in each wide category.
    drift: float = 0.0


#: The log of the demo.
DEFAULT_OPTIONS = TruthOptions()
