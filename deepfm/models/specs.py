"""Every model by the name that its YAML gives it: the one table that a new model is entered in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from deepfm.models.deepfm import DeepFM
from deepfm.models.dnn import DNN
from deepfm.models.fm import FM
from deepfm.models.fm_dnn import FMDNN
from deepfm.models.fnn import FNN
from deepfm.models.lr import LR
from deepfm.models.pnn import PNN
from deepfm.models.wide_deep import WideDeep


@dataclass(frozen=True)
class Kind:
    """A model and what it has, which decides the settings that its YAML may give.

    The model is made of `num_ids`, by position, and by keyword of what goes with the parts it has:
    `embedding_dim` and `init_std`, the settings of layers.DeepPart, `num_crossed_ids`, what is its own.
    """

    model: type[nn.Module]
    first_order: bool = True  # takes w_reg
    embeddings: bool = True  # takes embedding_dim, init_std, v_reg
    deep: bool = True  # takes deep
    crosses: bool = False  # sees the crossed fields
    own: Mapping[str, object] = field(default_factory=dict)  # settings of few models, and their defaults
    fixed: Mapping[str, object] = field(default_factory=dict)  # arguments that make it this kind


KINDS = {
    "lr": Kind(LR, embeddings=False, deep=False),
    "fm": Kind(FM, deep=False),
    "fnn": Kind(FNN),
    "ipnn": Kind(PNN, first_order=False, fixed={"inner": True, "outer": None}),
    "opnn": Kind(PNN, first_order=False, fixed={"inner": False}, own={"outer": "pairs"}),
    "pnn": Kind(PNN, first_order=False, fixed={"inner": True}, own={"outer": "pairs"}),
    "wide_deep": Kind(WideDeep, crosses=True),
    "fm_dnn": Kind(FMDNN),
    "dnn": Kind(DNN, first_order=False),
    "deepfm": Kind(DeepFM),
}
