"""Versions are shared with another namespace, or no more."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import MODEL, MODELSOURCE, PVC
from support.build import make_model, make_source, make_version
from support.faultscenarios.place import Place
from support.faultscenarios.stories import Scenario, Step
from support.volumes import provide

Obj = dict[str, Any]
_RWX: Obj = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def _versions(place: Place, *, shared: bool) -> list[Obj]:
    sharing: Obj = {"enabled": True, "namespaceSelector": {"matchLabels": {"to": place.namespace}}}
    return [make_version(storage=_RWX, **({"share": sharing} if shared else {}))]


def _make_to_share(place: Place) -> None:
    place.accept("true")
    place.create(MODELSOURCE, make_source())
    place.create(MODEL, make_model("m", *_versions(place, shared=False)))
    provide(place.kube, place.namespace, "mdl-m-v1")


def _has_share(place: Place) -> bool:
    return [row["phase"] for row in place.entry("v1").get("sharedWith") or ()] == ["Ready"]


def _no_share(place: Place) -> bool:
    return not place.kube.list(PVC, place.there) and not place.entry("v1").get("sharedWith")


def _let_go(place: Place) -> bool:
    """Nothing is shared, of its volume nothing is left either, and so nothing guards the Model any more."""
    return _no_share(place) and not place.kube.get(MODEL, place.namespace, "m")["metadata"].get("finalizers")


def _provide_next(place: Place) -> None:
    (second,) = (name for name in place.names(PVC) if name != "mdl-m-v1")
    provide(place.kube, place.namespace, second)


_SHAREABLE = Step("make", _make_to_share, lambda p: p.reason(MODEL, "m", "Ready") == "Ready")
_SHARE = Step("share", lambda p: p.edit(MODEL, "m", versions=_versions(p, shared=True)), _has_share)
SHARES = (
    Scenario("version shared", (_SHARE,), given=(_SHAREABLE,), shares=True),
    Scenario(
        "share revoked",
        (Step("accept no more", lambda p: p.accept(None), _let_go),),
        given=(_SHAREABLE, _SHARE),
        shares=True,
    ),
    Scenario(
        "shared content changed",
        (
            Step(
                "change",
                lambda p: p.edit(MODEL, "m", versions=[{**_versions(p, shared=True)[0], "repo": "org/other"}]),
                lambda p: len(p.names(PVC)) == 2,
            ),
            Step("provide", _provide_next, lambda p: _has_share(p) and len(p.names(PVC)) == 1),
        ),
        given=(_SHAREABLE, _SHARE),
        shares=True,
    ),
    Scenario(
        "sharing model deleted",
        (
            Step(
                "delete",
                lambda p: p.delete(MODEL, "m"),
                lambda p: p.went(MODEL, "m") and _no_share(p) and p.has_nothing(),
            ),
        ),
        given=(_SHAREABLE, _SHARE),
        shares=True,
    ),
)
