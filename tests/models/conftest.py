"""Random small models and impressions, and what definitions by loops over scalars have in common."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepfm.models.layers import FieldEmbedding


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On a busy machine, threads that wait for each other take ten times as long over so little work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Case:
    """The shape of a model and a few impressions for it."""

    num_ids: list[int]
    crossed: list[int]  # numbers of ids of crossed fields, whose columns are the last ones
    num_slots: list[int]  # how many columns each field has, crossed ones too
    k: int
    deep: dict
    seed: int
    ids: torch.Tensor
    x: torch.Tensor | None


@st.composite
def cases(draw):
    num_ids = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4), label="num_ids")
    crossed = draw(st.lists(st.integers(1, 5), max_size=2), label="crossed")
    num_impressions = draw(st.integers(1, 3), label="impressions")
    num_slots = [draw(st.sampled_from([1, 1, 3]), label="slots") for _ in num_ids] + [1] * len(crossed)
    deep = {
        "hidden_units": draw(st.lists(st.integers(1, 3), max_size=2)),
        "activation": draw(st.sampled_from(["relu", "tanh", "sigmoid"])),
    }
    seed = draw(st.integers(0, 10**6))
    random = torch.Generator().manual_seed(seed)
    columns = []
    for n, slots in zip(num_ids + crossed, num_slots, strict=True):
        columns += [torch.randint(0, n, (num_impressions,), generator=random) for _ in range(slots)]
        for empty in columns[len(columns) - slots + 1 :]:
            empty[torch.rand(num_impressions, generator=random) < 0.5] = -1
    x = torch.randn(num_impressions, len(columns), dtype=torch.float64, generator=random)
    x = x if draw(st.booleans(), label="with x") else None
    ids = torch.stack(columns, dim=1)
    return Case(num_ids, crossed, num_slots, draw(st.integers(1, 4)), deep, seed, ids, x)


class Impression:
    """One row as the papers write it, in scalars: w_0, and x[i], w[i], v[i][k] of each field i.

    Of a list, w[i] and v[i] are already the sums of its values', each times its x; its x[i] is 1.
    """

    def __init__(self, weights: dict[str, torch.Tensor], case: Case, row: int):
        self._weights, self._case = weights, case
        self.fields, self.dims = range(len(case.num_ids)), range(case.k)
        self.crossed = range(len(case.num_ids), len(case.num_slots))
        ids, x = case.ids[row].tolist(), [1.0] * case.ids.shape[1] if case.x is None else case.x[row].tolist()
        self._values = []  # of each field: (id, x) of its values
        for slots in case.num_slots:
            self._values.append(
                [value for value in zip(ids[:slots], x[:slots], strict=True) if value[0] >= 0]
            )
            ids, x = ids[slots:], x[slots:]
        self.x = [
            values[0][1] if slots == 1 else 1.0
            for values, slots in zip(self._values, case.num_slots, strict=True)
        ]

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[name]

    def row_of(self, table: str, i: int) -> list[torch.Tensor]:
        """What a table holds for the id of field i, behind the ids of all fields before it."""
        before, rows = sum([*self._case.num_ids, *self._case.crossed][:i]), self[f"{table}.table.weight"]
        if self._case.num_slots[i] == 1:
            ((id_, _),) = self._values[i]
            return list(rows[before + id_])
        totals = [0.0] * rows.shape[1]
        for id_, x in self._values[i]:
            for k in range(rows.shape[1]):
                totals[k] = totals[k] + x * rows[before + id_][k]
        return totals

    @property
    def w_0(self) -> torch.Tensor:
        return self["linear.bias"][0]

    @property
    def w(self) -> list[torch.Tensor]:
        return [self.row_of("linear.weights", i)[0] for i in self.fields]

    @property
    def v(self) -> list[list[torch.Tensor]]:
        return [self.row_of("embedding", i) for i in self.fields]

    def deep(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """The deep part, layer by layer and unit by unit: activation(bias + weights times inputs)."""
        places = [int(name.split(".")[2]) for name in self._weights if name.startswith("deep.layers.")]
        for place in sorted(set(places)):
            weight, bias = self[f"deep.layers.{place}.weight"], self[f"deep.layers.{place}.bias"]
            assert weight.shape[1] == len(inputs)
            units = []
            for unit in range(len(bias)):
                total = bias[unit]
                for number, signal in enumerate(inputs):
                    total = total + weight[unit, number] * signal
                units.append(total)
            inputs = units if place == max(places) else [self._activation(total) for total in units]
        (logit,) = inputs
        return logit

    def _activation(self, total: torch.Tensor) -> torch.Tensor:
        match self._case.deep["activation"]:
            case "relu":
                return total if total > 0 else 0 * total
            case "tanh":
                return 2 / (1 + torch.exp(-2 * total)) - 1
            case "sigmoid":
                return 1 / (1 + torch.exp(-total))


def with_random_weights(model: nn.Module, seed: int) -> nn.Module:
    """In float64. Weights that start at zero would hide what is done with them."""
    random = torch.Generator().manual_seed(seed)
    for weight in model.double().parameters():
        weight.data = torch.randn(weight.shape, dtype=torch.float64, generator=random)
    return model


def gradient_of(weight: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.to_dense()


@pytest.fixture(scope="session")
def equals_definition():
    """equals_definition(case -> model, impression -> logit): equal logits, and gradients of all weights."""

    def check(build, definition):
        @settings(max_examples=25, deadline=None)
        @given(cases())
        def agree(case):
            model = with_random_weights(build(case), case.seed)
            for part in model.modules():
                if isinstance(part, FieldEmbedding):
                    part.give_slots(case.num_slots[: part.num_fields])
            weights = {name: w.detach().clone().requires_grad_() for name, w in model.named_parameters()}
            found = model(case.ids, case.x)
            rows = range(len(case.ids))
            expected = torch.stack([definition(Impression(weights, case, row)) for row in rows])
            torch.testing.assert_close(found, expected)
            # Another factor for each impression, so that the gradients of two cannot be exchanged.
            factors = torch.arange(1.0, len(rows) + 1)
            (found * factors).sum().backward()
            (expected * factors).sum().backward()
            for name, weight in model.named_parameters():
                torch.testing.assert_close(gradient_of(weight), gradient_of(weights[name]))

        agree()

    return check
