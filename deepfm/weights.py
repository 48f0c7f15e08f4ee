"""Storage of model weights as safetensors: written atomically, loaded without executing code."""

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from deepfm import storage
from deepfm.errors import UserError


def save_weights(url: str, weights: dict[str, Tensor]) -> None:
    """Write a state dict."""
    storage.write_bytes(
        url, safetensors.torch.save({k: w.detach().cpu().contiguous() for k, w in weights.items()})
    )


def load_weights(url: str) -> dict[str, Tensor]:
    """Read a state dict. Raise UserError if the file is missing or is not a safetensors file."""
    try:
        return safetensors.torch.load(storage.read_bytes(url))
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{url}: expected weights in safetensors format, found {error}; train again"
        ) from error
