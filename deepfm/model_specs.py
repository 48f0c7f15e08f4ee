"""Table of models: every name that a YAML may give, with its class and the settings it takes.

Adding a model means a file in deepfm/models/ and an entry here, see deepfm/models/README.md. The table names
classes instead of importing them, so that reading settings does not load PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module


@dataclass(frozen=True)
class ModelSpec:
    """A model's class and its parts, which decide the settings that its YAML may give.

    The class is called with `num_ids` by position, and by keyword with the arguments of the parts it has:
    `embedding_dim` and `init_std`, the arguments of layers.MLP, `num_crossed_ids`, and its own settings.
    """

    implementation: str  # "module:class", relative to deepfm.models
    first_order: bool = True  # takes w_reg
    embeddings: bool = True  # takes embedding_dim, init_std, v_reg
    deep: bool = True  # takes deep
    crosses: bool = False  # takes crossed fields
    # Models that it contains, the simplest first, to be trained before it with recipe: staged. The class
    # and all but the first have a method start_from(weights of the one before), to begin with its logits.
    stages: tuple[str, ...] = ()
    own: Mapping[str, object] = field(default_factory=dict)  # settings of this model only, with defaults
    fixed: Mapping[str, object] = field(default_factory=dict)  # constructor arguments without a setting

    def load_class(self) -> type:
        """Import the model's class (a torch.nn.Module)."""
        module, _, name = self.implementation.partition(":")
        return getattr(import_module(f"deepfm.models.{module}"), name)


MODELS = {
    "lr": ModelSpec("lr:LogisticRegression", embeddings=False, deep=False),
    "fm": ModelSpec("fm:FM", deep=False),
    "fnn": ModelSpec("fnn:FNN"),
    "ipnn": ModelSpec("pnn:PNN", first_order=False, fixed={"inner": True, "outer": None}),
    "opnn": ModelSpec("pnn:PNN", first_order=False, fixed={"inner": False}, own={"outer": "pairs"}),
    "pnn": ModelSpec("pnn:PNN", first_order=False, fixed={"inner": True}, own={"outer": "pairs"}),
    "wide_deep": ModelSpec("wide_deep:WideDeep", crosses=True, stages=("lr",)),
    "fm_dnn": ModelSpec("fm_dnn:FMDNN", stages=("lr", "fm")),
    "dnn": ModelSpec("dnn:DNN", first_order=False),
    "deepfm": ModelSpec("deepfm:DeepFM", stages=("lr", "fm")),
}
