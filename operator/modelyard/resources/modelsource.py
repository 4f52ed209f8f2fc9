"""ModelSource: where artifacts can be fetched. Which config and Secret keys a type takes is in `sources`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelyard.resources.base import Spec, Status
from modelyard.resources.common import Conditions
from modelyard.resources.fields import Count, ObjectName, ShortText, Time
from modelyard.resources.markers import ListType

SourceType = Literal["HUGGING_FACE", "MODEL_SCOPE", "S3", "HTTP", "GIT", "PVC", "NFS", "CONDA", "REFERENCE", "KAGGLE"]

REFERENCED_BY_MAX = 100
"""How many entries `status.referencedBy` holds; `referencedByCount` counts all."""

ConfigValue = Annotated[str, StringConstraints(max_length=8192)]


class ModelSourceSpec(Spec):
    """Where artifacts can be fetched, and with which credentials."""

    type: SourceType = Field(description="What kind of place it is.")
    secret_ref: ObjectName | None = Field(
        default=None,
        description="Name of a Secret in this namespace with the credentials. Unset: the source is public.",
    )
    config: Annotated[dict[str, ConfigValue], Field(max_length=16)] = Field(
        default={}, description="Settings of the type, as text. Which keys there are depends on the type."
    )


class Credentials(Status):
    """What is known about the Secret, without any of its contents."""

    checked_keys: Annotated[tuple[ShortText, ...], Field(max_length=16), ListType("atomic")] = Field(
        default=(), description="Keys that were found and are not empty."
    )
    secret_resource_version: ShortText | None = Field(default=None, description="Version of the Secret that was seen.")
    last_checked_time: Time | None = Field(default=None, description="When the Secret was last looked at.")


class ModelSourceStatus(Status):
    """What the operator knows about the source."""

    observed_generation: int | None = Field(default=None, description="Generation of the spec that this is about.")
    conditions: Conditions = Field(
        default=(), description="`Ready`, `CredentialsReady`, and for tools `Reconciling` and `Stalled`."
    )
    referenced_by: Annotated[tuple[ShortText, ...], Field(max_length=REFERENCED_BY_MAX), ListType("atomic")] = Field(
        default=(), description="Who uses the source, as namespace/name: the first 100."
    )
    referenced_by_count: Count | None = Field(default=None, description="How many use the source in all.")
    credentials: Credentials | None = Field(default=None, description="What is known about the Secret.")
