"""Settings of a model and its training: conf/model/*.yaml."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.model_specs import MODELS
from deepfm.settings.loader import Settings

if TYPE_CHECKING:
    ModelName = str  # a type that is computed is unknown to a type checker
else:
    ModelName = Literal[tuple(MODELS)]
#: Settings that only some models have.
OWN_SETTINGS = sorted({name for spec in MODELS.values() for name in spec.own})
INIT_STD = 0.01  # default of init_std


def has_first_order(model: ModelName) -> bool:
    """Whether the model has first-order weights, which w_reg regularizes."""
    return MODELS[model].first_order


def _with_defaults(content: dict, defaults: dict) -> dict:
    """Add defaults for absent keys; a key without a value in YAML counts as absent."""
    return {**content, **{key: value for key, value in defaults.items() if content.get(key) is None}}


class FtrlSettings(Settings):
    """Settings of FTRL-Proximal except its learning rate, McMahan's alpha; see training.optimizers.ftrl."""

    beta: float = Setting(default=1.0, ge=0)
    l1: float = Setting(default=0.0, ge=0)  # above 0, weights of uninformative values become exactly 0
    l2: float = Setting(default=0.0, ge=0)


class TrainingSettings(Settings):
    """Training loop configuration: duration, optimizer, regularization, precision."""

    batch_size: int = Setting(ge=1)  # impressions per worker and step
    max_epochs: int = Setting(ge=1)
    patience: int = Setting(default=1, ge=1)  # epochs without improvement in `monitor` before stopping
    # Epoch whose weights are kept. `last` always trains max_epochs: use it with a known best number of epochs
    # to train on the validation days as well.
    keep: Literal["best", "last"] = "best"
    monitor: Literal["logloss", "auc"] = "logloss"  # validation metric for `best` and `patience`
    learning_rate: float = Setting(gt=0)
    # After warmup_steps of linear increase: constant, a cosine to zero at the end of max_epochs, or plateau:
    # multiplied by plateau_factor after plateau_patience epochs without improvement.
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    plateau_patience: int = Setting(default=1, ge=1)
    plateau_factor: float = Setting(default=0.1, gt=0, lt=1)
    warmup_steps: int = Setting(default=0, ge=0)
    scale_learning_rate: Literal["none", "sqrt", "linear"] = "none"  # with the number of workers
    # adam updates only the table rows in the batch; adam_dense updates all rows, as in Adam's paper: may be
    # more accurate on a small log, but its cost grows with the tables. adagrad has one number of state per
    # row and updates the rows in the batch; may be more accurate with one epoch. ftrl: lr only.
    optimizer: Literal["adam", "adam_dense", "adagrad", "ftrl"] = "adam"
    table_learning_rate: float | None = Setting(default=None, gt=0)  # of tables; None: learning_rate
    ftrl: FtrlSettings | None = None
    # adam_dense: L2 on all table rows in every step (torch's weight_decay). Adam takes full steps even for
    # small gradients, so rows of rare values decay to zero.
    table_l2: float = Setting(default=0.0, ge=0)
    # Precision of a step's matrix products; devices without bf16 hardware use fp32. Weights, tables and
    # evaluation are always fp32.
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_compression: Literal["fp32", "bf16"] = "fp32"  # of table gradients between workers
    # Whether to save the optimizer state for a later warm start; with Adam, twice the size of the weights.
    save_optimizer: bool = True
    # How many times a click counts in the training loss, but not in metrics. Other values than 1 make the
    # model predict another CTR, which only `calibration` corrects.
    positive_weight: float = Setting(default=1.0, gt=0, allow_inf_nan=False)
    gauc_field: str | None = None  # category for grouped AUC, such as the user: AUC within each known value
    seed: int = Setting(default=1, ge=0, lt=2**62)  # of initial weights, dropout and row order
    # joint: all parts of a model at once, as in its paper. staged: its simpler parts first, LR and FM
    # (wide_deep: LR), then the deep part joins; the best epoch of all stages is kept.
    recipe: Literal["joint", "staged"] = "joint"
    # staged: factors of the learning rates of dense weights and of tables once the deep part has joined.
    deep_rate_factor: float = Setting(default=0.3, gt=0)
    table_rate_factor: float = Setting(default=0.03, gt=0)
    # Values with few training rows are learned more slowly: the learning rate of a table row with n training
    # rows is multiplied by i / (i + rare_id_damping), where i = n p (1 - p) and p is the CTR. 0: all alike.
    rare_id_damping: float = Setting(default=0.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _fill_ftrl_settings(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("optimizer") == "ftrl":
            return _with_defaults(content, {"ftrl": {}})
        return content

    @model_validator(mode="after")
    def _check_optimizer_settings(self):
        if self.ftrl and self.optimizer != "ftrl":
            raise ValueError("ftrl: only for optimizer: ftrl")
        if self.table_l2 and self.optimizer != "adam_dense":
            raise ValueError("table_l2: only for optimizer: adam_dense")
        if self.table_learning_rate and self.optimizer == "ftrl":
            raise ValueError("table_learning_rate: ftrl has one learning rate for all weights")
        if self.optimizer == "ftrl" and (self.schedule != "constant" or self.warmup_steps):
            raise ValueError("schedule, warmup_steps: ftrl adapts each weight's learning rate")
        if self.rare_id_damping and self.optimizer not in ("adam", "adagrad"):
            raise ValueError("rare_id_damping: only for optimizer: adam or adagrad")
        stops_early = self.keep == "best"
        if self.schedule == "plateau" and stops_early and self.plateau_patience >= self.patience:
            raise ValueError(
                "plateau_patience: must be below patience, or training stops before the rate is reduced"
            )
        return self


class DeepPartSettings(Settings):
    """Settings of the MLP on the embeddings."""

    hidden_units: tuple[Annotated[int, Setting(ge=1)], ...] = (400, 400, 400)
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: Annotated[float, Setting(ge=0, lt=1)] = 0.0
    batch_norm: bool = False


class ModelSettings(Settings):
    """Settings of a model; settings that the model does not have are errors."""

    model: ModelName
    embedding_dim: int | None = Setting(default=None, ge=1)  # K; all but lr
    deep: DeepPartSettings | None = None  # all but lr and fm, which have no deep part
    outer: Literal["pairs", "pooled"] | None = None  # opnn and pnn: form of the outer products
    init_std: float = Setting(default=INIT_STD, gt=0)  # of initial embeddings, normal with mean 0
    w_reg: float = Setting(default=0.0, ge=0)  # L2 on the first-order weights of an impression
    v_reg: float = Setting(default=0.0, ge=0)  # L2 on the embeddings of an impression
    training: TrainingSettings
    # Of the FM from which fnn starts, or of the earlier stages of recipe: staged; None: `training`.
    pretraining: TrainingSettings | None = None
    # Fitted on the validation rows after training, and part of the model. platt: slope and intercept of the
    # logit. isotonic: monotonic steps, for many clicks; equal probabilities within a step cost some AUC.
    calibration: Literal["platt", "isotonic", "none"] = "platt"

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, content: Any) -> Any:
        spec = MODELS.get(str(content.get("model"))) if isinstance(content, dict) else None
        if spec is None:
            return content
        return _with_defaults(content, {**({"deep": {}} if spec.deep else {}), **spec.own})

    @model_validator(mode="after")
    def _check_model_settings(self):
        spec, errors = MODELS[self.model], []
        if not spec.embeddings and (self.embedding_dim or self.v_reg or self.init_std != INIT_STD):
            errors.append(f"embedding_dim, v_reg, init_std: {self.model} has no embeddings")
        if spec.embeddings and not self.embedding_dim:
            errors.append("embedding_dim is missing")
        if self.deep and not spec.deep:
            errors.append(f"deep: {self.model} has no deep part")
        for name in OWN_SETTINGS:
            if getattr(self, name) is not None and name not in spec.own:
                models = " and ".join(model for model, other in MODELS.items() if name in other.own)
                errors.append(f"{name}: {self.model} has no such setting, only {models}")
        if self.training.recipe == "staged" and not spec.stages:
            models = ", ".join(model for model, other in MODELS.items() if other.stages)
            errors.append(f"training.recipe: {self.model} has no simpler parts; staged is for {models}")
        if self.pretraining and not (self.is_staged or self.model == "fnn"):
            errors.append("pretraining: only for fnn and training.recipe: staged")
        if self.w_reg and not has_first_order(self.model):
            errors.append(f"w_reg: {self.model} has no first-order weights")
        stages = {"training": self.training, "pretraining": self.pretraining}
        for name, stage in stages.items():
            if stage and stage.optimizer == "ftrl" and self.model != "lr":
                errors.append(f"{name}.optimizer: ftrl trains lr only")
        if self.deep and self.deep.batch_norm and self.training.batch_size < 4:
            errors.append("training.batch_size: batch_norm needs at least 4 impressions per step and worker")
        if errors:
            raise ValueError("; ".join(errors))
        return self

    @property
    def is_staged(self) -> bool:
        """Whether the deep part joins after the other part has been trained."""
        return self.training.recipe == "staged"

    def earlier_stages(self) -> "tuple[ModelSettings, ...]":
        """Settings of the models to train before this one; each starts from the weights of the one before."""
        if self.model == "fnn":
            return (self._stage("fm"),)
        return tuple(self._stage(name) for name in MODELS[self.model].stages) if self.is_staged else ()

    def _stage(self, name: str) -> "ModelSettings":
        """Settings of a simpler model, with the same embeddings and penalties."""
        training = self.pretraining or self._training_before()
        common: dict[str, Any] = {"model": name, "w_reg": self.w_reg}
        if MODELS[name].embeddings:
            common |= {key: getattr(self, key) for key in ("embedding_dim", "init_std", "v_reg")}
            return ModelSettings(**common, training=training)
        return ModelSettings(**common, training=_lr_training(training))

    def _training_before(self) -> TrainingSettings:
        """Training of an earlier stage if there is no `pretraining`.

        A stage that the next one continues stops at its first epoch without improvement: the next one starts
        from the best, and would take the time of the others for nothing.
        """
        if not self.is_staged:
            return self.training
        changes: dict[str, Any] = {"recipe": "joint", "patience": 1}
        if self.training.schedule == "plateau":
            changes["schedule"] = "constant"
        return self.training.model_copy(update=changes)

    def last_stage(self) -> "ModelSettings":
        """Settings of the training of this model itself: if staged, with lower learning rates."""
        if not self.is_staged:
            return self
        training = self.training
        rates = {
            "learning_rate": training.learning_rate * training.deep_rate_factor,
            "table_learning_rate": (training.table_learning_rate or training.learning_rate)
            * training.table_rate_factor,
        }
        return self.model_copy(update={"training": training.model_copy(update=rates)})


def _lr_training(like: TrainingSettings) -> TrainingSettings:
    """Settings of FTRL for an LR with the budget of `like`; the rates are those of conf/model/lr.yaml."""
    budget = {"batch_size", "max_epochs", "patience", "keep", "monitor"}
    return TrainingSettings(
        **like.model_dump(include=budget | {"gauc_field", "positive_weight", "seed"}),
        optimizer="ftrl",
        learning_rate=0.1,
        ftrl=FtrlSettings(beta=0.01),
    )
