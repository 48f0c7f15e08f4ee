"""conf/model/*.yaml: one model with its training settings."""

from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from deepfm.model_specs import MODELS
from deepfm.settings.loader import Settings

ModelName = Literal[tuple(MODELS)]
#: Settings that only some kinds have.
OWN_SETTINGS = sorted({name for kind in MODELS.values() for name in kind.own})
INIT_STD = 0.01  # where a YAML says nothing


def has_first_order(model: ModelName) -> bool:
    """Whether w_reg holds something back in it."""
    return MODELS[model].first_order


def _filled(content: dict, defaults: dict) -> dict:
    """`content` with the defaults of what it leaves out; a key left blank in YAML is left out too."""
    return {**content, **{key: value for key, value in defaults.items() if content.get(key) is None}}


class FtrlSettings(Settings):
    """FTRL-Proximal beside its learning rate, McMahan's alpha; see training.ftrl.Ftrl."""

    beta: float = Setting(default=1.0, ge=0)
    l1: float = Setting(default=0.0, ge=0)  # above 0, weights that say little become exactly 0
    l2: float = Setting(default=0.0, ge=0)


class TrainingSettings(Settings):
    """How the weights are learnt."""

    batch_size: int = Setting(ge=1)  # impressions per worker and step
    max_epochs: int = Setting(ge=1)
    patience: int = Setting(
        default=1, ge=1
    )  # epochs in a row without a better validation logloss before stopping
    # Which epoch's weights are kept. `last` trains all max_epochs: for a number of epochs that was found
    # before, so that the days which found it can be trained on too.
    keep: Literal["best", "last"] = "best"
    monitor: Literal["logloss", "auc"] = "logloss"  # by which `best` and `patience` go
    learning_rate: float = Setting(gt=0)
    # The rate rises over warmup_steps, then stays or falls along a cosine to zero at the last of max_epochs.
    # plateau: it falls to plateau_factor of what it was after plateau_patience epochs in a row without a
    # better one.
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    plateau_patience: int = Setting(default=1, ge=1)
    plateau_factor: float = Setting(default=0.1, gt=0, lt=1)
    warmup_steps: int = Setting(default=0, ge=0)
    scale_learning_rate: Literal["none", "sqrt", "linear"] = "none"  # with the number of workers
    # adam moves the rows of the tables that the batch has; adam_dense all of them, as Adam is published: it
    # may learn more from a small log, but costs as much as the tables are large; ftrl: lr only.
    # adagrad remembers one number a row and touches the rows of the batch; with one epoch it may learn more.
    optimizer: Literal["adam", "adam_dense", "adagrad", "ftrl"] = "adam"
    table_learning_rate: float | None = Setting(default=None, gt=0)  # of tables; learning_rate where absent
    ftrl: FtrlSettings | None = None
    # adam_dense: L2 on all rows of the tables in every step, torch's weight_decay. Adam makes full steps of
    # small gradients too, so what is seldom seen goes to zero: rare features hardly count.
    table_l2: float = Setting(default=0.0, ge=0)
    # Of the matrix products of a step; bf16 only on devices that have them in hardware, else fp32 all the
    # same. Weights, tables and evaluation are fp32 with both.
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_compression: Literal["fp32", "bf16"] = "fp32"  # of the tables' gradients between workers
    # Whether the run keeps what the optimizer remembers, so that a later training can go on from there; Adam
    # remembers twice as much as there are weights.
    save_optimizer: bool = True
    gauc_field: str | None = None  # a category, such as the user: the AUC among its known values' own rows
    seed: int = Setting(default=1, ge=0, lt=2**62)  # of initial weights, dropout and the order of the rows

    @model_validator(mode="before")
    @classmethod
    def _ftrl_has_its_settings(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("optimizer") == "ftrl":
            return _filled(content, {"ftrl": {}})
        return content

    @model_validator(mode="after")
    def _other_optimizers_have_none(self):
        if self.ftrl and self.optimizer != "ftrl":
            raise ValueError("ftrl: only optimizer: ftrl takes it")
        if self.table_l2 and self.optimizer != "adam_dense":
            raise ValueError("table_l2: only optimizer: adam_dense takes it")
        if self.table_learning_rate and self.optimizer == "ftrl":
            raise ValueError("table_learning_rate: ftrl has one learning rate for all weights")
        if self.optimizer == "ftrl" and (self.schedule != "constant" or self.warmup_steps):
            raise ValueError("schedule, warmup_steps: ftrl lowers each weight's rate by itself")
        stops_early = self.keep == "best"
        if self.schedule == "plateau" and stops_early and self.plateau_patience >= self.patience:
            raise ValueError(
                "plateau_patience: must be below patience, or training stops before the rate is reduced"
            )
        return self


class DeepPartSettings(Settings):
    """The MLP over the embeddings."""

    hidden_units: tuple[Annotated[int, Setting(ge=1)], ...] = (400, 400, 400)
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    dropout: Annotated[float, Setting(ge=0, lt=1)] = 0.0
    batch_norm: bool = False


class ModelSettings(Settings):
    """One model; a setting that its kind of model does not have is a mistake."""

    model: ModelName
    embedding_dim: int | None = Setting(default=None, ge=1)  # K; all but lr
    deep: DeepPartSettings | None = None  # all but lr and fm, which have no deep part
    outer: Literal["pairs", "pooled"] | None = None  # opnn and pnn: the form of the outer products
    init_std: float = Setting(default=INIT_STD, gt=0)  # of fresh embeddings, normal around 0
    w_reg: float = Setting(default=0.0, ge=0)  # L2 on the first-order weights an impression looks up
    v_reg: float = Setting(default=0.0, ge=0)  # L2 on the embeddings an impression looks up
    training: TrainingSettings
    pretraining: TrainingSettings | None = None  # fnn: of the FM it starts from; `training` where absent

    @model_validator(mode="before")
    @classmethod
    def _parts_have_defaults(cls, content: Any) -> Any:
        kind = MODELS.get(str(content.get("model"))) if isinstance(content, dict) else None
        if kind is None:
            return content
        return _filled(content, {**({"deep": {}} if kind.deep else {}), **kind.own})

    @model_validator(mode="after")
    def _settings_are_of_the_model(self):
        kind, mistakes = MODELS[self.model], []
        if not kind.embeddings and (self.embedding_dim or self.v_reg or self.init_std != INIT_STD):
            mistakes.append(f"embedding_dim, v_reg, init_std: {self.model} has no embeddings")
        if kind.embeddings and not self.embedding_dim:
            mistakes.append("embedding_dim is missing")
        if self.deep and not kind.deep:
            mistakes.append(f"deep: {self.model} has no deep part")
        for name in OWN_SETTINGS:
            if getattr(self, name) is not None and name not in kind.own:
                having = " and ".join(other for other, its in MODELS.items() if name in its.own)
                mistakes.append(f"{name}: {self.model} has no such setting, only {having}")
        if self.pretraining and self.model != "fnn":
            mistakes.append("pretraining: only fnn starts from another model")
        if self.w_reg and not has_first_order(self.model):
            mistakes.append(f"w_reg: {self.model} has no first-order weights")
        stages = {"training": self.training, "pretraining": self.pretraining}
        for name, stage in stages.items():
            if stage and stage.optimizer == "ftrl" and self.model != "lr":
                mistakes.append(f"{name}.optimizer: ftrl trains lr only")
        if self.deep and self.deep.batch_norm and self.training.batch_size < 4:
            mistakes.append("training.batch_size: batch_norm needs at least 4 impressions a step and worker")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def first_stage(self) -> "ModelSettings":
        """Of FNN: the FM that it starts from, with its embeddings' size and start, and its penalties."""
        return ModelSettings(
            model="fm",
            embedding_dim=self.embedding_dim,
            init_std=self.init_std,
            w_reg=self.w_reg,
            v_reg=self.v_reg,
            training=self.pretraining or self.training,
        )
