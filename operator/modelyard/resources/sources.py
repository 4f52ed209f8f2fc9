"""The rules of each type of ModelSource: config, Secrets, and how a repo becomes a URI and loader options.

Credentials are never part of a URI or of the options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from modelyard.resources.problems import Problem
from modelyard.resources.sourcetypes import ENVIRONMENT, SOURCES, UNSAFE, url

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9.-]{0,252}(/[A-Za-z0-9][A-Za-z0-9._-]{0,62})?")

_HUB_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


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
    problems = []
    for key in sorted(config):
        at = f"spec.config.{key}"
        if key in allowed:
            if (wrong := allowed[key].check(config[key])) is not None:
                problems.append(Problem(at, f"{wrong} ({allowed[key].meaning})"))
        else:
            problems.append(Problem(at, f"is not a key of type {type}; allowed: {_listed(sorted(allowed))}"))
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
        elif UNSAFE.search(revision) or ".." in revision:
            problems.append(Problem(f"{at}.revision", "must be a branch, a tag or a commit, without blanks"))
    for name, patterns in (("include", tuple(include)), ("exclude", tuple(exclude))):
        if patterns and not entry.filters:
            problems.append(Problem(f"{at}.{name}", f"a source of type {type} cannot choose files: remove it"))
        elif any("," in p or UNSAFE.search(p) for p in patterns):
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
        options.setdefault("name", repo)  # the stock loader of the Dataset controller does not read the URI
    if revision is not None:
        options[_revision_option(type, revision)] = revision
    if repo_type is not None and "repoType" in entry.config:
        options["repoType"] = repo_type
    return Content(type, _uri(type, config, repo), tuple(sorted(options.items())))


def _check_repo(type: str, config: Mapping[str, str], repo: str) -> str | None:
    if UNSAFE.search(repo) or ".." in repo.split("/"):
        return "holds a character or a step up (..) that is not allowed"
    match type:
        case "REFERENCE":
            return None if _REFERENCE.fullmatch(referred(config, repo)) else "does not name what is shared"
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
                return url("http", "https")(repo)
            return None if "url" in config else "is a path, but the source has no config.url"
        case "GIT":
            return _git_url(repo)
        case "CONDA":
            return None if "name" in config or ENVIRONMENT.fullmatch(repo) else "is not one word"
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
    return url("http", "https", "ssh")(repo)


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
            return config.get("uri", f"conda://{repo}")
        case "REFERENCE":
            return f"dataset://{referred(config, repo)}"
        case _:
            return f"kaggle://{repo}"


def referred(config: Mapping[str, str], repo: str) -> str:
    """What a version of a REFERENCE names: `config.uri` of its source, else its own repo."""
    return config["uri"].removeprefix("dataset://") if "uri" in config else repo


def reference(content: Content) -> tuple[str, str, str | None]:
    """Namespace, Model and version that a REFERENCE names; or namespace, Dataset, and None."""
    namespace, name, *version = content.uri.removeprefix("dataset://").split("/")
    return namespace, name, version[0] if version else None


def pvc_path(repo: str) -> str:
    """The folder that a version of a PVC source names, relative to the volume; empty for the volume itself."""
    return "/".join(part for part in repo.split("/") if part not in ("", "."))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{w}`" for w in words)
