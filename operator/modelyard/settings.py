"""What an installation can set: one YAML file, and environment variables over it.

Read once at start by operator, collector and status API, frozen from then on. A key that does not exist is an error
that names the ones that do, because a typo that is ignored is found weeks later. Keys are camelCase in the file
(`collector.tlsSecret`); in the environment `MODELYARD_` and `__` between levels, in capitals
(`MODELYARD_COLLECTOR__TLSSECRET`, `MODELYARD_WATCHNAMESPACES='["a","b"]'`).

No secret belongs in here: only names of Secrets and paths of files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

SETTINGS_ENV = "MODELYARD_SETTINGS"
_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany", "ReadWriteOncePod"]


class SettingsError(Exception):
    """The settings cannot be used; the text says where and what to do, without repeating values."""


class Section(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Images(Section):
    """Images of the pods that Modelyard starts in users' namespaces."""

    loader: str = "modelyard:latest"
    trainer: str = "modelyard-trainer:latest"
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


class PodSecurity(Section):
    """The ids of those pods. `enabled: false` leaves them out, for platforms that choose their own (OpenShift)."""

    enabled: bool = True
    run_as_user: Annotated[int, Field(ge=1)] = 1000
    run_as_group: Annotated[int, Field(ge=1)] = 1000
    fs_group: Annotated[int, Field(ge=1)] = 1000


class Storage(Section):
    """Volumes of versions whose `storage` does not say.

    `persistentVolumes`: the operator may make PersistentVolumes, which are objects of the whole cluster. Without them
    there are no NFS sources, and what is not a Dataset cannot be shared. Unset: unless `watchNamespaces` is set.
    """

    default_size: str = "20Gi"
    default_access_modes: tuple[AccessMode, ...] = ("ReadWriteOnce",)
    default_storage_class: str | None = None
    persistent_volumes: bool | None = None


class Sharing(Section):
    """Versions that other namespaces get. `requireNamespaceLabel`: a namespace that accepts shares has this label.

    `key=value`, or `key` for `key=true`.
    """

    require_namespace_label: Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_./]*(=[-A-Za-z0-9_.]*)?$")] = (
        "modelyard.dev/accept-shares=true"
    )


class Reads(Section):
    """How often a Secret or another object outside the watches is read again by name."""

    period_seconds: Seconds = 30
    max_per_second: Annotated[float, Field(gt=0)] = 20


class CurveStore(Section):
    """Where the collector keeps the curves of metrics: an SQLite file at `path`, or PostgreSQL.

    `urlFile`: a file, from a mounted Secret, that holds `postgresql://USER:PASSWORD@HOST/DATABASE`. `points`: how many
    an attempt may have before they are thinned to half. `sweepSeconds`: how often is asked which Trainings still exist.
    """

    path: Path = Path("/var/lib/modelyard/curves.db")
    url_file: Path | None = None
    points: Annotated[int, Field(ge=100, le=100_000)] = 4000
    retention_days: Annotated[float, Field(gt=0)] = 90
    sweep_seconds: Seconds = 600


class Collector(Section):
    """Where running pods report to. Without `url` nothing is reported.

    With `caFile` (certificates from elsewhere) the operator makes none and gives pods that file's.
    """

    url: str | None = None
    ca_file: Path | None = None
    service: str = "modelyard-collector"
    tls_secret: str = "modelyard-collector-tls"
    ca_secret: str = "modelyard-ca"
    token_file: Path = Path("/var/run/secrets/modelyard/token")
    operator_user: str = ""
    api_user: str = ""
    store: CurveStore = CurveStore()
    port: Port = 8443
    metrics_port: Port = 9090
    tls_dir: Path = Path("/etc/modelyard-tls")
    poll_seconds: Seconds = 2


class ApiLimits(Section):
    """What one caller of the status API may take. Requests over it are answered 429."""

    requests_per_second: Annotated[float, Field(gt=0)] = 20
    burst: Annotated[int, Field(ge=1)] = 100
    streams: Annotated[int, Field(ge=1)] = 20
    total_streams: Annotated[int, Field(ge=1)] = 5000
    request_seconds: Seconds = 30
    body_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024


class Api(Section):
    """The status API. Without `tlsDir` (tls.crt, tls.key) it speaks plain HTTP.

    `authentication: none` shows everything to everybody, and is possible on a loopback address alone. `audiences`: what
    tokens must be meant for; empty: the cluster's API server itself. `logs` offers the ends of pods' logs.
    """

    host: str = "0.0.0.0"
    port: Port = 8080
    metrics_port: Port = 9090
    tls_dir: Path | None = None
    authentication: Literal["token", "none"] = "token"
    audiences: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    logs: bool = False
    stream_window_seconds: Seconds = 0.2
    limits: ApiLimits = ApiLimits()


class Certificates(Section):
    """Lifetimes of the certificates in the operator's own namespace. A leaf is renewed at two thirds of its life."""

    ca_days: Annotated[int, Field(ge=2)] = 3650
    leaf_days: Annotated[float, Field(gt=0)] = 90


class Lease(Section):
    """Leadership: who does not renew for `durationSeconds` is replaced; who cannot for `renewDeadlineSeconds` exits."""

    name: str = "modelyard-operator"
    duration_seconds: Annotated[int, Field(ge=2)] = 15
    renew_deadline_seconds: Seconds = 10
    retry_seconds: Seconds = 2


class ContainerResources(Section):
    """Requests and limits of a container, as Kubernetes writes them."""

    requests: Mapping[str, str] = {}
    limits: Mapping[str, str] = {}


class Download(Section):
    """Jobs that bring a version into a volume."""

    max_retries: Annotated[int, Field(ge=0)] = 5
    backoff_seconds: Seconds = 10
    max_backoff_seconds: Seconds = 600
    resources: ContainerResources = ContainerResources(
        requests={"cpu": "200m", "memory": "256Mi"}, limits={"memory": "2Gi"}
    )
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Mapping[str, Any], ...] = ()


class Baize(Section):
    """The Dataset controller, where versions are kept as Datasets.

    `loader`: the image of its download Jobs: Modelyard's (`modelyard`) or its own (`stock`). Its own ignores revisions
    and takes one pattern, so that versions which need more are refused. `discoverySeconds`: how often the operator
    asks whether the cluster serves Datasets.
    """

    loader: Literal["modelyard", "stock"] = "stock"
    discovery_seconds: Seconds = 30


class TrainingDefaults(Section):
    """Training runs whose spec does not say.

    `analysis`: which runs are analysed before they begin: all that one of our recipes trains, or those alone that ask
    for it (`pauseAfter`, `unsetParams`). The rest is for the analysis's pod, which has no GPU.
    """

    default_output_size: str = "10Gi"
    default_cpu: str = "1"
    default_memory: str = "2Gi"
    analysis: Literal["Always", "WhenAsked"] = "Always"
    analysis_resources: ContainerResources = ContainerResources(
        requests={"cpu": "200m", "memory": "512Mi"}, limits={"memory": "8Gi"}
    )


class Settings(BaseSettings):
    """All settings of one installation. Build with `load_settings`."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        env_prefix="MODELYARD_",
        env_prefix_target="all",
        env_nested_delimiter="__",
    )

    namespace: str = ""
    watch_namespaces: tuple[str, ...] = ()
    data_plane: Literal["auto", "baize", "native"] = "auto"
    images: Images = Images()
    pod_security: PodSecurity = PodSecurity()
    storage: Storage = Storage()
    sharing: Sharing = Sharing()
    secrets: Reads = Reads()
    collector: Collector = Collector()
    api: Api = Api()
    certificates: Certificates = Certificates()
    lease: Lease = Lease()
    download: Download = Download()
    baize: Baize = Baize()
    training: TrainingDefaults = TrainingDefaults()
    prices: Mapping[str, Decimal] = {}
    """USD per GPU hour, by GPU type."""
    price_label: Annotated[str, Field(min_length=1, max_length=317)] | None = None
    """Label of nodes whose value is the USD per GPU hour, for types without a price here."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    resync_seconds: Seconds = 600
    metrics_port: Port = 8080
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"

    @property
    def makes_volumes(self) -> bool:
        """Whether the operator may make, and watches, PersistentVolumes."""
        told = self.storage.persistent_volumes
        return not self.watch_namespaces if told is None else told

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over what the file gave; nothing else is read."""
        return env_settings, init_settings


def load_settings(path: Path | None = None) -> Settings:
    """Settings from `path`, else from the file that MODELYARD_SETTINGS names, else the defaults; then the environment.

    An unset `namespace` is the pod's own, or `modelyard-system` outside a pod. SettingsError says what is wrong.
    """
    source = path or (Path(os.environ[SETTINGS_ENV]) if os.environ.get(SETTINGS_ENV) else None)
    content = _read(source) if source else {}
    try:
        settings = Settings(**content)
    except ValidationError as error:
        where = f"{source} (with MODELYARD_… variables over it)" if source else "MODELYARD_… variables"
        raise SettingsError(f"Settings from {where} cannot be used. {explain(error)}") from None
    if not settings.namespace:
        return settings.model_copy(update={"namespace": _own_namespace()})
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"The settings file {path} is not valid YAML{where}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {path} must be a mapping of settings.")
    return content


def explain(error: ValidationError) -> str:
    """Each problem as `path: what is wrong`, without the offending values."""
    problems = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            allowed = ", ".join(sorted(_keys_at(item["loc"][:-1])))
            problems.append(f"{path}: there is no such setting; there are {allowed}.")
        else:
            problems.append(f"{path}: {item['msg']}.")
    return " ".join(problems)


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        model = next((f.annotation for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _own_namespace() -> str:
    try:
        return _SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return "modelyard-system"
