"""Who is believed, what is written, how often: asserted on the API server's objects and its audit log."""

from __future__ import annotations

import json
import signal
import ssl
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from support.agent_runs import AgentRun
from support.collector_world import Answer, Running, World
from support.collector_world import until as wait_for
from support.tls_sink import certificates

STEP = {"step": 5, "totalSteps": 20, "epoch": 0.25, "throughput": 12.5, "unit": "rows/s", "metrics": {"loss": 0.5}}
PERCENT = {"progressPercentage": 25, "estimatedRemainingSeconds": 30}


def wait(condition: Callable[[], Any]) -> Any:
    return wait_for("the awaited state", condition)


@pytest.fixture
def run(world: World) -> Running:
    return world.training()


def test_a_report_becomes_status(world: World, run: Running) -> None:
    answer = run.post(run.token(), {"seq": 1, **STEP, "trainerStatus": PERCENT})
    assert (answer.status, answer.body) == (200, {"accepted": 1})
    status = wait(lambda: (s := run.status()).get("progress") and s)
    reported = status["progress"].pop("lastReportTime")
    assert datetime.fromisoformat(status["progress"].pop("lastAdvanceTime")) <= datetime.fromisoformat(reported)
    assert status["progress"] == {
        "percent": 25,
        "step": 5,
        "totalSteps": 20,
        "epoch": 0.25,
        "etaSeconds": 30,
        "throughput": 12.5,
        "unit": "rows/s",
        "attempt": 1,
    }
    assert status["metrics"] == {"loss": 0.5}
    assert status["phase"] == "Running"
    [write] = world.status_patches(run.name)
    assert write["responseStatus"]["code"] == 200


def test_epochs_and_checkpoints_and_the_final_report(run: Running) -> None:
    token = run.token()
    rows = [{"seq": n, "step": n * 10, "epochRow": {"epoch": n, "metrics": {"acc": n / 100}}} for n in range(1, 61)]
    assert run.post(token, *rows).status == 200
    wait(lambda: len(run.status().get("epochs", ())) == 50)
    run.set_status(checkpoint={"resumedFrom": 3})
    assert run.post(token, {"seq": 61, "checkpoint": {"step": 600, "path": "checkpoints/step-00000600"}}).status == 200
    assert run.post(token, {"seq": 62, "step": 605, "final": True, "phase": "Done"}).status == 200
    status = wait(lambda: (s := run.status())["progress"]["step"] == 605 and s)
    assert [row["epoch"] for row in status["epochs"]] == list(range(11, 61))
    assert status["epochs"][-1]["step"] == 600
    assert status["checkpoint"]["lastReported"]["step"] == 600
    assert status["checkpoint"]["resumedFrom"] == 3


def test_a_resend_changes_nothing_and_writes_nothing(world: World, run: Running) -> None:
    token = run.token()
    assert run.post(token, {"seq": 2, "step": 2}, {"seq": 3, "step": 3, "final": True}).status == 200
    wait(lambda: run.status().get("progress", {}).get("step") == 3)
    before = len(world.status_patches(run.name))
    for _ in range(3):
        answer = run.post(token, {"seq": 1, "step": 1, "final": True}, {"seq": 3, "step": 99, "final": True})
        assert (answer.status, answer.body) == (200, {"accepted": 2})
    # What comes after is in the same queue, so when it is written the resends would have been.
    run.post(token, {"seq": 4, "step": 4, "final": True})
    wait(lambda: run.status()["progress"]["step"] == 4)
    assert len(world.status_patches(run.name)) == before + 1


def test_wrong_tokens(world: World, run: Running) -> None:
    other = world.training()
    assert_refused(run.post("nonsense", {"seq": 1}), 401, "Unauthenticated")
    assert_refused(world.ask("POST", run.path, None, run.batch({"seq": 1})), 401, "Unauthenticated")
    assert_refused(run.post(world.token("https://kubernetes.default.svc", run.pod), {"seq": 1}), 401, "Unauthenticated")
    assert_refused(run.post(other.token(), {"seq": 1}), 401, "Unauthenticated")
    assert_refused(run.post(world.token(run.audience, other.pod), {"seq": 1}), 403, "PodNotAllowed")
    assert_refused(run.post(world.token(run.audience), {"seq": 1}), 403, "PodNotAllowed")
    elsewhere = world.token(run.audience, namespace="team-b")
    assert_refused(run.post(elsewhere, {"seq": 1}), 403, "PodNotAllowed")
    assert "progress" not in run.status()


def test_an_old_attempt_is_refused(world: World, run: Running) -> None:
    old_token, old_pod = run.token(), run.pod
    assert run.post(old_token, {"seq": 1, "step": 7}).status == 200
    wait(lambda: run.status().get("progress"))
    run.attempt(2)
    token = run.token()
    assert run.post(token, {"seq": 1, "step": 3}).status == 200
    wait(lambda: run.status()["progress"]["attempt"] == 2)
    assert run.status()["progress"]["step"] == 3
    late = run.batch({"seq": 2, "step": 8, "final": True}, attempt=1)
    assert_refused(world.ask("POST", run.path, old_token, {**late, "pod": old_pod}), 409, "OldAttempt")
    assert_refused(run.post(token, {"seq": 2, "step": 8}, attempt=1), 409, "OldAttempt")
    assert run.status()["progress"]["step"] == 3


def one_that_waits(world: World) -> tuple[Running, str]:
    """A run whose second report waits for its turn, with the token of its pod. The collector is stopped meanwhile."""
    for _ in range(5):
        run = world.training()
        token = run.token()
        run.post(token, {"seq": 1, "step": 1})
        wait(lambda run=run: run.status().get("progress"))
        run.post(token, {"seq": 2, "step": 2})
        assert world.process is not None
        world.process.send_signal(signal.SIGSTOP)
        if run.status()["progress"]["step"] == 1:
            return run, token
        world.process.send_signal(signal.SIGCONT)
    raise AssertionError("each of five second reports was written before the collector could be stopped")


def goes_on(world: World) -> None:
    """The collector does."""
    assert world.process is not None
    world.process.send_signal(signal.SIGCONT)


def test_a_report_that_waits_for_its_turn_is_not_written_to_a_newer_attempt(world: World) -> None:
    run, _ = one_that_waits(world)
    run.attempt(2)
    goes_on(world)
    wait(lambda: any(p["responseStatus"]["code"] == 422 for p in world.status_patches(run.name)))
    assert run.status()["progress"]["step"] == 1


def test_a_deleted_pod_is_not_believed(world: World, run: Running) -> None:
    token = run.token()
    world.core.delete_namespaced_pod(run.pod, "team-a", grace_period_seconds=0)
    world.kubectl("-n", "team-a", "wait", "--for=delete", f"pod/{run.pod}", "--timeout=180s")
    assert_refused(run.post(token, {"seq": 1}), 401, "Unauthenticated")


def test_a_training_made_again_gets_nothing_of_the_first(world: World) -> None:
    run, token = one_that_waits(world)
    first_uid = run.uid
    placement = run.status()["placement"]
    world.kubectl("-n", "team-a", "delete", "training", run.name)
    run.create()
    run.set_status(attempts={"number": 1}, placement=placement)
    goes_on(world)
    wait(lambda: any(p["responseStatus"]["code"] in (404, 422) for p in world.status_patches(run.name)))
    assert "progress" not in run.status()
    answer = wait(lambda: (a := run.post(token, {"seq": 3, "step": 3}, uid=first_uid)).status == 409 and a)
    assert_refused(answer, 409, "TrainingReplaced")
    assert "progress" not in run.status()


def test_bodies_are_bounded_and_never_repeated(world: World, run: Running) -> None:
    token = run.token()
    bad: list[tuple[Any, int, str]] = [
        (b"{canary", 422, "BadBody"),
        ({"uid": run.uid, "attempt": 1, "reports": []}, 422, "BadBody"),
        (run.batch({"seq": 0, "phase": "canary"}), 422, "BadBody"),
        (run.batch({"seq": 1, "metrics": {"canary": "x"}}), 422, "BadBody"),
        (run.batch({"seq": 1, "metrics": {f"canary{n}": 1 for n in range(65)}}), 422, "BadBody"),
        (b" " * (256 * 1024 + 1), 413, "TooLarge"),
    ]
    for body, status, code in bad:
        answer = world.ask("POST", run.path, token, body)
        assert_refused(answer, status, code)
        assert "canary" not in json.dumps(answer.body)
    assert_refused(world.ask("GET", run.path, token), 405, "MethodNotAllowed")
    assert_refused(world.ask("GET", "/v1/nothing", token), 404, "NotFound")


def test_one_pod_cannot_ask_without_end(world: World, run: Running) -> None:
    token = run.token()
    body = json.dumps(run.batch({"seq": 1, "step": 1}))
    context = ssl.create_default_context(cadata=world.tls.ca_pem)
    # One connection for all: a new one for each may take longer than what it asks for.
    connection = HTTPSConnection("127.0.0.1", world.port, timeout=60, context=context)
    for _ in range(5000):
        connection.request("POST", run.path, body, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        answer = Answer(response.status, json.loads(response.read()), dict(response.headers))
        if answer.status != 200:
            break
    connection.close()
    assert_refused(answer, 429, "TooManyRequests")
    assert answer.headers["Retry-After"] == "1"


def test_writes_are_bounded_over_all_and_for_each(world: World) -> None:
    runs = [world.training() for _ in range(12)]
    tokens = [run.token() for run in runs]
    before = len(world.status_patches())

    def send(run: Running, token: str) -> None:
        for seq in range(1, 16):
            run.post(token, {"seq": seq, "step": seq, "metrics": {"loss": seq}})

    senders = [threading.Thread(target=send, args=pair) for pair in zip(runs, tokens, strict=True)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    for run in runs:
        wait(partial(_reached, run, 15))
    writes = world.status_patches()[before:]
    assert {w["responseStatus"]["code"] for w in writes} == {200}
    assert_bounded(writes, at_once=11, seconds_each=0.1)
    for run in runs:
        assert_bounded([w for w in writes if w["objectRef"]["name"] == run.name], at_once=1, seconds_each=5)


def assert_bounded(writes: list[Any], at_once: int, seconds_each: float) -> None:
    """On a busy machine a request takes a while to arrive: two may come closer together than they were sent."""
    times = sorted(datetime.fromisoformat(w["requestReceivedTimestamp"]) for w in writes)
    seconds = (times[-1] - times[0]).total_seconds() + 10
    assert len(times) <= at_once + seconds / seconds_each, times


def test_an_agent_reports_for_a_real_program(world: World, run: Running, tmp_path: Path) -> None:
    run.attempt(2)
    (tmp_path / "projected").write_text(run.token())
    agent = AgentRun(
        tmp_path,
        {
            "MODELYARD_NAMESPACE": "team-a",
            "MODELYARD_TRAINING": run.name,
            "MODELYARD_TRAINING_UID": run.uid,
            "MODELYARD_COLLECTOR_URL": f"https://127.0.0.1:{world.port}",
            "MODELYARD_CA_PEM": world.tls.ca_pem,
            "MODELYARD_TOKEN_FILE": str(tmp_path / "projected"),
        },
    )
    ended = agent.run("""
for step in range(1, 21):
    post(step=step, totalSteps=20, epoch=step / 10, totalEpochs=2, unit="rows/s", throughput=3.5, phase="Training",
         metrics={"loss": 1 / step})
    if step % 10 == 0:
        post(epochRow={"epoch": step // 10, "metrics": {"accuracy": step / 20}},
             checkpoint={"step": step, "path": "checkpoints/step-%08d" % step})
post(done=True, result={"path": "model", "kind": "Tabular", "metrics": {"accuracy": 1.0}})
""")
    assert ended.code == 0, ended.stderr
    status = wait(lambda: (s := run.status()).get("progress", {}).get("percent") == 100 and s)
    assert status["progress"]["step"] == 20
    assert status["progress"]["attempt"] == 2
    assert [(row["epoch"], row["step"], row["metrics"]["accuracy"]) for row in status["epochs"]] == [
        (1, 10, 0.5),
        (2, 20, 1.0),
    ]
    assert status["checkpoint"]["lastReported"]["path"] == "checkpoints/step-00000020"
    assert status["metrics"]["loss"] == 0.05
    assert "collector" not in ended.stderr


def test_downloads(world: World) -> None:
    name = "llama"
    labels = {"app.kubernetes.io/component": "download", "modelyard.dev/model": name}
    _, pod = world.job("fetch-llama-v1-1", labels)
    audience, path = f"modelyard.dev/model/team-a/{name}", f"/v1/namespaces/team-a/models/{name}/downloads"
    token = world.token(audience, pod)
    body = {"version": "v1", "volume": "mdl-llama-v1", "bytes": 10, "totalBytes": 40, "bytesPerSecond": 2.5, "seq": 2}
    assert world.ask("POST", path, token, body).body == {"accepted": 1}
    assert world.ask("POST", path, token, {**body, "bytes": 5, "seq": 1}).body == {"accepted": 0}
    operator = world.token("modelyard.dev/collector", namespace="modelyard-system", account="modelyard-operator")
    answer = world.ask("GET", "/v1/downloads", operator)
    assert answer.status == 200
    [row] = [row for row in answer.body["downloads"] if row["name"] == name]
    assert datetime.fromisoformat(row.pop("reportedAt"))
    del body["seq"]
    assert row == {"namespace": "team-a", "kind": "Model", "name": name, "pod": pod, **body}
    assert_refused(world.ask("GET", "/v1/downloads", token), 401, "Unauthenticated")
    stranger = world.token("modelyard.dev/collector")
    assert_refused(world.ask("GET", "/v1/downloads", stranger), 403, "NotTheOperator")
    trainer = world.training()
    assert_refused(world.ask("POST", path, world.token(audience, trainer.pod), body), 403, "PodNotAllowed")
    assert_refused(world.ask("POST", path, token, b"x" * 70_000), 413, "TooLarge")


def test_downloads_of_datasets(world: World) -> None:
    _, pod = world.job("dataset-mdl-qwen-v1-round-2", {"app.kubernetes.io/component": "download"})
    path = "/v1/namespaces/team-a/datasets/{}/downloads"
    token = world.token("modelyard.dev/datasets", pod)
    body = {"volume": "mdl-other-v1", "bytes": 1, "totalBytes": 4, "bytesPerSecond": 1, "etaSeconds": 3, "seq": 1}
    assert world.ask("POST", path.format("mdl-qwen-v1"), token, body).body == {"accepted": 1}
    assert_refused(world.ask("POST", path.format("mdl-other-v1"), token, body), 403, "PodNotAllowed")
    operator = world.token("modelyard.dev/collector", namespace="modelyard-system", account="modelyard-operator")
    rows = world.ask("GET", "/v1/downloads", operator).body["downloads"]
    assert [(row["volume"], row["etaSeconds"]) for row in rows if row["pod"] == pod] == [("mdl-qwen-v1", 3)]
    _, other = world.job("dataset-of-mine", {"app.kubernetes.io/component": "download"})
    token = world.token("modelyard.dev/datasets", other)
    assert_refused(world.ask("POST", path.format("dataset-of-mine"), token, body), 403, "PodNotAllowed")


def test_downloads_of_data_that_trainings_share(world: World, run: Running) -> None:
    _, pod = world.job(f"fetch-data-{run.name}-1", {"app.kubernetes.io/component": "download"})
    path = f"/v1/namespaces/team-a/trainings/{run.name}/downloads"
    body = {"version": "dataset", "volume": f"data-{run.name}", "bytes": 1, "totalBytes": None, "seq": 1}
    assert world.ask("POST", path, world.token(run.audience, pod), body).body == {"accepted": 1}
    assert_refused(world.ask("POST", path, run.token(), body), 403, "PodNotAllowed")
    operator = world.token("modelyard.dev/collector", namespace="modelyard-system", account="modelyard-operator")
    rows = world.ask("GET", "/v1/downloads", operator).body["downloads"]
    assert [(row["kind"], row["bytes"]) for row in rows if row["name"] == run.name] == [("Training", 1)]


def test_a_restart_goes_on_and_writes_what_it_had(world: World, run: Running) -> None:
    token = run.token()
    run.post(token, {"seq": 1, "step": 1, "metrics": {"lr": 0.1}, "epochRow": {"epoch": 1, "metrics": {"acc": 0.1}}})
    wait(lambda: run.status().get("epochs"))
    run.post(token, {"seq": 2, "step": 2})
    assert world.stop() == 0
    assert run.status()["progress"]["step"] == 2
    world.start()
    run.post(token, {"seq": 3, "step": 3, "metrics": {"loss": 1}, "epochRow": {"epoch": 2, "metrics": {"acc": 0.2}}})
    status = wait(lambda: (s := run.status())["progress"]["step"] == 3 and s)
    assert status["metrics"] == {"lr": 0.1, "loss": 1}
    assert [row["epoch"] for row in status["epochs"]] == [1, 2]


def test_a_new_certificate_is_served_without_a_restart(world: World, run: Running) -> None:
    world.tls = certificates(world.tls.cert.parent)

    def accepted() -> bool:
        try:
            return bool(run.post(token, {"seq": 1, "step": 1}).status == 200)
        except OSError:
            return False

    token = run.token()
    wait(accepted)


def test_metrics_and_no_token_in_any_log(world: World, run: Running) -> None:
    assert run.post(run.token(), {"seq": 1, "step": 1}).status == 200
    status, metrics = world.plain("/metrics")
    assert status == 200
    for name in ("requests_total", "reports_total", "token_reviews_total", "status_writes_total"):
        assert f"modelyard_collector_{name}" in metrics
    assert world.plain("/healthz")[0] == 200
    text = metrics + "".join(log.read_text() for log in world.logs)
    assert len(world.tokens) > 10
    assert not [token for token in world.tokens if token in text or token.split(".")[2] in text]
    assert "Traceback" not in text


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.body.get("code")) == (status, code)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.body["status"] == status


def _reached(run: Running, step: int) -> bool:
    return bool(run.status().get("progress", {}).get("step") == step)
