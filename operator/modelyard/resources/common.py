"""Types that more than one kind uses: storage of a volume, label selectors, conditions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard.resources.base import Spec, Status
from modelyard.resources.fields import LabelKey, Labels, LabelValue, LongText, ObjectName, Quantity, Reason, Time
from modelyard.resources.markers import ListMap, ListType, MapType

AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]


class StorageAmount(Spec):
    """An amount of storage."""

    storage: Quantity | None = Field(default=None, description="Bytes, such as 20Gi.")


class StorageResources(Spec):
    """Size of a volume claim, in Kubernetes' own words."""

    requests: StorageAmount | None = Field(default=None, description="How large the volume must be at least.")
    limits: StorageAmount | None = Field(default=None, description="How large the volume may be at most.")


class Storage(Spec):
    """The volume that is made."""

    access_modes: Annotated[tuple[AccessMode, ...], Field(max_length=4), ListType("atomic")] = Field(
        default=(),
        description="Access modes of the claim. Unset: the operator's setting, ReadWriteOnce if it has none.",
    )
    resources: StorageResources | None = Field(
        default=None, description="Size of the claim. Unset: the operator's setting for this use."
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="StorageClass of the claim. Unset: the operator's setting, else the cluster's default.",
    )


class SelectorRequirement(Spec):
    """One condition on a label."""

    key: LabelKey = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared.")
    values: Annotated[tuple[LabelValue, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Values for In and NotIn; must be left out for Exists and DoesNotExist."
    )


class LabelSelector(Spec):
    """A label selector in Kubernetes' own form; all its parts must match."""

    match_labels: Labels = Field(default={}, description="Labels that must have exactly these values.")
    match_expressions: Annotated[tuple[SelectorRequirement, ...], Field(max_length=16), ListType("atomic")] = Field(
        default=(), description="Further conditions on labels."
    )


class Condition(Status):
    """One thing that is known about the object, in the form that kubectl wait, Flux and Argo CD read."""

    type: Annotated[str, Field(max_length=316)] = Field(description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Reason = Field(default="", description="The cause as one CamelCase word.")
    message: LongText = Field(default="", description="The cause in words, and what to do.")
    last_transition_time: Time | None = Field(default=None, description="When `status` last changed.")
    observed_generation: int | None = Field(
        default=None, description="`metadata.generation` of the spec that this was found for."
    )


Conditions = Annotated[tuple[Condition, ...], Field(max_length=16), ListMap(("type",))]

AtomicLabelSelector = Annotated[LabelSelector, MapType("atomic")]
