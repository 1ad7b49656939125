"""The recipe: one strict YAML file that says everything about a training run, in fewer than 60 keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serving.tasks import names

Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Scratch(_Section):
    """The size of a model trained from nothing."""

    type: str = Field("bert", description="model family, as transformers names it (bert, distilbert, roberta, ...)")
    layers: PositiveInt = 4
    hidden: PositiveInt = Field(256, description="width of the hidden states; a multiple of heads")
    heads: PositiveInt = 4
    intermediate: PositiveInt = Field(1024, description="width of the feed-forward layers")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _divisible(self) -> Scratch:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self


class Model(_Section):
    """Where the weights come from: a pretrained base, or from scratch."""

    base: str | None = Field(
        None, description="hub name, a folder, or package:NAME for a model that ships inside a Python package"
    )
    revision: str | None = Field(None, description="hub revision: a commit, tag or branch")
    scratch: Scratch | None = Field(None, description="train from random weights of this size instead of from a base")

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.base is None) == (self.scratch is None):
            raise ValueError("give exactly one of base (pretrained) and scratch (random weights)")
        return self


class Vocabulary(_Section):
    """A tokenizer trained on the spot from the training texts; only for a model from scratch."""

    kind: Literal["wordpiece", "bpe", "unigram", "word", "character"] = "wordpiece"
    vocab_size: Annotated[int, Field(ge=16)] = 8000
    lowercase: bool = True


class Data(_Section):
    """Where the rows come from: files, or a data set of the hub."""

    hub: str | None = Field(None, description="hub data set; train, validation and test then name its splits")
    config: str | None = Field(None, description="configuration of the hub data set")
    train: str | list[str] = Field(description="file or files: .csv .tsv .jsonl .parquet; or a split of the hub set")
    validation: str | list[str] | Fraction = Field(
        0.1, description="file or files, a hub split, or the fraction of train to hold out (stratified, by the seed)"
    )
    test: str | list[str] | None = Field(None, description="only ever scored once, at the end")
    columns: dict[str, str] = Field({}, description="field of the task: column of the file, where they differ")
    labels: dict[str, str] = Field({}, description='raw value: name, as in {"0": negative, "1": positive}')
    limit: PositiveInt | None = Field(None, description="train on this many rows, drawn by the seed (stratified)")

    @field_validator("labels", mode="before")
    @classmethod
    def _whole_numbers_as_text(cls, value: object) -> object:
        """``{0: negative}`` without quotes: a whole number of a file is the same raw value as its text."""
        if not isinstance(value, dict):
            return value
        return {str(key) if type(key) is int else key: name for key, name in value.items()}


class CleaningKeys(_Section):
    """What is done to a text before tokenization, in training and in serving alike."""

    html: bool = Field(False, description="drop tags, resolve entities")
    control: bool = Field(True, description="drop control and invisible characters")
    unicode: Literal["none", "NFC", "NFKC"] = "NFC"
    lowercase: bool = False
    punctuation: bool = Field(False, description="replace punctuation by spaces; hurts pretrained models")
    whitespace: bool = Field(True, description="collapse runs of white space")


class Training(_Section):
    """How the weights are changed."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    batch_rows: PositiveInt | None = Field(None, description="rows per batch (default 32)")
    batch_tokens: PositiveInt | None = Field(None, description="padded tokens per batch, instead of batch_rows")
    accumulate: PositiveInt = Field(1, description="batches per optimizer step")
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.06, description="fraction of the steps")
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto is bf16 where the device computes it natively, else fp32; weights stay fp32"
    )
    evaluations: PositiveInt = Field(1, description="evaluations (and resumable checkpoints) per epoch")
    patience: PositiveInt | None = Field(None, description="stop after this many evaluations without a better score")

    @model_validator(mode="after")
    def _one_batch_size(self) -> Training:
        if self.batch_rows is not None and self.batch_tokens is not None:
            raise ValueError("give batch_rows or batch_tokens, not both")
        return self


class Recipe(_Section):
    """Everything about one training run."""

    task: str = Field(description="text-classification")
    output: str = Field(description="folder of the checkpoint, as in runs/NAME")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 13
    model: Model
    tokenizer: Vocabulary | None = None
    data: Data
    cleaning: CleaningKeys = CleaningKeys()
    max_length: Annotated[int, Field(ge=4)] = Field(128, description="tokens per row, special ones included")
    training: Training = Training()

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        if value not in names():
            raise ValueError(f"unknown task {value!r}; the tasks are {', '.join(names())}")
        return value

    @model_validator(mode="after")
    def _tokenizer_source(self) -> Recipe:
        if self.model.scratch is not None and self.tokenizer is None:
            raise ValueError("a model from scratch needs a tokenizer section (kind, vocab_size)")
        if self.model.base is not None and self.tokenizer is not None:
            raise ValueError("a pretrained base brings its own tokenizer: remove the tokenizer section")
        return self
