"""Model artifact: a folder with model.json, weights.safetensors, vocabulary and checksums, without code."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deepfm import storage
from deepfm.artifact.checksums import verify_checksums, write_checksums
from deepfm.artifact.reference import Reference, load_reference, save_reference
from deepfm.artifact.training_data import TrainingData
from deepfm.dataset.columns import to_int32_matrix
from deepfm.dataset.manifest import InputLog, Manifest
from deepfm.dataset.tensors import to_model_inputs
from deepfm.errors import UserError
from deepfm.features.encode import Encoder
from deepfm.features.sampling import logit_correction
from deepfm.features.vocabulary.vocabulary import Vocabulary
from deepfm.metrics.calibration import Calibration
from deepfm.metrics.field_counts import FieldValueCounts
from deepfm.model_factory import build_model
from deepfm.settings.data import DataSettings
from deepfm.settings.loader import Settings, parse_settings, with_current_names
from deepfm.settings.model import ModelSettings
from deepfm.weights import load_weights, save_weights

#: Impressions per forward pass: with fewer, the overhead of a call dominates; with more, activations do not
#: stay in the CPU caches. A GPU needs more to be busy.
_BATCH_SIZE, _GPU_BATCH_SIZE = 4096, 262_144
_CPU = torch.device("cpu")


class ModelCard(Settings):
    """Content of model.json: everything except weights and vocabulary."""

    model: ModelSettings
    data: DataSettings  # how raw rows are read
    num_ids: tuple[int, ...]  # by field
    vocabulary: str  # fingerprint
    dataset: str  # digest of the training dataset
    input: InputLog  # log of that dataset; its test rows compare candidate and champion
    # Data of the models that it started from, directly or not; None: not recorded.
    started_from: tuple[TrainingData, ...] | None = None
    calibration: Calibration | None = None  # of the corrected logits

    def training_data(self, model: str) -> TrainingData:
        """Describe the data of this model, registered as models:/NAME/VERSION."""
        return TrainingData.from_input(model, self.input, self.data)


def save_artifact(
    folder_url: str,
    model: ModelSettings,
    manifest: Manifest,
    vocabulary: Vocabulary,
    weights: dict[str, Tensor],
    reference: Reference | None = None,
    started_from: tuple[TrainingData, ...] | None = (),
    calibration: Calibration | None = None,
) -> None:
    """Write a trained model into an existing folder; raise UserError if the vocabulary does not match.

    `started_from`, `calibration`: see ModelCard.
    """
    if vocabulary.fingerprint != manifest.vocabulary:
        raise UserError(
            f"the dataset was encoded with vocabulary {manifest.vocabulary}, but its folder contains "
            f"{vocabulary.fingerprint}; build the dataset again"
        )
    card = ModelCard(
        model=model,
        data=manifest.data,
        num_ids=manifest.num_ids,
        vocabulary=vocabulary.fingerprint,
        dataset=manifest.digest,
        input=manifest.input,
        started_from=started_from,
        calibration=calibration,
    )
    vocabulary.save(folder_url)
    save_weights(f"{folder_url}/weights.safetensors", weights)
    storage.write_json(f"{folder_url}/model.json", card.model_dump(mode="json"))
    if reference:
        save_reference(folder_url, reference)
    write_checksums(folder_url)


@dataclass(frozen=True)
class ServingModel:
    """A loaded model that maps raw columns to probabilities, used by scoring, gate and pyfunc."""

    card: ModelCard
    encoder: Encoder
    network: torch.nn.Module
    logit_correction: float = 0.0  # for down-sampled training rows, see features.sampling
    reference: Reference | None = None  # for the drift of scored days
    device: torch.device = _CPU  # of the network
    calibration: Calibration | None = None  # of the corrected logits

    def to(self, device: torch.device) -> "ServingModel":
        """Move the network to a device; inputs and results stay in the memory of the host."""
        return replace(self, network=self.network.to(device), device=device)

    def logits(
        self,
        raw: pa.Table,
        field_counts: FieldValueCounts | None = None,
        *,
        bf16: bool = False,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """Typed raw columns (see click_log.parse.ParsedRows.raw) of n rows -> (n,) float32 logits.

        `field_counts` is updated with the rows' ids, and with their (n,) `weights` if they have any. `bf16`:
        matrix products in bfloat16.
        """
        block = to_int32_matrix(self.encoder.encode(raw))
        return self.logits_from_ids(block, field_counts, bf16=bf16, weights=weights)

    @torch.inference_mode()
    def logits_from_ids(
        self,
        block: np.ndarray,
        field_counts: FieldValueCounts | None = None,
        *,
        bf16: bool = False,
        weights: np.ndarray | None = None,
    ) -> np.ndarray:
        """(n, S) int32 encoded rows (see dataset.columns) -> (n,) float32 logits."""
        if not len(block):
            return np.empty(0, np.float32)
        device = self.device
        batch_size = _GPU_BATCH_SIZE if device.type == "cuda" else _BATCH_SIZE
        logits = []
        for start in range(0, len(block), batch_size):
            rows = torch.from_numpy(block[start : start + batch_size]).to(device)
            ids, x = to_model_inputs(rows, self.encoder.fields)
            if field_counts:
                row_weights = weights if weights is None else weights[start : start + batch_size]
                field_counts.update(ids.cpu(), None if row_weights is None else torch.from_numpy(row_weights))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits.append(self.network(ids, x).float())
        return self.calibrated(torch.cat(logits)).cpu().numpy()

    def calibrated(self, logits: Tensor) -> Tensor:
        """(n,) logits of the network -> (n,) logits of the model: corrected for down-sampling, calibrated."""
        logits = logits + self.logit_correction
        return self.calibration.apply(logits) if self.calibration else logits

    def probabilities(self, raw: pa.Table) -> np.ndarray:
        """Typed raw columns of n rows -> (n,) float64 probabilities of a click."""
        return to_probabilities(self.logits(raw))


def to_probabilities(logits: np.ndarray) -> np.ndarray:
    """(n,) float32 logits -> (n,) float64 probabilities."""
    return torch.sigmoid(torch.from_numpy(logits).double()).numpy()


def load_artifact(folder_url: str) -> ServingModel:
    """Read what `save_artifact` wrote; raise UserError if a file is missing, changed or of another model."""
    verify_checksums(folder_url)
    card_url = f"{folder_url}/model.json"
    card = parse_settings(with_current_names(storage.read_json(card_url)), ModelCard, card_url)
    vocabulary = Vocabulary.load(folder_url)
    if vocabulary.fingerprint != card.vocabulary:
        raise UserError(
            f"{folder_url}: the model was trained with vocabulary {card.vocabulary}, but the folder contains "
            f"{vocabulary.fingerprint}; register the model again"
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
    reference = load_reference(folder_url)
    model = ServingModel(card, Encoder(vocabulary), network.eval(), correction, reference)
    return replace(model, calibration=card.calibration)
