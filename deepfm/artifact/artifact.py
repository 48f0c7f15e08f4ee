"""The model as a folder: model.json, weights.safetensors, vocabulary, sealed; loading it runs no code."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepfm import storage
from deepfm.artifact.checksums import verify_checksums, write_checksums
from deepfm.artifact.reference import Reference, load_reference, save_reference
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import InputLog, Manifest
from deepfm.dataset.tensors import to_model_inputs
from deepfm.errors import UserError
from deepfm.features.encode import Encoder
from deepfm.features.sampling import logit_correction
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.metrics.field_counts import FieldValueCounts
from deepfm.model_factory import build_model
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import Settings, parse_settings
from deepfm.settings.model import ModelSettings
from deepfm.weights import load_weights, save_weights

#: Impressions that go through the network at a time: of fewer, what a call costs by itself is felt; of more,
#: what one layer hands the next has left the caches.
_ROWS_AT_ONCE = 4096


class ModelCard(Settings):
    """model.json: all but the numbers."""

    model: ModelSettings
    data: DataSettings  # how raw rows are read
    num_ids: tuple[int, ...]  # by field
    vocabulary: str  # fingerprint
    dataset: str  # digest of what it was trained on
    input: InputLog  # where that came from; its test rows measure candidates against champions


def save_artifact(
    folder_url: str,
    model: ModelSettings,
    manifest: Manifest,
    vocabulary: Vocabulary,
    weights: dict[str, Tensor],
    reference: Reference | None = None,
) -> None:
    """Write a trained model into a folder that exists; UserError where the parts do not belong together."""
    if vocabulary.fingerprint != manifest.vocabulary:
        raise UserError(
            f"the dataset was encoded with vocabulary {manifest.vocabulary} but {vocabulary.fingerprint} "
            "lies beside it; build the dataset again"
        )
    card = ModelCard(
        model=model,
        data=manifest.data,
        num_ids=manifest.num_ids,
        vocabulary=vocabulary.fingerprint,
        dataset=manifest.digest,
        input=manifest.input,
    )
    vocabulary.save(folder_url)
    save_weights(f"{folder_url}/weights.safetensors", weights)
    storage.write_json(f"{folder_url}/model.json", card.model_dump(mode="json"))
    if reference:
        save_reference(folder_url, reference)
    write_checksums(folder_url)


@dataclass(frozen=True)
class ServingModel:
    """A loaded model: raw columns in, probabilities out; the same for scores, gate and pyfunc."""

    card: ModelCard
    encoder: Encoder
    network: torch.nn.Module
    logit_correction: float = 0.0  # for training rows that were left out: see features.sampling
    reference: Reference | None = None  # what a night is compared with

    def logits(
        self, raw: pa.Table, of_fields: FieldValueCounts | None = None, *, bf16: bool = False
    ) -> np.ndarray:
        """Typed raw columns (see features.parse.ParsedRows.raw) of n rows -> (n,) float32 logits.

        `of_fields`: counts what the rows hold. `bf16`: matrix products in bfloat16.
        """
        return self.logits_of_ids(to_int32_matrix(self.encoder.encode(raw)), of_fields, bf16=bf16)

    @torch.inference_mode()
    def logits_of_ids(
        self, block: np.ndarray, of_fields: FieldValueCounts | None = None, *, bf16: bool = False
    ) -> np.ndarray:
        """The same for n rows that are encoded already, an (n, S) int32 block (see dataset.stack)."""
        if not len(block):
            return np.empty(0, np.float32)
        logits = []
        for start in range(0, len(block), _ROWS_AT_ONCE):
            ids, x = to_model_inputs(block[start : start + _ROWS_AT_ONCE], self.encoder.fields)
            if of_fields:
                of_fields.update(ids)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits.append(self.network(ids, x).float())
        return (torch.cat(logits) + self.logit_correction).numpy()

    def probabilities(self, raw: pa.Table) -> np.ndarray:
        """Typed raw columns of n rows -> (n,) float64 probabilities of a click."""
        return as_probabilities(self.logits(raw))


def as_probabilities(logits: np.ndarray) -> np.ndarray:
    """(n,) float32 logits -> (n,) float64 probabilities."""
    return torch.sigmoid(torch.from_numpy(logits).double()).numpy()


def load_artifact(folder_url: str) -> ServingModel:
    """Read what `save_artifact` wrote; UserError where a part is missing, changed or another model's."""
    verify_checksums(folder_url)
    where = f"{folder_url}/model.json"
    card = parse_settings(storage.read_json(where), ModelCard, where)
    vocabulary = Vocabulary.load(folder_url)
    if vocabulary.fingerprint != card.vocabulary:
        raise UserError(
            f"{folder_url}: the model was trained with vocabulary {card.vocabulary} but "
            f"{vocabulary.fingerprint} lies beside its weights; register the model again"
        )
    network = build_model(
        card.model, card.num_ids, vocabulary.fields.num_crossed, vocabulary.fields.num_slots
    )
    try:
        network.load_state_dict(load_weights(f"{folder_url}/weights.safetensors"))
    except RuntimeError as error:
        raise UserError(
            f"{folder_url}: the weights do not fit the model: {error}; register the model again"
        ) from error
    correction = logit_correction(card.data.keep_negatives)
    return ServingModel(card, Encoder(vocabulary), network.eval(), correction, load_reference(folder_url))
