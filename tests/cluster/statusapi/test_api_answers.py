"""Answers over HTTP, and refusals; the description under schemathesis; a planted secret that never shows."""

from __future__ import annotations

import base64
import random
import string
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from modelyard.resources import meta
from modelyard.resources.meta import MODEL, MODELSOURCE, TRAINING
from support.cluster import Kube, wait_for
from support.statusapi import SPECS, ApiProcess, Caller, make

RUNNING = {
    "phase": "Running",
    "reason": "Training",
    "message": "The run is in progress.",
    "observedGeneration": 1,
    "runningSince": "2026-11-21T01:00:00Z",
    "progress": {
        "percent": 40,
        "step": 400,
        "totalSteps": 1000,
        "etaSeconds": 60,
        "lastReportTime": "2026-11-21T01:31:00Z",
    },
    "metrics": {"loss": 0.5},
    "epochs": [
        {"epoch": 1, "step": 200, "metrics": {"loss": 0.9}},
        {"epoch": 2, "step": 400, "metrics": {"loss": 0.5}},
    ],
    "attempts": {"number": 2, "infrastructure": 1, "error": 0},
    "history": [{"attempt": 1, "cause": "Infrastructure", "reason": "NodeLost", "exitCode": 137}],
    "cost": {"gpuSeconds": 7200, "estimatedUSD": "5.00", "asOf": "2026-11-21T01:31:00Z"},
    "placement": {"job": "one-2", "gpuType": "H200", "gpus": 1},
}
EXAMPLES = 6
CANARY = "hf_canary_8f1d0c"
PLURALS = ["models", "modelsources", "trainings", "datasets", "pods"]


@pytest.fixture
def caller(api: ApiProcess, admin_token: str) -> Caller:
    return api.caller(admin_token)


def test_pages_survive_what_comes_and_goes(kube: Kube, caller: Caller, namespace: str) -> None:
    for number in range(25):
        make(kube, MODEL, namespace, f"m{number:02}", SPECS["models"], labels={"parity": str(number % 2)})
    where = {"namespace": namespace, "limit": 10}
    wait_for(lambda: caller.json("/models", **where)["total"] == 25, "the objects")
    first = caller.json("/models", **where)
    kube.delete(MODEL, namespace, "m03")
    kube.delete(MODEL, namespace, "m12")
    make(kube, MODEL, namespace, "m09b", SPECS["models"])
    wait_for(lambda: caller.json("/models", namespace=namespace, q="m09b")["total"] == 1, "the change")
    wait_for(lambda: caller.json("/models", **where)["total"] == 24, "the deletions")
    second = caller.json("/models", **where, cursor=first["nextCursor"])
    third = caller.json("/models", **where, cursor=second["nextCursor"])
    names = [row["name"] for page in (first, second, third) for row in page["items"]]
    assert names == sorted(names)
    assert set(names) == {f"m{n:02}" for n in range(25)} - {"m12"} | {"m09b"}
    assert "nextCursor" not in third
    odd = caller.json(
        "/models", namespace=namespace, labelSelector="parity=1", sort="-name", fields="name,labels.parity"
    )
    assert [row["name"] for row in odd["items"]] == sorted((r["name"] for r in odd["items"]), reverse=True)
    assert all(row == {"name": row["name"], "labels": {"parity": "1"}} for row in odd["items"])
    assert caller.get("/models", sort="name", cursor=first["nextCursor"]).json()["code"] == "InvalidRequest"


def test_entity_tags_gzip_head_and_headers(caller: Caller, filled: str) -> None:
    wait_for(lambda: caller.json("/models", namespace=filled)["total"] == 1, "the object")
    answer = caller.get("/models", namespace=filled)
    again = caller.http.get("/models", params={"namespace": filled}, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert answer.headers["ETag"].startswith('W/"')
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "Authorization" in answer.headers["Vary"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Modelyard-Observed-At"]
    packed = caller.http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    head = caller.http.head("/models", params={"namespace": filled})
    assert (head.status_code, head.content) == (200, b"")
    preflight = caller.http.options(
        "/models", headers={"Origin": "https://evil", "Access-Control-Request-Method": "GET"}
    )
    assert "Access-Control-Allow-Origin" not in preflight.headers
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        refused = caller.http.request(method, "/models")
        assert (refused.status_code, refused.json()["code"]) == (405, "MethodNotAllowed")


def test_a_training_in_all_its_parts(kube: Kube, caller: Caller, namespace: str) -> None:
    make(kube, TRAINING, namespace, "one", SPECS["trainings"], RUNNING)
    base = f"/namespaces/{namespace}/trainings/one"
    wait_for(lambda: caller.get(base).status_code == 200, "the object")
    wait_for(lambda: caller.json(base)["status"].get("phase") == "Running", "its status")
    row = caller.json("/trainings", namespace=namespace)["items"][0]
    assert (row["percent"], row["metrics"], row["costUSD"], row["severity"]) == (40, {"loss": 0.5}, "5.00", "busy")
    assert [p["value"] for p in caller.json(f"{base}/metrics")["epochs"]["loss"]] == [0.9, 0.5]
    step = {"progress": {"step": 500}, "metrics": {"loss": 0.4}}
    kube.merge(TRAINING, namespace, "one", {"status": step}, "status")
    wait_for(lambda: caller.json(f"{base}/metrics")["latest"] == {"loss": 0.4}, "the report")
    assert len(caller.json(f"{base}/epochs")["items"]) == 2
    attempts = caller.json(f"{base}/attempts")["items"]
    assert [(a["attempt"], a["current"]) for a in attempts] == [(2, True), (1, False)]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "one.1", "namespace": namespace},
        "involvedObject": {"uid": row["uid"], "namespace": namespace, "kind": "Training", "name": "one"},
        "reason": "Started",
        "message": "It began.",
        "type": "Normal",
    }
    kube.request("POST", f"/api/v1/namespaces/{namespace}/events", event)
    assert caller.json(f"{base}/events")["items"][0]["reason"] == "Started"
    totals = caller.json("/statistics", namespace=namespace)
    assert totals["spending"] == {"gpuHours": 2.0, "costUSD": "5.00", "withoutPrice": 0}
    assert totals["trainings"] == {"total": 1, "byPhase": {"Running": 1}}
    assert caller.json("/errors", namespace=namespace)["items"][0]["reason"] == "NoReports"


def test_an_export_can_be_applied_as_it_is(kube: Kube, caller: Caller, namespace: str) -> None:
    note = {"example.com/mine": "kept", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    made = make(kube, MODEL, namespace, "one", SPECS["models"], annotations=note)
    path = f"/namespaces/{namespace}/models/one/export"
    wait_for(lambda: caller.get(path).status_code == 200, "the object")
    content = yaml.safe_load(caller.get(path).text)
    assert content["metadata"] == {
        "name": "one",
        "namespace": namespace,
        "annotations": {"example.com/mine": "kept"},
    }
    kube.delete(MODEL, namespace, "one")
    assert kube.create(content, MODEL)["spec"] == made["spec"]

    def exported() -> bool:
        answer = caller.get(path, format="json")
        return bool(answer.status_code == 200 and answer.json()["spec"] == made["spec"])

    wait_for(exported, "the new one")


def test_secrets_are_judged_without_being_read(kube: Kube, caller: Caller, namespace: str) -> None:
    found = {"type": "CredentialsReady", "status": "False", "reason": "SecretNotFound", "message": "create it"}
    condition = {**found, "lastTransitionTime": "2026-11-21T01:31:00Z"}
    make(kube, MODELSOURCE, namespace, "hub", SPECS["modelsources"], {"conditions": [condition]})
    wait_for(lambda: caller.json("/modelsources", namespace=namespace)["total"] == 1, "the object")

    def check(**body: Any) -> Any:
        answer = caller.http.post("/secrets/validate", json={"namespace": namespace, **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    wait_for(lambda: check(type="HUGGING_FACE", secretRef="hub").get("valid") is False, "what the operator found")
    assert check(type="HUGGING_FACE", secretRef="hub")["found"][0]["reason"] == "SecretNotFound"
    assert check(type="S3", secretRef="new", config={"region": "eu"}, keys=["access-key"])["missingKeys"] == [
        "secret-key"
    ]
    assert check(type="HUGGING_FACE", secretRef="new", keys=["token"])["valid"] is True
    assert "valid" not in check(type="HUGGING_FACE", secretRef="new")
    assert check(type="PVC", secretRef="new", config={"pvcName": "x"})["valid"] is False
    wrong = caller.http.post("/secrets/validate", json={"namespace": namespace, "type": "S3", "token": CANARY})
    assert wrong.status_code == 422
    assert CANARY not in wrong.text


def test_fuzzed_requests_are_refused_and_never_break_it(api: ApiProcess, caller: Caller) -> None:
    chance = random.Random(7)
    letters = string.printable + "é٣\u202e\x00"

    def junk(most: int = 60) -> str:
        return "".join(chance.choice(letters) for _ in range(chance.randrange(most)))

    def odd_id() -> str:
        return "".join(chance.choice("0123456789abcdef:- ") for _ in range(chance.randrange(1, 40))).strip() or "0"

    for _ in range(150):
        name = chance.choice(
            ["cursor", "sort", "fields", "facets", "labelSelector", "limit", "q", "phase", "namespace"]
        )
        answer = caller.get("/trainings", **{name: junk()})
        assert answer.status_code in (200, 400, 403, 422), (name, answer.status_code)
    for _ in range(40):
        name = chance.choice(["kind", "namespace", "name"])
        with caller.http.stream("GET", "/events", params={name: junk()}, headers={"Last-Event-ID": odd_id()}) as answer:
            assert answer.status_code in (200, 403, 422), (name, answer.status_code)
    for value in ([1, "x", None, "a", "b"], [1], "x", [2, "", 1, "", ""], [1, "", {}, "", ""], {"a": 1}):
        raw = base64.urlsafe_b64encode(yaml.safe_dump(value).encode()).decode()
        assert caller.get("/models", cursor=raw).status_code == 400
    for body in (b"", b"{", b"[]", b"\xff", b'{"namespace":1}', b"[" * 30000):
        answer = caller.http.post("/secrets/validate", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), body[:9]
    too_much = caller.http.post("/secrets/validate", content=b"x" * 70_000)
    assert too_much.status_code == 413
    for path in ("/namespaces/../models/x", "/namespaces/a%2fb/models/x", "/namespaces/a/models/%00", "//", "/%ff"):
        assert caller.get(path).status_code in (401, 404, 422)
    headers = ["If-None-Match", "Last-Event-ID", "Accept", "Accept-Encoding", "Range", "Origin", "X-Forwarded-For"]
    for _ in range(60):
        sent = {chance.choice(headers): "".join(chance.choice(string.printable[:95]) for _ in range(40))}
        assert caller.http.get("/models", headers=sent).status_code in (200, 304), sent
    for header in ("Bearer", "Basic eDp5", "Bearer " + "x" * 20_000, "bearer x y z"):
        assert caller.http.get("/models", headers={"Authorization": header}).status_code == 401
    assert caller.json("/status")["synced"]
    assert "InternalError" not in api.log


def test_the_description_holds(api: ApiProcess, caller: Caller, admin_token: str, filled: str) -> None:
    """schemathesis: no 5xx, and no answer that the description does not name."""
    schema = schemathesis.openapi.from_dict(caller.json("/openapi.json"))
    schema.config.update(base_url=api.url)
    assert schema.raw_schema["openapi"].startswith("3.1")
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

    tried = 0
    for result in schema.exclude(operation_id="follow").get_all_operations():
        run = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        operation = result.ok()  # type: ignore[union-attr]

        def one(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {admin_token}"}, checks=checks, timeout=30)

        run(given(case=operation.as_strategy())(one))()
        tried += 1
    assert tried >= 20


def test_a_planted_secret_never_shows(
    api: ApiProcess, kube: Kube, caller: Caller, admin_token: str, namespace: str
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub", "namespace": namespace},
        "stringData": {"token": CANARY},
    }
    kube.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    applied = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"x":"{CANARY}"}}'}
    for kind in (MODEL, MODELSOURCE, TRAINING):
        make(kube, kind, namespace, "one", SPECS[kind.plural], annotations=applied)
    labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY}
    secret_env = [{"name": "trainer", "image": "x", "env": [{"name": "A", "value": CANARY}]}]
    make(kube, meta.POD, namespace, "one", {**SPECS["pods"], "containers": secret_env}, labels=labels)
    loaded = {"type": "GIT", "uri": f"https://jane:{CANARY}@git.example.com/x.git?token={CANARY}"}
    loaded["options"] = {"token": CANARY}  # type: ignore[assignment]
    make(kube, meta.DATASET, namespace, "one", {"source": loaded}, annotations=applied)
    for plural in PLURALS:
        wait_for(lambda p=plural: caller.json(f"/{p}", namespace=namespace)["total"] == 1, plural)  # type: ignore[misc]
    assert caller.json("/datasets", namespace=namespace)["items"][0]["uri"] == "https://git.example.com/x.git"
    texts = []
    asked = set()
    for path in caller.json("/openapi.json")["paths"]:
        at = path.removeprefix("/api/v1").replace("{namespace}", namespace).replace("{name}", "one")
        asked.add(at)
        if at in ("/events", "/secrets/validate"):
            continue
        for plural in PLURALS if "{plural}" in at else ("",):
            answer = caller.get(at.replace("{plural}", plural))
            assert answer.status_code == (404 if at.endswith("/logs") else 200), at
            texts += [answer.text, str(answer.headers)]
    assert len(asked) >= 22
    body = {"namespace": namespace, "type": "HUGGING_FACE", "secretRef": "hub"}
    texts.append(caller.http.post("/secrets/validate", json=body).text)
    with caller.http.stream("GET", "/events", params={"namespace": namespace, "kind": PLURALS}) as stream:
        for line in stream.iter_lines():
            texts.append(line)
            if line == "event: synced":
                break
    texts += [api.log, api.probe("/metrics")[1]]
    everything = "\n".join(texts)
    assert all(f'"kind":"{kind}"' in everything for kind in ("Model", "ModelSource", "Training", "Dataset", "Pod"))
    assert CANARY not in everything
    assert base64.b64encode(CANARY.encode()).decode() not in everything
    assert admin_token not in everything
