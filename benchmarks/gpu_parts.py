"""Parts of a training step alone, each compared with the shortest time that its bytes or FLOPs allow."""

from collections.abc import Callable

import torch
from gpu_data import NUM_FIELDS, draw_batches
from gpu_timing import median_seconds
from gpu_training import DIM, Sizes, new_loop, new_model

from deepfm.models.layers import fm_and_flatten
from deepfm.training.device import multiplies_bf16
from deepfm.training.unique_rows import unique_rows_of


class StepParts:
    """Model, batch and gradients of one step, and the parts of its work."""

    def __init__(self, sizes: Sizes, device: torch.device):
        self.device, self.bf16 = device, multiplies_bf16(device)
        (self.batch,) = draw_batches(1, sizes.batch, sizes.num_ids, device)
        self.model = new_model(sizes.num_ids, device)
        self.loop = new_loop(self.model, device)
        self.exchanges = self.loop.synchronizer.plan_exchange(self.batch.ids)
        self.rows = unique_rows_of(self.model.embedding, self.batch.ids)
        self.num_lookups = self.batch.ids.numel()
        self.v = self.model.embedding(self.batch.ids).detach().requires_grad_()
        self.inputs = torch.randn(sizes.batch, NUM_FIELDS * DIM, device=device, requires_grad=True)
        self.gradients = [torch.randn(self.num_lookups, dim, device=device) for dim in (1, DIM)]
        self.sums = [self.rows.sums(gradient) for gradient in self.gradients]

    def interact(self) -> None:
        """Compute the FM part and the inputs of the deep part, forward and backward."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            interaction, flat = fm_and_flatten(self.v)
        torch.autograd.grad((interaction, flat), self.v, (interaction, flat))

    def deep(self) -> None:
        """Compute the deep part, forward and backward."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model.deep(self.inputs)
        torch.autograd.grad(logits.sum(), [self.inputs, *self.model.deep.parameters()])

    def update(self) -> None:
        """Update all weights from gradients of the rows of the batch."""
        optimizer = self.loop.optimizer
        for table, gradient in zip(optimizer.sparse, self.sums, strict=True):
            table.grad = torch.sparse_coo_tensor(
                self.rows.rows[None], gradient, table.shape, is_coalesced=True, check_invariants=False
            )
        for weight in optimizer.dense:
            weight.grad = weight.detach()
        optimizer.step()

    def with_bounds(self) -> dict[str, tuple[Callable[[], object], int, int]]:
        """Return the work of each part, and the bytes and FLOPs that it cannot do without."""
        model, ids, rows = self.model, self.batch.ids, self.rows
        lookups, values = self.num_lookups, 4 * self.num_lookups * DIM
        weights = sum(weight.numel() for weight in model.deep.parameters())
        updated = 4 * len(rows.rows) * (3 * (DIM + 1) + 4)  # weights, gradients, and Adagrad's sums
        w_gradient, v_gradient = self.gradients
        return {
            "group ids": (lambda: unique_rows_of(model.embedding, ids), 24 * lookups, 0),
            "look up embeddings": (lambda: model.embedding(ids), 2 * values + 8 * lookups, 0),
            "look up first order": (lambda: model.linear(ids), 12 * lookups, 0),
            # v and its gradient in 32 bits, and each in 16 for the deep part.
            "FM, forward and backward": (self.interact, 3 * values, 0),
            "MLP, forward and backward": (self.deep, 0, 6 * weights * len(ids)),
            "sum gradients of embeddings": (lambda: rows.sums(v_gradient), values + 8 * lookups, 0),
            "sum gradients of first order": (lambda: rows.sums(w_gradient), 12 * lookups, 0),
            "update": (self.update, updated, 0),
        }


def time_parts(sizes: Sizes, device: torch.device, ceiling: dict) -> dict[str, dict]:
    """Time of each part of a step alone, and its share of its bound, by copied bytes or FLOPs."""
    parts = StepParts(sizes, device)
    pieces = parts.rows.pieces
    table: dict[str, dict] = {
        "distinct rows": {"number": len(parts.rows.rows)},
        "pieces": {"number": len(pieces.starts) if pieces else 0},
    }
    for name, (work, num_bytes, flops) in parts.with_bounds().items():
        time = median_seconds(work, device)
        bound = max(num_bytes / ceiling["copy_bytes_per_s"], flops / ceiling["bf16_flops_per_s"])
        table[name] = {"ms": 1e3 * time, "bound_ms": 1e3 * bound, "share": bound / time}
    step = median_seconds(lambda: parts.loop.start_step(parts.batch, parts.exchanges), device)
    return {**table, "whole step, ids grouped": {"ms": 1e3 * step}}
