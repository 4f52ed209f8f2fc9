"""What a Training learns from: the base model and the data set, by reference, claim or source."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelyard.resources.base import Rule, Ruled, Spec, exactly_one
from modelyard.resources.common import Storage
from modelyard.resources.fields import FilePattern, FolderPath, ModelName, ObjectName, Repo, Revision, VersionName
from modelyard.resources.markers import ListType
from modelyard_training.params import DatasetConfig


class VersionRef(Spec):
    """A version of a Model in this namespace, fetched or saved."""

    name: ModelName = Field(description="Name of the Model.")
    version: VersionName = Field(description="Name of the version, of its spec or saved by a Training.")


class BaseModels(Spec):
    """The models that the run starts from."""

    ref: VersionRef | None = Field(
        default=None, description="The base model; an adapter brings its own base. Unset: training from scratch."
    )
    assistant_ref: VersionRef | None = Field(
        default=None, description="A second model for families that need one, such as FLUX.1-schnell."
    )


class DatasetRef(Spec):
    """Data that is kept as a version of a Model."""

    model: ModelName = Field(description="Name of the Model.")
    version: VersionName = Field(description="Name of the version.")


class DatasetClaim(Spec):
    """Data in a volume that is there already."""

    claim_name: ObjectName = Field(description="PersistentVolumeClaim in this namespace. It is mounted read-only.")


class DatasetSource(Spec):
    """A data set repository, fetched once and shared by all Trainings of the namespace that ask for the same."""

    source_ref: ObjectName = Field(description="ModelSource in this namespace.")
    repo: Repo = Field(description="What to fetch, as the source's type writes it. Always a data set repository.")
    revision: Revision | None = Field(
        default=None, description="Branch, tag or commit. Unset: what the source offers as the newest."
    )
    subset: FolderPath | None = Field(
        default=None,
        description="Folder of the repository that holds the wanted part, as the configurations of a data set do:"
        " `include` is meant below it. Unset: all of it.",
    )
    include: Annotated[tuple[FilePattern, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Only files that match one of these patterns. Unset: the source's `include`, else all."
    )
    exclude: Annotated[tuple[FilePattern, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="No files that match one of these patterns. Unset: the source's `exclude`, else none."
    )
    storage: Storage | None = Field(default=None, description="The volume that the files are kept in.")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The patterns of the wanted files, whose paths begin at the repository's root."""
        if self.subset is None:
            return self.include
        return tuple(f"{self.subset}/{pattern}" for pattern in self.include) or (f"{self.subset}/",)


class Dataset(Ruled, DatasetConfig):
    """The data set: where it comes from, and how it is read."""

    ref: DatasetRef | None = Field(default=None, description="Data that is kept as a version of a Model.")
    pvc: DatasetClaim | None = Field(default=None, description="Data in a volume that is there already.")
    source: DatasetSource | None = Field(default=None, description="Data that is fetched for this run.")

    rules = (
        Rule(
            exactly_one("ref", "pvc", "source"),
            "set exactly one of dataset.ref (a Model version), dataset.pvc (a claim) and dataset.source (a repository)",
            lambda d: [d.ref, d.pvc, d.source].count(None) == 2,
        ),
        Rule(
            "!has(self.split) || !(has(self.split.validation) && has(self.split.validationFraction))",
            "dataset.split has both validation and validationFraction: set one of them",
        ),
    )
