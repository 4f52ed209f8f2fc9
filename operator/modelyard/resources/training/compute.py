"""Where and on what a Training runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelyard.resources.base import Rule, Spec, at_most_one
from modelyard.resources.fields import (
    Annotations,
    GpuRequest,
    LabelKey,
    Labels,
    LabelValue,
    ObjectName,
    Quantity,
    SecretKey,
)
from modelyard.resources.markers import KeyPattern, ListMap, ListType
from modelyard_training.params.common import Unset


class KeyRef(Spec):
    """One key of a Secret or ConfigMap in this namespace."""

    name: ObjectName = Field(description="Name of the object.")
    key: SecretKey = Field(description="Key in it.")


class EnvSource(Spec):
    """Where a variable's value comes from."""

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret in this namespace.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap in this namespace.")

    rules = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "set exactly one of secretKeyRef and configMapKeyRef",
            lambda s: (s.secret_key_ref is None) != (s.config_map_key_ref is None),
        ),
    )


class EnvVar(Spec):
    """One environment variable of the trainer."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the variable. Names that begin with MODELYARD_ are Modelyard's own."
    )
    value: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="The value, as it stands."
    )
    value_from: EnvSource | None = Field(default=None, description="Where the value comes from instead.")

    rules = (
        Rule(
            at_most_one("value", "valueFrom"),
            "set only one of value and valueFrom",
            lambda e: e.value is None or e.value_from is None,
        ),
        Rule(
            "!self.name.startsWith('MODELYARD_')",
            "names that begin with MODELYARD_ are set by Modelyard itself: choose another name",
            lambda e: not e.name.startswith("MODELYARD_"),
        ),
    )


class Toleration(Spec):
    """A taint that the run's pods may be placed in spite of, in Kubernetes' own words."""

    key: LabelKey | None = Field(default=None, description="Key of the taint. Unset, with Exists: every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Unset: `Equal`.")
    value: LabelValue | None = Field(default=None, description="Value of the taint, with `Equal`.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint. Unset: every effect."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        default=None, description="With NoExecute: how long the pod stays. Unset: for good."
    )


class Topology(Spec):
    """How near to each other the nodes of one run must be."""

    required: LabelKey | None = Field(default=None, description="Node label whose value all nodes must share.")
    preferred: LabelKey | None = Field(default=None, description="Node label whose value they should share.")


class PullSecret(Spec):
    """A Secret with registry credentials."""

    name: ObjectName = Field(description="Name of a Secret in this namespace.")


class Compute(Spec):
    """Where and on what the run is computed."""

    provider: Annotated[Literal["kubernetes", "runpod"] | None, Unset("kubernetes", "a Job in this namespace")] = Field(
        default=None, description="`kubernetes`: this cluster. `runpod`: a rented pod outside of it."
    )
    secret_ref: ObjectName | None = Field(
        default=None, description="Secret in this namespace with the provider's credentials (RunPod)."
    )
    gpu: Annotated[GpuRequest | None, Unset("none", "a run on the CPU costs no GPU by mistake")] = Field(
        default=None, description="GPUs per node: `none`, a type (`H200`: one of it), or type and count (`H100:8`)."
    )
    nodes: Annotated[int | None, Unset(1, "one node is simplest")] = Field(
        default=None, ge=1, le=1024, description="Number of nodes. More than one needs ReadWriteMany volumes."
    )
    cpu: Quantity | None = Field(default=None, description="CPU per node, such as 8. Unset: the operator's setting.")
    memory: Quantity | None = Field(
        default=None, description="Memory per node, such as 64Gi. Unset: the operator's setting."
    )
    scratch: Quantity | None = Field(
        default=None, description="Local disk per node for temporary files. Unset: what the node has, without a limit."
    )
    extra_resources: Annotated[
        dict[str, Quantity],
        Field(max_length=16),
        KeyPattern(r"^[-A-Za-z0-9./_]{1,317}$", "keys must be resource names"),
    ] = Field(default={}, description="Further resources per node, such as rdma/hca.")
    node_selector: Labels = Field(default={}, description="Labels that the nodes must have.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Taints that the pods may be placed in spite of."
    )
    topology: Topology | None = Field(default=None, description="How near to each other the nodes must be.")
    pod_annotations: Annotations = Field(default={}, description="Annotations of the run's pods.")
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), ListMap(("name",))] = Field(
        default=(), description="Environment variables of the trainer."
    )
    queue_name: ObjectName | None = Field(
        default=None, description="LocalQueue of Kueue that admits the run. Unset: the run is not queued."
    )
    priority_class_name: ObjectName | None = Field(default=None, description="PriorityClass of the run's pods.")
    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        default=None, description="Image of the trainer. Unset: the operator's."
    )
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=8), ListMap(("name",))] = Field(
        default=(), description="Secrets with credentials for the image's registry."
    )
