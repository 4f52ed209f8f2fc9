"""The rules for Secrets by type, applied without reading any: to names of keys, and to what the operator found.

Pure. No value of a key ever gets here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelyard.plan import Obj
from modelyard.resources import conditions, sources
from modelyard.resources.sourcetypes import SOURCES
from modelyard.statusapi.schemas.answers import SecretCheck, SecretCheckRequest, SecretFinding, SecretProblem

_ASK_THE_OPERATOR = (
    "No ModelSource in this namespace names this Secret: create one, and the operator looks at the Secret; "
    "or send the names of its keys."
)


def check(request: SecretCheckRequest, model_sources: Iterable[Obj]) -> SecretCheck:
    """`model_sources`: those of the namespace."""
    entry = SOURCES[request.type]
    problems = list(sources.check_config(request.type, request.config))
    if (odd := sources.check_secret_ref(request.type, request.secret_ref)) is not None:
        problems.append(odd)
    keys = request.keys
    if keys is not None and request.secret_ref is not None:
        wrong = sources.check_secret(request.type, keys, (), request.secret_ref)
        if wrong is not None:
            problems.append(wrong)
    found = [_finding(obj) for obj in model_sources if _names(obj, request)] if request.secret_ref else []
    valid, hint = _verdict(request, bool(problems), found)
    return SecretCheck(
        valid=valid,
        problems=[SecretProblem(path=p.path, message=p.message) for p in problems],
        needed_keys=[list(group) for group in entry.secrets],
        optional_keys=list(entry.optional_secrets),
        missing_keys=_missing(entry.secrets, keys) if keys is not None else [],
        found=found,
        hint=hint,
    )


def _verdict(
    request: SecretCheckRequest, wrong: bool, found: Sequence[SecretFinding]
) -> tuple[bool | None, str | None]:
    if wrong:
        return False, None
    if request.secret_ref is None:
        return True, None
    same = [finding.ready for finding in found if finding.type == request.type and finding.ready is not None]
    if same:
        return all(same), None
    return (True, None) if request.keys is not None else (None, _ASK_THE_OPERATOR)


def _missing(groups: Sequence[Sequence[str]], keys: Sequence[str]) -> list[str]:
    """Of the set that lacks least."""
    lacks = [[key for key in group if key not in keys] for group in groups]
    return min(lacks, key=len, default=[])


def _names(obj: Obj, request: SecretCheckRequest) -> bool:
    return (obj.get("spec") or {}).get("secretRef") == request.secret_ref


def _finding(obj: Obj) -> SecretFinding:
    status = obj.get("status") or {}
    condition = conditions.find(status.get("conditions") or (), "CredentialsReady") or {}
    credentials = status.get("credentials") or {}
    return SecretFinding(
        model_source=obj["metadata"]["name"],
        type=(obj.get("spec") or {}).get("type", ""),
        ready={"True": True, "False": False}.get(condition.get("status", "")),
        reason=condition.get("reason"),
        message=condition.get("message"),
        checked_keys=list(credentials.get("checkedKeys") or ()),
        last_checked_time=credentials.get("lastCheckedTime"),
    )
