"""The base of every parameter class, and how a parameter that is not set gets its value.

A field is `T | None = None` in the manifest [a default under `spec` shows as drift in GitOps tools]; what unset means
stands beside it as `Unset(value, why)`, from which `kubectl explain`, the documentation and `resolve` all take it.
Every field is bounded and has one type, so that its JSON schema is structural as Kubernetes wants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Value = bool | int | float | str | list[Any] | None


@dataclass(frozen=True)
class Unset:
    """What an unset field means, and the reason: `value`, unless a sibling field says otherwise.

    `by`: a value for each value of the sibling; `first`: the same for another one, which goes before; `times`: that
    multiple of the sibling. Siblings by their Python names.
    """

    value: Value
    why: str
    by: tuple[str, Mapping[str, Value]] | None = None
    times: tuple[str, float] | None = None
    first: tuple[str, Mapping[str, Value]] | None = None

    def text(self) -> str:
        """One sentence for people, such as `Unset: 64 (small enough to …).`"""
        shown = "none" if self.value is None else _shown(self.value)
        if self.times is not None:
            shown = f"{self.times[1]:g} × {to_camel(self.times[0])}"
        for name, values in (rule for rule in (self.first, self.by) if rule is not None):
            shown += "".join(f", {_shown(v)} with {to_camel(name)} {k}" for k, v in values.items())
        return f"Unset: {shown} ({self.why})."


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


class Params(BaseModel):
    """Strict, frozen, camelCase; unknown fields are errors. The JSON schema has no null and says what unset means."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = handler(schema)
        properties = handler.resolve_ref_schema(result).get("properties", {})
        for name, info in cls.model_fields.items():
            prop = properties.get(info.alias or name)
            if prop is None:
                continue
            if "anyOf" in prop:
                (only,) = [s for s in prop.pop("anyOf") if s != {"type": "null"}]
                prop.update(only)
            if prop.get("default", ...) is None:
                del prop["default"]
            if "const" in prop:
                prop["enum"] = [prop.pop("const")]
            prop.pop("title", None)
            if (rule := unset(cls, name)) is not None:
                prop["description"] = f"{prop.get('description', '')} {rule.text()}".strip()
        return result


def unset(cls: type[Params], name: str) -> Unset | None:
    """The rule for an unset field of `cls` (Python name), or None where unset has no value of its own."""
    info = cls.model_fields[name]
    return next((m for m in info.metadata if isinstance(m, Unset)), None)


def resolve(params: Params) -> dict[str, Any]:
    """The effective values, by their names in the manifest: what is set, else what unset means."""
    effective: dict[str, Any] = {}
    for name, info in type(params).model_fields.items():
        value = getattr(params, name)
        nested = _nested(info)
        if nested is not None:
            value = resolve(value if value is not None else nested())
        elif value is None:
            value = _fallback(params, name)
        effective[info.alias or name] = value
    return effective


def _nested(info: FieldInfo) -> type[Params] | None:
    for candidate in (info.annotation, *get_args(info.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Params):
            return candidate
    return None


def _fallback(params: Params, name: str) -> Value:
    rule = unset(type(params), name)
    if rule is None:
        return None
    if rule.times is not None:
        return float(_value(params, rule.times[0])) * rule.times[1]
    for sibling, values in (one for one in (rule.first, rule.by) if one is not None):
        if (given := _value(params, sibling)) in values:
            return values[given]
    return rule.value


def _value(params: Params, name: str) -> Any:
    value = getattr(params, name)
    return _fallback(params, name) if value is None else value


ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
ClassWeights = Annotated[
    Literal["None", "Balanced"] | None,
    Unset("None", "the metrics stay those of the data"),
    Field(description="`Balanced` weighs each class by its rarity. Classification only."),
]
BestMetric = Annotated[
    Literal["loss", "accuracy", "f1", "auroc", "r2", "mae", "rmse"] | None,
    Unset("loss", "it is the least noisy"),
    Field(description="Metric on the held-out split that says which checkpoint is best."),
]


class EarlyStopping(Params):
    """When to stop before the last epoch because the held-out split no longer gets better."""

    patience: Annotated[int | None, Unset(8, "a metric on a small held-out split is noisy")] = Field(
        default=None,
        ge=0,
        le=1000,
        description=("Epochs without a better `bestMetric` before training stops. 0: never."),
    )
    min_delta: Annotated[float | None, Unset(0.0, "any improvement counts")] = Field(
        default=None, ge=0, le=1e6, description="Smallest change of `bestMetric` that counts as better."
    )


class LoRA(Params):
    """Size of the low-rank adapter that is trained instead of the base model's weights."""

    rank: Annotated[int | None, Unset(16, "the usual size; small enough for one GPU")] = Field(
        default=None,
        ge=1,
        le=1024,
        description="Rank of the adapter's matrices: more learns more and costs more memory.",
    )
    alpha: Annotated[float | None, Unset(None, "the usual scale", times=("rank", 2.0))] = Field(
        default=None, gt=0, le=4096, description="Scale of the adapter; its output is multiplied by alpha / rank."
    )
    dropout: Annotated[float | None, Unset(0.05, "a little, against overfitting on small data sets")] = Field(
        default=None, ge=0, lt=1, description="Share of the adapter's inputs dropped in training."
    )
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]] | None,
        Unset(None, "every linear layer of the base model but its head"),
    ] = Field(
        default=None,
        min_length=1,
        max_length=64,
        description=(
            "Names of the layers that get an adapter, as the base model calls them, for example `query`, `value`."
        ),
    )


class LoopParams(Params):
    """What every trained recipe shares: length, batch, optimiser, schedule, seed."""

    epochs: Annotated[int | None, Unset(3, "enough for fine-tuning")] = Field(
        default=None, ge=1, le=100000, description="Passes over the training split."
    )
    max_steps: Annotated[int | None, Unset(None, "`epochs` alone decides")] = Field(
        default=None, ge=1, le=100_000_000, description="Stop after this many optimiser steps, whatever `epochs` says."
    )
    batch_size: Annotated[int | None, Unset(32, "fits a small GPU and is not noisy")] = Field(
        default=None, ge=1, le=65536, description="Examples in one forward and backward pass, on each GPU."
    )
    gradient_accumulation: Annotated[int | None, Unset(1, "each batch is a step")] = Field(
        default=None, ge=1, le=4096, description="Batches whose gradients are summed into one optimiser step."
    )
    compile: Annotated[bool | None, Unset(False, "it pays off in runs of more than some minutes")] = Field(
        default=None,
        description="Compile the model with torch.compile: faster steps after a slow first one.",
    )
    learning_rate: Annotated[float | None, Unset(1e-3, "AdamW's usual rate")] = Field(
        default=None, gt=0, le=10, description="Peak learning rate of AdamW."
    )
    schedule: Annotated[
        Literal["Constant", "Linear", "Cosine"] | None,
        Unset("Cosine", "a rate that falls to zero ends in a better minimum"),
    ] = Field(default=None, description="How the learning rate goes on after the warm-up.")
    warmup_ratio: Annotated[float | None, Unset(0.05, "the first steps of AdamW are unreliable")] = Field(
        default=None, ge=0, lt=1, description="Share of all steps in which the learning rate rises from zero."
    )
    weight_decay: Annotated[float | None, Unset(0.01, "AdamW's usual value")] = Field(
        default=None, ge=0, le=10, description="Weight decay of AdamW."
    )
    gradient_clip: Annotated[float | None, Unset(1.0, "one odd batch cannot throw the weights away")] = Field(
        default=None, ge=0, le=1e6, description="Largest norm of the gradient; 0 leaves it as it is."
    )
    precision: Annotated[
        Literal["Auto", "FP32", "BF16"] | None, Unset("Auto", "BF16 on a GPU that has it, else FP32")
    ] = Field(default=None, description="Number format of the forward and backward pass. Weights are kept in FP32.")
    seed: Annotated[int | None, Unset(17, "a run can be repeated")] = Field(
        default=None, ge=0, le=2_147_483_647, description="Seed of weights, order and dropout."
    )


class FittedParams(LoopParams):
    """What recipes with large models have besides."""

    batch: Annotated[Literal["Fixed", "Auto"] | None, Unset("Fixed", "the same on every machine")] = Field(
        default=None,
        description=(
            "`Auto` measures with two short steps what fits into memory, and divides the examples of an optimiser step "
            "(`batchSize` × `gradientAccumulation`) into as few batches as that allows."
        ),
    )
