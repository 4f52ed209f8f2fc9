"""What each type of ModelSource takes: config keys and Secret keys, as one table.

From it come validation, messages and the documentation. Key names are those of the BaizeAI Dataset loader, whose
command line our own loader shares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

Check = Callable[[str], str | None]
"""What is wrong with a value, in words that do not repeat it, or None."""

UNSAFE = re.compile(r"[^A-Za-z0-9._/@:+=~%,*?\[\]{}!-]")
"""What is never passed on to a loader: blanks, quotes, `$`, `;`, `|`, `&` and whatever else a shell might read."""


ENVIRONMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""The name of a conda environment, which is that of its folder."""


def url(*schemes: str) -> Check:
    """A URL with one of these schemes, without credentials and without what would be kept where others read it."""

    def check(value: str) -> str | None:
        if UNSAFE.search(value):
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
    bad = any(not p or UNSAFE.search(p) for p in value.split(","))
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


def _hub(repo: str, default: str) -> SourceType:
    """A hub of repositories, at `default` unless the manifest says where."""
    return SourceType(
        repo,
        {
            "endpoint": ConfigKey(f"URL of the hub. Unset: {default}", url("http", "https"), option=True),
            "repoType": _REPO_TYPE,
            "include": _INCLUDE,
            "exclude": _EXCLUDE,
        },
        secrets=(("token",),),
        revisions=True,
        filters=True,
    )


SOURCES: Final[Mapping[str, SourceType]] = {
    "HUGGING_FACE": _hub("`org/name` of a repository", "https://huggingface.co"),
    "MODEL_SCOPE": _hub("`namespace/name` of a repository", "https://modelscope.cn"),
    "S3": SourceType(
        "`bucket/folder`",
        {
            "provider": ConfigKey("`AWS` (unset) or `MINIO`", _one_of("AWS", "MINIO"), option=True),
            "region": ConfigKey("region of the bucket, needed for AWS", _word, option=True),
            "endpoint": ConfigKey("URL of the service. Unset: AWS", url("http", "https"), option=True),
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
            "url": ConfigKey("URL that each `repo` is a path below", url("http", "https")),
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
            "name": ConfigKey(
                "name of the environment, instead of the version's `repo`",
                _matches(ENVIRONMENT.pattern, "is not one word"),
                option=True,
            ),
            "uri": ConfigKey(
                "address that the Dataset gets, as manifests of modelfs have it; no loader reads it",
                _matches(r"conda://[A-Za-z0-9._/-]{0,256}", "must begin with conda://"),
            ),
            "pythonVersion": ConfigKey("version of Python", _word, option=True),
            "pipIndexUrl": ConfigKey("URL of the package index", url("http", "https"), option=True),
            "pipExtraIndexUrl": ConfigKey("URL of a further package index", url("http", "https"), option=True),
            "condaEnvironmentYml": ConfigKey("text of the environment file", _any, option=True),
            "pipRequirementsTxt": ConfigKey("text of the requirements file", _any, option=True),
            "condaPrefixDir": ConfigKey(
                "where readers will mount the version: the environment is made for this path. Unset: /opt/conda/envs",
                _matches(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+", "must be an absolute path"),
                option=True,
            ),
        },
    ),
    "REFERENCE": SourceType(
        "`namespace/model/version` of a shared version, or `namespace/name` of a shared Dataset",
        {
            "uri": ConfigKey(
                "`dataset://namespace/name` of a shared Dataset, instead of the version's `repo`: manifests of modelfs "
                "have it",
                _matches(r"dataset://[a-z0-9.-]+/[a-z0-9.-]+", "must be dataset://namespace/name"),
            ),
        },
    ),
    "KAGGLE": SourceType(
        "`owner/name` of a data set, or `owner/model/framework/variation` of a model; `revision` numbers its version",
        {
            "endpoint": ConfigKey(
                "URL of the service. Unset: https://api.kaggle.com", url("http", "https"), option=True
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
