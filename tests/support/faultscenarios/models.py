"""Models are made, changed and deleted."""

from __future__ import annotations

import json
from typing import Any

from modelyard.resources.meta import DATASET, MODEL, MODELSOURCE, PVC, SECRET
from support.build import make_model, make_secret, make_source, make_version
from support.faultscenarios.place import Place
from support.faultscenarios.stories import Scenario, Step, fetched
from support.kubelet import Ending

Obj = dict[str, Any]


def _make_model(*versions: Obj) -> Step:
    def act(place: Place) -> None:
        place.create(MODELSOURCE, make_source())
        place.create(MODEL, make_model("m", *versions))

    def outcome(place: Place) -> bool:
        referenced = place.status(MODELSOURCE, "hub").get("referencedBy")
        return place.reason(MODEL, "m", "Ready") == "Ready" and bool(referenced)

    return Step("make", act, outcome)


def _with_secret(place: Place) -> None:
    place.create(MODELSOURCE, make_source(secret="token"))
    place.create(MODEL, make_model("m"))


def _first_fetched(pod: Obj) -> Ending | None:
    """Revision `a` is fetched at once, `b` never comes to an end."""
    return None if "revision=b" in json.dumps(pod["spec"]["containers"][0]) else fetched(pod)


MODELS = (
    Scenario("model made", (_make_model(make_version("v1"), make_version("v2", "org/other")),)),
    Scenario(
        "revision changed",
        (
            Step(
                "change",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1", revision="b")]),
                lambda p: p.entry("v1").get("resolvedRevision") == "decaf" and len(p.names(PVC)) == 1,
            ),
        ),
        given=(_make_model(make_version("v1", revision="a")),),
    ),
    Scenario(
        "changed back midway",
        (
            Step(
                "change",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1", revision="b")]),
                lambda p: len(p.names(PVC)) == 2 and p.entry("v1").get("phase") == "Processing",
            ),
            Step(
                "change back",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1", revision="a")]),
                lambda p: p.names(PVC) == ["mdl-m-v1"] and p.reason(MODEL, "m", "Ready") == "Ready",
            ),
        ),
        given=(_make_model(make_version("v1", revision="a")),),
        script=_first_fetched,
    ),
    Scenario(
        "datasets come and go",
        (
            Step("install", lambda p: p.serve_datasets(), lambda p: p.watches("datasets")),
            Step(
                "make another",
                lambda p: p.create(MODEL, make_model("n")),
                lambda p: p.names(DATASET) == ["mdl-n-v1"] and p.entry("v1", "n").get("reason") == "Downloading",
            ),
            Step(
                "remove",
                lambda p: p.withdraw_datasets(),
                lambda p: p.reason(MODEL, "n", "Ready") == "Ready" and not p.watches("datasets"),
            ),
        ),
        given=(_make_model(),),
        datasets=True,
    ),
    Scenario(
        "version removed",
        (
            Step(
                "remove",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1")]),
                lambda p: p.names(PVC) == ["mdl-m-v1"] and not p.entry("v2"),
            ),
        ),
        given=(_make_model(make_version("v1"), make_version("v2", "org/other")),),
    ),
    Scenario(
        "model deleted",
        (Step("delete", lambda p: p.delete(MODEL, "m"), lambda p: p.went(MODEL, "m") and p.has_nothing()),),
        given=(_make_model(),),
    ),
    Scenario(
        "source deleted first",
        (
            Step(
                "delete the source",
                lambda p: p.delete(MODELSOURCE, "hub"),
                lambda p: p.reason(MODELSOURCE, "hub", "Ready") == "Deleting",
            ),
            Step(
                "delete the model",
                lambda p: p.delete(MODEL, "m"),
                lambda p: p.went(MODELSOURCE, "hub") and p.has_nothing(),
            ),
        ),
        given=(_make_model(),),
    ),
    Scenario(
        "secret repaired",
        (
            Step("make", _with_secret, lambda p: p.entry("v1").get("reason") == "SourceNotReady"),
            Step(
                "make the Secret",
                lambda p: p.create(SECRET, make_secret("token", {"token": "x"})),
                lambda p: p.reason(MODEL, "m", "Ready") == "Ready",
            ),
        ),
    ),
)
