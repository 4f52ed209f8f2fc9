"""What each type of ModelSource takes: config keys, Secret keys, and how a repo becomes a URI and loader options.

One table, from which validation, messages and the documentation come. Key names are those of the BaizeAI Dataset
loader, whose command line our own loader shares. Credentials are never part of a URI or of the options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from modelyard.resources.problems import Problem

Check = Callable[[str], str | None]
"""What is wrong with a value, in words that do not repeat it, or None."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._/@:+=~%,*?\[\]{}!-]")
"""What is never passed on to a loader: blanks, quotes, `$`, `;`, `|`, `&` and whatever else a shell might read."""

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9.-]{0,252}(/[A-Za-z0-9][A-Za-z0-9._-]{0,62})?")

_HUB_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def _url(*schemes: str) -> Check:
    def check(value: str) -> str | None:
        if _UNSAFE.search(value):
            return "holds a character that a URL cannot have"
        try:
            parts = urlsplit(value)
        except ValueError:
            return "is not a URL"
        if parts.scheme not in schemes or not parts.hostname:
            return f"must be a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"
        if parts.username is not None or parts.password is not None:
            return "must not hold a user name or password: put them into the Secret named by spec.secretRef"
        if parts.query or parts.fragment:
            return "must not hold a query or fragment: it would be kept where others can read it"
        return None

    return check


def _one_of(*values: str) -> Check:
    return lambda value: None if value in values else f"must be {' or '.join(values)}"


def _matches(pattern: str, words: str) -> Check:
    compiled = re.compile(pattern)
    return lambda value: None if compiled.fullmatch(value) else words


def _patterns(value: str) -> str | None:
    bad = any(not p or _UNSAFE.search(p) for p in value.split(","))
    return "must be file patterns separated by commas, without blanks" if bad else None


def _any(value: str) -> str | None:
    return None


_name = _matches(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "must be the name of an object in the cluster")
_word = _matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "must be one word of letters, digits, '.', '_' and '-'")
_path = _matches(r"[A-Za-z0-9._/-]{1,512}", "must be a path of letters, digits, '.', '_', '-' and '/'")


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One key of `spec.config`. `option`: it is passed on to the loader under its own name."""

    meaning: str
    check: Check
    required: bool = False
    option: bool = False


@dataclass(frozen=True, slots=True)
class SourceType:
    """What a type takes. `secrets`: sets of keys, one of which a Secret must hold whole; none: it takes no Secret."""

    repo: str
    config: Mapping[str, ConfigKey] = field(default_factory=dict)
    secrets: tuple[tuple[str, ...], ...] = ()
    optional_secrets: tuple[str, ...] = ()
    revisions: bool = False
    filters: bool = False


_INCLUDE = ConfigKey("file patterns, separated by commas, for versions without their own `include`", _patterns)
_EXCLUDE = ConfigKey("file patterns, separated by commas, for versions without their own `exclude`", _patterns)
_REPO_TYPE = ConfigKey(
    "`MODEL` (unset) or `DATASET`: which kind of repository", _one_of("MODEL", "DATASET"), option=True
)
_SYNC_MODE = ConfigKey(
    "`sync` (unset: files that the source lacks are removed) or `copy`", _one_of("sync", "copy"), option=True
)
_UNPACK = ConfigKey(
    "`true` replaces zip and tar archives by the files in them. Unset: they stay as they are",
    _one_of("true"),
    option=True,
)
_USER = ("username", "password")

SOURCES: Final[Mapping[str, SourceType]] = {
    "HUGGING_FACE": SourceType(
        "`org/name` of a repository",
        {
            "endpoint": ConfigKey("URL of the hub. Unset: https://huggingface.co", _url("http", "https"), option=True),
            "repoType": _REPO_TYPE,
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
        },
        secrets=(("token",),),
        revisions=True,
        filters=True,
    ),
    "MODEL_SCOPE": SourceType(
        "`namespace/name` of a repository",
        {
            "endpoint": ConfigKey("URL of the hub. Unset: https://modelscope.cn", _url("http", "https"), option=True),
            "repoType": _REPO_TYPE,
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
        },
        secrets=(("token",),),
        revisions=True,
        filters=True,
    ),
    "S3": SourceType(
        "`bucket/folder`",
        {
            "provider": ConfigKey("`AWS` (unset) or `MINIO`", _one_of("AWS", "MINIO"), option=True),
            "region": ConfigKey("region of the bucket, needed for AWS", _word, option=True),
            "endpoint": ConfigKey("URL of the service. Unset: AWS", _url("http", "https"), option=True),
            "syncMode": _SYNC_MODE,
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
            "unpack": _UNPACK,
        },
        secrets=(("access-key", "secret-key"),),
        filters=True,
    ),
    "HTTP": SourceType(
        "a path below `config.url`, or a whole URL",
        {
            "url": ConfigKey("URL that each `repo` is a path below", _url("http", "https")),
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
            "unpack": _UNPACK,
        },
        secrets=(_USER,),
        filters=True,
    ),
    "GIT": SourceType(
        "URL of a repository: `https://…`, `ssh://…` or `user@host:path`",
        {
            "depth": ConfigKey(
                "commits of history that are asked for. Unset: 1, and all where only so a pinned commit is found",
                _matches(r"[1-9][0-9]{0,6}", "must be a number above 0"),
                option=True,
            ),
            "submodules": ConfigKey(
                "`true` fetches submodules too. Unset: they are left out", _one_of("true"), option=True
            ),
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
        },
        secrets=(("token",), _USER, ("ssh-privatekey",)),
        optional_secrets=("ssh-privatekey-passphrase", "known_hosts"),
        revisions=True,
        filters=True,
    ),
    "PVC": SourceType(
        "a folder in the volume; `/` is the whole volume",
        {"pvcName": ConfigKey("PersistentVolumeClaim in this namespace that holds the files", _name, required=True)},
    ),
    "NFS": SourceType(
        "a folder below `config.path`",
        {
            "server": ConfigKey("host name or address of the NFS server", _word, required=True),
            "path": ConfigKey("exported path. Unset: /", _path),
        },
    ),
    "CONDA": SourceType(
        "name of the environment, which lies in a folder of that name",
        {
            "pythonVersion": ConfigKey("version of Python", _word, option=True),
            "pipIndexUrl": ConfigKey("URL of the package index", _url("http", "https"), option=True),
            "pipExtraIndexUrl": ConfigKey("URL of a further package index", _url("http", "https"), option=True),
            "condaEnvironmentYml": ConfigKey("text of the environment file", _any, option=True),
            "pipRequirementsTxt": ConfigKey("text of the requirements file", _any, option=True),
            "condaPrefixDir": ConfigKey(
                "where readers will mount the version: the environment is made for this path. Unset: /opt/conda/envs",
                _matches(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", "must be an absolute path"),
                option=True,
            ),
        },
    ),
    "REFERENCE": SourceType("`namespace/model/version` of a shared version, or `namespace/name` of a shared Dataset"),
    "KAGGLE": SourceType(
        "`owner/name` of a data set, or `owner/model/framework/variation` of a model; `revision` numbers its version",
        {
            "endpoint": ConfigKey(
                "URL of the service. Unset: https://api.kaggle.com", _url("http", "https"), option=True
            ),
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
            "unpack": _UNPACK,
        },
        secrets=(("username", "key"),),
        revisions=True,
        filters=True,
    ),
}


LINKED: Final = frozenset({"PVC", "NFS", "REFERENCE"})
"""Types whose files are used where they are: nothing is copied."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is fetched: the loader's type, URI and options. Equal contents are fetched once."""

    type: str
    uri: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def hash(self) -> str:
        """16 hex digits that change with the content that was asked for, and with nothing else."""
        text = json.dumps([self.type, self.uri, sorted(self.options)], separators=(",", ":"))
        return sha256(text.encode()).hexdigest()[:16]


def check_config(type: str, config: Mapping[str, str]) -> list[Problem]:
    """What is wrong with `spec.config` of a source of that type. A value is never repeated: it may be a secret."""
    allowed = SOURCES[type].config
    listed = _listed(sorted(allowed)) if allowed else None
    problems = []
    for key in sorted(config):
        at = f"spec.config.{key}"
        if key in allowed:
            if (wrong := allowed[key].check(config[key])) is not None:
                problems.append(Problem(at, f"{wrong} ({allowed[key].meaning})"))
        elif listed is None:
            problems.append(Problem(at, f"a source of type {type} takes no config: remove it"))
        else:
            problems.append(Problem(at, f"is not a key of type {type}; allowed: {listed}"))
    for key, entry in allowed.items():
        if entry.required and key not in config:
            problems.append(Problem(f"spec.config.{key}", f"is required for type {type}: {entry.meaning}"))
    if type == "S3" and config.get("provider", "AWS") == "AWS" and "region" not in config:
        problems.append(Problem("spec.config.region", "is required for provider AWS: region of the bucket"))
    asked = ("pythonVersion", "condaEnvironmentYml", "pipRequirementsTxt")
    if type == "CONDA" and not any(config.get(key) for key in asked):
        problems.append(Problem("spec.config", f"must hold one of {_listed(asked)}, or the environment is empty"))
    return problems


def check_secret_ref(type: str, secret_ref: str | None) -> Problem | None:
    """A Secret for a type that uses none is a mistake, not a detail to be ignored."""
    if secret_ref is None or SOURCES[type].secrets:
        return None
    return Problem("spec.secretRef", f"a source of type {type} uses no credentials: remove it")


def secret_keys(type: str) -> frozenset[str]:
    """Every key that a Secret for this type may hold."""
    entry = SOURCES[type]
    return frozenset(key for group in entry.secrets for key in group) | frozenset(entry.optional_secrets)


def check_secret(type: str, present_keys: Iterable[str], empty_keys: Iterable[str], secret_name: str) -> Problem | None:
    """Whether the Secret (keys only) serves that type: one set of keys whole, none of them empty, none half there."""
    groups = SOURCES[type].secrets
    if not groups:
        return None
    present, known = frozenset(present_keys), secret_keys(type)
    if empty := sorted(known & present & frozenset(empty_keys)):
        return Problem(
            "spec.secretRef",
            f"Secret {secret_name!r}: {_listed(empty)} {'is' if len(empty) == 1 else 'are'} empty; put the value there",
        )
    for group in groups:
        missing = [key for key in group if key not in present]
        if missing and len(missing) < len(group):
            return Problem(
                "spec.secretRef",
                f"Secret {secret_name!r} has {_listed([k for k in group if k in present])} but lacks "
                f"{_listed(missing)}; add it",
            )
    if any(all(key in present for key in group) for group in groups):
        return None
    wanted = ", or ".join(" and ".join(f"`{key}`" for key in group) for group in groups)
    found = f"it has only {_listed(sorted(present)[:8])}" if present else "it is empty"
    return Problem(
        "spec.secretRef", f"Secret {secret_name!r} has not the keys that type {type} needs: {wanted}; {found}"
    )


def check_content(
    type: str,
    config: Mapping[str, str],
    repo: str,
    *,
    revision: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    at: str,
) -> list[Problem]:
    """What is wrong with what is to be fetched; `at` is the path of the version (or dataset.source) in its manifest."""
    entry = SOURCES[type]
    problems = []
    if (wrong := _check_repo(type, config, repo)) is not None:
        problems.append(Problem(f"{at}.repo", f"{wrong}; type {type} takes {entry.repo}"))
    if revision is not None:
        if not entry.revisions:
            problems.append(Problem(f"{at}.revision", f"a source of type {type} has no revisions: remove it"))
        elif type == "KAGGLE" and not re.fullmatch(r"[1-9][0-9]{0,8}", revision):
            problems.append(Problem(f"{at}.revision", "must be the number of a version"))
        elif _UNSAFE.search(revision) or ".." in revision:
            problems.append(Problem(f"{at}.revision", "must be a branch, a tag or a commit, without blanks"))
    for name, patterns in (("include", tuple(include)), ("exclude", tuple(exclude))):
        if patterns and not entry.filters:
            problems.append(Problem(f"{at}.{name}", f"a source of type {type} cannot choose files: remove it"))
        elif any("," in p or _UNSAFE.search(p) for p in patterns):
            problems.append(Problem(f"{at}.{name}", "patterns cannot hold commas, blanks or quotes; write one each"))
    return problems


def content(
    type: str,
    config: Mapping[str, str],
    repo: str,
    *,
    revision: str | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    repo_type: str | None = None,
) -> Content:
    """What the loader is told. `repo_type` overrides the config's: a Training's data is always a DATASET.

    Expects what `check_config` and `check_content` found nothing wrong with.
    """
    entry = SOURCES[type]
    options = {key: config[key] for key, meaning in entry.config.items() if meaning.option and key in config}
    if entry.filters:
        chosen = {"include": ",".join(include), "exclude": ",".join(exclude)}
        options |= {k: v or config.get(k, "") for k, v in chosen.items() if v or config.get(k)}
    if type == "CONDA":
        options["name"] = repo  # the stock loader of the Dataset controller does not read the URI
    if revision is not None:
        options[_revision_option(type, revision)] = revision
    if repo_type is not None and "repoType" in entry.config:
        options["repoType"] = repo_type
    return Content(type, _uri(type, config, repo), tuple(sorted(options.items())))


def _check_repo(type: str, config: Mapping[str, str], repo: str) -> str | None:
    if _UNSAFE.search(repo) or ".." in repo.split("/"):
        return "holds a character or a step up (..) that is not allowed"
    match type:
        case "REFERENCE":
            return None if _REFERENCE.fullmatch(repo) else "does not name what is shared"
        case "MODEL_SCOPE":
            return None if "/" in repo and _HUB_REPO.fullmatch(repo) else "is not namespace and name of a repository"
        case "KAGGLE":
            parts = repo.split("/")
            right = len(parts) in (2, 4) and all(_HUB_REPO.fullmatch(part) for part in parts)
            return None if right else "is not the name of a data set or of a model's variation"
        case "HUGGING_FACE":
            return None if _HUB_REPO.fullmatch(repo) else "is not the name of a repository"
        case "HTTP":
            if repo.startswith(("http://", "https://")):
                return _url("http", "https")(repo)
            return None if "url" in config else "is a path, but the source has no config.url"
        case "GIT":
            return _git_url(repo)
        case "CONDA":
            return None if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", repo) else "is not one word"
        case "S3":
            return None if repo.strip("/") else "is empty"
        case _:
            return None


def _git_url(repo: str) -> str | None:
    if "://" not in repo:
        scp = re.fullmatch(r"[A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:]+", repo)
        return None if scp else "is not a URL"
    host = repo.partition("://")[2].partition("/")[0]
    if repo.startswith("ssh://") and ":" not in host.rpartition("@")[0]:
        repo = repo.replace(f"{host.rpartition('@')[0]}@", "", 1)  # the user that logs in is no secret
    return _url("http", "https", "ssh")(repo)


def _revision_option(type: str, revision: str) -> str:
    if type != "GIT":
        return "revision"
    return "commit" if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", revision) else "branch"


def _uri(type: str, config: Mapping[str, str], repo: str) -> str:
    match type:
        case "HUGGING_FACE":
            return f"huggingface://{repo}"
        case "MODEL_SCOPE":
            return f"modelscope://{repo}"
        case "S3":
            return f"s3://{repo.removeprefix('s3://').strip('/')}"
        case "HTTP":
            whole = repo.startswith(("http://", "https://"))
            return repo if whole else f"{config['url'].rstrip('/')}/{repo.lstrip('/')}"
        case "GIT":
            return repo
        case "PVC":
            return f"pvc://{config['pvcName']}/{pvc_path(repo)}"
        case "NFS":
            parts = (part.strip("/") for part in (config.get("path", ""), repo))
            return f"nfs://{config['server']}/{'/'.join(part for part in parts if part)}"
        case "CONDA":
            return f"conda://{repo}"
        case "REFERENCE":
            return f"dataset://{repo}"
        case _:
            return f"kaggle://{repo}"


def reference(content: Content) -> tuple[str, str, str | None]:
    """Namespace, Model and version that a REFERENCE names; or namespace, Dataset, and None."""
    namespace, name, *version = content.uri.removeprefix("dataset://").split("/")
    return namespace, name, version[0] if version else None


def pvc_path(repo: str) -> str:
    """The folder that a version of a PVC source names, relative to the volume; empty for the volume itself."""
    return "/".join(part for part in repo.split("/") if part not in ("", "."))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{w}`" for w in words)
