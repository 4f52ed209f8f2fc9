"""The plugin by both ways, the status API with a token and the cluster with a certificate: they answer alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from localcluster import ControlPlane
from localcluster.tools import build_tools
from modelyard.kubectl.login import login
from modelyard.kubectl.remote import Remote
from modelyard.kubectl.source import Scope
from modelyard.resources import meta
from modelyard.resources.meta import TRAINING
from support.cluster import Kube, wait_for
from support.kubelet_logs import LoggingNode, logging_node
from support.statusapi import ROOT, SPECS, ApiProcess, grant, make, rule

RUNNING = {
    "phase": "Running",
    "observedGeneration": 1,
    "progress": {"percent": 40, "step": 400, "totalSteps": 1000, "etaSeconds": 3700},
    "metrics": {"loss": 0.5},
    "epochs": [{"epoch": n, "step": 100 * n, "metrics": {"loss": 1 / n}} for n in range(1, 5)],
    "cost": {"gpuSeconds": 7200, "estimatedUSD": "5.00", "asOf": "2026-11-21T01:31:00Z"},
}


@dataclass
class Plugin:
    """The program with one way to log in."""

    kubeconfig: Path
    api: str
    folder: Path

    def environment(self) -> dict[str, str]:
        python_path = f"{ROOT}/operator:{ROOT}/training"
        more = {"KUBECONFIG": str(self.kubeconfig), "MODELYARD_API": self.api, "PYTHONPATH": python_path}
        return {**os.environ, **more, "PATH": f"{self.folder}:{os.environ['PATH']}"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modelyard.cli", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment(), timeout=180)

    def out(self, *words: str) -> str:
        found = self.run(*words)
        assert found.returncode == 0, found.stderr
        return found.stdout


@pytest.fixture(params=["api", "cluster"])
def plugin(
    request: pytest.FixtureRequest,
    control_plane: ControlPlane,
    api: ApiProcess,
    admin_token: str,
    kube: Kube,
    tmp_path: Path,
) -> Plugin:
    program = tmp_path / "kubectl-modelyard"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m modelyard.kubectl.main "$@"\n')
    program.chmod(0o755)
    if request.param == "cluster":
        return Plugin(control_plane.client_kubeconfig("jane", ["system:masters"]), api.url, tmp_path)
    content = yaml.safe_load(control_plane.kubeconfig.read_text())
    for user in content["users"]:
        user["user"] = {"token": admin_token}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return Plugin(path, api.url, tmp_path)


def test_tables_json_yaml_and_totals(
    plugin: Plugin, kube: Kube, api: ApiProcess, admin_token: str, namespace: str
) -> None:
    make(kube, TRAINING, namespace, "one", SPECS["trainings"], RUNNING)
    seen = api.caller(admin_token)
    wait_for(lambda: [r["phase"] for r in seen.json("/trainings", namespace=namespace)["items"]] == ["Running"], "it")
    lines = plugin.out("get", "trn", "-n", namespace).splitlines()
    assert lines[0].split() == [
        "NAME",
        "PHASE",
        "PROGRESS",
        "STEP",
        "LOSS",
        "ETA",
        "GPU",
        "TRY",
        "COST",
        "REASON",
        "AGE",
    ]
    assert lines[1].split()[:6] == ["one", "Running", "40%", "400/1000", "0.5", "1h1m"]
    rows = json.loads(plugin.out("get", "trainings", "-n", namespace, "-o", "json"))["items"]
    assert rows == seen.json("/trainings", namespace=namespace)["items"]
    detail = json.loads(plugin.out("get", "trainings/one", "-n", namespace, "-o", "json"))
    assert detail == seen.json(f"/namespaces/{namespace}/trainings/one")
    text = plugin.out("get", "trainings", "one", "-n", namespace, "-o", "yaml")
    assert text == seen.get(f"/namespaces/{namespace}/trainings/one/export").text
    assert plugin.out("get", "trainings", "-n", namespace, "-o", "name") == "trainings/one\n"
    assert "GPU hours 2.00   cost $5.00" in plugin.out("top", "-n", namespace)
    totals = json.loads(plugin.out("get", "statistics", "-n", namespace, "-o", "json"))
    assert totals == seen.json("/statistics", namespace=namespace)
    assert "No errors found" in plugin.out("get", "errors", "-n", namespace)
    missing = plugin.run("get", "training", "none", "-n", namespace)
    assert (missing.returncode, missing.stderr) == (
        1,
        f"kubectl modelyard: There is no Training none in namespace {namespace}.\n",
    )
    assert "no pod of that" in plugin.run("logs", "one", "-n", namespace).stderr
    assert plugin.run("get").returncode == 2
    for words, said in (
        (("get", "nonsense"), "choose out of models, modelsources"),
        (("get", "pods", "one", "-o", "yaml"), "of models, modelsources, trainings"),
        (("logs", "one", "--tail", "0"), "from 1 to 2000"),
        (("get", "trainings", "-l", "a=(("), "selector"),
    ):
        refused = plugin.run(*words, "-n", namespace)
        assert refused.returncode in (1, 2)
        assert said.lower() in refused.stderr.lower(), refused.stderr
        assert "Traceback" not in refused.stderr


def test_what_needs_a_person_and_what_it_cost_as_text(
    plugin: Plugin, kube: Kube, api: ApiProcess, admin_token: str, namespace: str
) -> None:
    missing = {"type": "Ready", "status": "False", "reason": "SecretNotFound", "message": "There is no Secret 'hub'."}
    at = {"lastTransitionTime": "2026-11-21T01:31:00Z"}
    make(kube, meta.MODELSOURCE, namespace, "hub", SPECS["modelsources"], {"conditions": [{**missing, **at}]})
    pull = {"name": "trainer", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    pull["state"] = {"waiting": {"reason": "ErrImagePull"}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one-1", "labels": pod_labels(1)}}
    body["metadata"]["namespace"] = namespace  # type: ignore[index]
    spec = {"containers": [{"name": "trainer", "image": "x"}], "schedulerName": "none"}
    kube.create({**body, "spec": spec}, meta.POD)
    kube.merge(meta.POD, namespace, "one-1", {"status": {"containerStatuses": [pull]}}, "status")
    base = {"model": {"ref": {"name": "minilm", "version": "v1"}}}
    make(kube, TRAINING, namespace, "one", {**SPECS["trainings"], **base}, RUNNING)
    seen = api.caller(admin_token)
    wait_for(lambda: len(seen.json("/errors", namespace=namespace)["items"]) == 2, "both troubles")
    wait_for(lambda: seen.json("/statistics", namespace=namespace)["byModel"], "the training")
    shown = plugin.out("get", "errors", "-n", namespace)
    assert shown.startswith(f"ERROR   {namespace}   modelsource/hub   SecretNotFound   since ")
    assert "\n  There is no Secret 'hub'.\n  → Create the Secret, or correct spec.secretRef.\n" in shown
    assert f"WARNING   {namespace}   pod/one-1   ImagePullFailed" in shown
    listed = json.loads(plugin.out("get", "errors", "-n", namespace, "-o", "json"))["items"]
    assert listed == seen.json("/errors", namespace=namespace)["items"]
    totals = plugin.out("get", "statistics", "-n", namespace).splitlines()
    assert totals[-2].split() == ["NAMESPACE", "MODEL", "TRAININGS", "GPU", "HOURS", "COST"]
    assert totals[-1].split() == [namespace, "minilm", "1", "2.00", "$5.00"]


def test_a_program_that_makes_tokens_is_asked_again_when_one_expires(
    control_plane: ControlPlane, api: ApiProcess, admin_token: str, filled: str, tmp_path: Path
) -> None:
    """As cloud providers have it: a watch outlives the token that it began with."""
    made = tmp_path / "made"
    program = tmp_path / "make-token"
    expires = "$(date -u -d '+1 second' +%Y-%m-%dT%H:%M:%SZ)"
    status = f'{{"token": "{admin_token}", "expirationTimestamp": "{expires}"}}'
    kind = '"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"'
    answer = f'{{{kind}, "status": {status}}}'.replace('"', '\\"')
    program.write_text(f'#!/bin/sh\necho made >> {made}\necho "{answer}"\n')
    program.chmod(0o755)
    content = yaml.safe_load(control_plane.kubeconfig.read_text())
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "interactiveMode": "Never"}
    for user in content["users"]:
        user["user"] = {"exec": run}
    kubeconfig = tmp_path / "exec.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(content))
    found = login(str(kubeconfig), None)
    assert found.token is not None
    source = Remote(api.url, found.token)
    for _ in range(2):
        wait_for(lambda: len(source.rows("models", Scope(filled))) == 1, "the object")
        time.sleep(2.1)
    assert len(made.read_text().split()) >= 2


def test_a_live_view_until_the_run_is_over(plugin: Plugin, kube: Kube, namespace: str) -> None:
    make(kube, TRAINING, namespace, "one", SPECS["trainings"], RUNNING)
    command = [sys.executable, "-m", "modelyard.cli", "watch", "training", "one", "-n", namespace, "--until-over"]
    environment = {**plugin.environment(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        shown: list[str] = []
        reader = threading.Thread(target=lambda: shown.extend(process.stdout))  # type: ignore[arg-type]
        reader.start()
        wait_for(lambda: "step 400/1000" in "".join(shown), "the first state")
        step = {"progress": {"percent": 50, "step": 500}, "metrics": {"loss": 0.2}}
        kube.merge(TRAINING, namespace, "one", {"status": step}, "status")
        wait_for(lambda: "step 500/1000" in "".join(shown), "the second state")
        kube.merge(TRAINING, namespace, "one", {"status": {"phase": "Succeeded"}}, "status")
        assert process.wait(180) == 0
        reader.join()
        said = "".join(shown)
    assert "50%" in said
    assert "step 500/1000" in said
    assert "Succeeded" in said
    assert any(0x2800 < ord(char) <= 0x28FF for char in said)


def test_kubectl_finds_it_and_names_complete(plugin: Plugin, kube: Kube, filled: str) -> None:
    kubectl = str(build_tools(["kubectl"])["kubectl"])
    command = [kubectl, "modelyard", "get", "models", "-n", filled, "-o", "name"]
    env = plugin.environment()

    def listed() -> bool:
        return subprocess.run(command, check=False, capture_output=True, text=True, env=env).stdout == "models/one\n"

    wait_for(listed, "the object")
    assert plugin.out("completion", "bash").startswith("_kubectl_modelyard()")
    words = [sys.executable, "-m", "modelyard.kubectl.main", "__complete", "get", ""]
    said = subprocess.run(words, check=True, capture_output=True, text=True, env=env).stdout.split()
    assert said[:3] == ["models", "modelsources", "trainings"]

    def complete(*typed: str) -> list[str]:
        command = [*words[:4], *typed]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.split()

    assert complete("get", "-n", filled, "models", "") == ["one"]
    assert complete("get", "-n", filled, "trainings/") == ["trainings/one"]
    assert complete("logs", f"--namespace={filled}", "") == ["one"]
    assert filled in complete("get", "models", "-n", "")
    assert complete("get", "models", "-o", "") == ["table", "json", "yaml", "name"]
    assert "--follow" in complete("logs", "--")


def test_who_may_see_nothing_is_told_so(
    control_plane: ControlPlane, api: ApiProcess, kube: Kube, tmp_path: Path
) -> None:
    nobody = Plugin(control_plane.client_kubeconfig("nobody"), "", tmp_path)
    refused = nobody.run("get", "models", "-n", "default")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "You may not read models" in refused.stderr
    grant(kube, "plugin-jim", {"kind": "User", "name": "jim"}, [rule(["list"], ["models"])], "default")
    jim = Plugin(control_plane.client_kubeconfig("jim"), "", tmp_path)
    words = "No models found in namespace default."
    wait_for(lambda: words in jim.run("get", "models", "-n", "default").stdout, "the right to be known")


@pytest.fixture(scope="module")
def node(control_plane: ControlPlane, kube: Kube) -> Iterator[LoggingNode]:
    with logging_node(control_plane, kube) as found:
        yield found


def pod_labels(attempt: int) -> dict[str, str]:
    return {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        meta.LABEL_COMPONENT: meta.COMPONENT_TRAINING,
        meta.LABEL_TRAINING: "one",
        meta.LABEL_ATTEMPT: str(attempt),
    }


def test_a_log_is_followed_over_attempts_until_the_end(
    plugin: Plugin, kube: Kube, node: LoggingNode, namespace: str
) -> None:
    make(kube, TRAINING, namespace, "one", SPECS["trainings"], {**RUNNING, "attempts": {"number": 1}})
    node.pod(namespace, "one-1", pod_labels(1))
    lines = node.lines[namespace, "one-1"]
    lines += [f"line {n}" for n in range(300)]
    wait_for(lambda: plugin.run("logs", "one", "-n", namespace).returncode == 0, "the pod to be seen")
    assert plugin.out("logs", "one", "-n", namespace, "--tail", "3").splitlines() == [
        "line 297",
        "line 298",
        "line 299",
    ]
    command = [sys.executable, "-m", "modelyard.cli", "logs", "one", "-f", "-n", namespace, "--tail", "10"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=plugin.environment(), **pipes) as process:  # type: ignore[call-overload]
        shown: list[str] = []
        reader = threading.Thread(target=lambda: shown.extend(line.rstrip("\n") for line in process.stdout))
        reader.start()
        wait_for(lambda: shown[-1:] == ["line 299"], "the end of the log")
        # The same text again, within the same second too.
        lines += ["line 299", "line 299", "line 300"]
        wait_for(lambda: shown[-1:] == ["line 300"], "new lines")
        node.broken = True
        lines += ["in between"]
        time.sleep(2)
        node.broken = False
        wait_for(lambda: shown[-1:] == ["in between"], "what was written meanwhile")
        node.pod(namespace, "one-2", pod_labels(2))
        node.lines[namespace, "one-2"] += ["again"]
        kube.merge(TRAINING, namespace, "one", {"status": {"attempts": {"number": 2}}}, "status")
        wait_for(lambda: shown[-1:] == ["again"], "the next attempt")
        node.lines[namespace, "one-2"] += ["the end"]
        kube.merge(TRAINING, namespace, "one", {"status": {"phase": "Succeeded"}}, "status")
        assert process.wait(180) == 0
        reader.join()
        said = process.stderr.read()
    expected = [f"line {n}" for n in range(290, 300)] + [
        "line 299",
        "line 299",
        "line 300",
        "in between",
        "again",
        "the end",
    ]
    assert shown == expected
    assert said == "[the next attempt: pod one-2]\n"


def test_a_log_that_nobody_can_have_any_more(plugin: Plugin, kube: Kube, namespace: str) -> None:
    make(kube, TRAINING, namespace, "one", SPECS["trainings"], {**RUNNING, "phase": "Succeeded"})
    wait_for(lambda: "one" in plugin.run("get", "trainings", "-n", namespace).stdout, "the object")
    refused = plugin.run("logs", "one", "-f", "-n", namespace)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no pod of that training any more" in refused.stderr
