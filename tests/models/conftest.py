"""Random small models and impressions, and what definitions by loops over scalars have in common."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


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
    deep = {
        "hidden_units": draw(st.lists(st.integers(1, 3), max_size=2)),
        "activation": draw(st.sampled_from(["relu", "tanh", "sigmoid"])),
    }
    seed = draw(st.integers(0, 10**6))
    random = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, n, (num_impressions,), generator=random) for n in num_ids + crossed]
    x = torch.randn(num_impressions, len(columns), dtype=torch.float64, generator=random)
    x = x if draw(st.booleans(), label="with x") else None
    return Case(num_ids, crossed, draw(st.integers(1, 4)), deep, seed, torch.stack(columns, dim=1), x)


class Impression:
    """One row as the papers write it, in scalars: w_0, and x[i], w[i], v[i][k] of each field i."""

    def __init__(self, weights: dict[str, torch.Tensor], case: Case, row: int):
        self._weights, self._case, self._ids = weights, case, case.ids[row].tolist()
        self.fields, self.dims = range(len(case.num_ids)), range(case.k)
        self.crossed = range(len(case.num_ids), len(self._ids))
        self.x = [1.0] * len(self._ids) if case.x is None else case.x[row].tolist()

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._weights[name]

    def row_of(self, table: str, i: int) -> list[torch.Tensor]:
        """What a table holds for the id of field i, behind the ids of all fields before it."""
        before = sum([*self._case.num_ids, *self._case.crossed][:i])
        return list(self[f"{table}.table.weight"][before + self._ids[i]])

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
