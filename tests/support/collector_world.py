"""The collector as a process of its own before a real API server, and Trainings whose pods report to it."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from localcluster import ControlPlane
from localcluster.tools import build_tools
from modelyard.resources.meta import GROUP, VERSION
from support.tls_sink import Certificates
from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "modelyard-system"
ACCOUNT = "modelyard-collector"
OPERATOR = f"system:serviceaccount:{SYSTEM}:modelyard-operator"
API = f"system:serviceaccount:{SYSTEM}:modelyard-api"
NAMESPACE = "team-a"
_numbers = count(1)


@dataclass
class Answer:
    """What a request was answered with."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass
class World:
    """The cluster and the collector that serves it."""

    plane: ControlPlane
    folder: Path
    tls: Certificates
    port: int
    metrics_port: int
    logs: list[Path] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    tokens: list[str] = field(default_factory=list)
    store: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        api = config.new_client_from_config(str(self.plane.kubeconfig))
        self.core, self.batch, self.objects = (
            client.CoreV1Api(api),
            client.BatchV1Api(api),
            client.CustomObjectsApi(api),
        )

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        command = [str(tool("kubectl")), "--kubeconfig", str(self.plane.kubeconfig), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout

    # --- objects ---

    def training(self, attempt: int = 1) -> Running:
        """A Training with a Job, and the pod that the Job controller made for it."""
        name = f"run-{next(_numbers)}"
        run = Running(self, name)
        run.create()
        run.attempt(attempt)
        return run

    def job(self, name: str, labels: Mapping[str, str]) -> tuple[str, str]:
        """Makes a Job; returns its uid and the name of its pod."""
        pod = {
            "restartPolicy": "Never",
            "containers": [{"name": "trainer", "image": "none.invalid/none"}],
            # No node has it: the pod stays as it is.
            "nodeSelector": {"modelyard.dev/nowhere": "true"},
        }
        body = {
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": dict(labels)}, "spec": pod}},
        }
        uid: str = self.batch.create_namespaced_job(NAMESPACE, body).metadata.uid
        selector = f"batch.kubernetes.io/job-name={name}"
        pods = until(
            f"the pod of {name}", lambda: self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        )
        return uid, pods[0].metadata.name

    def token(self, audience: str, pod: str | None = None, namespace: str = NAMESPACE, account: str = "default") -> str:
        """A projected token, as the kubelet asks for one."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": 3600}
        if pod:
            uid = self.core.read_namespaced_pod(pod, namespace).metadata.uid
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
        made = self.core.create_namespaced_service_account_token(account, namespace, {"spec": spec})
        self.tokens.append(made.status.token)
        return str(made.status.token)

    # --- the collector ---

    def start(self) -> None:
        """Starts the collector; it is ready on return."""
        settings = self.folder / "settings.yaml"
        settings.write_text(
            yaml.safe_dump(
                {
                    "namespace": SYSTEM,
                    "logLevel": "DEBUG",
                    "collector": {
                        "port": self.port,
                        "metricsPort": self.metrics_port,
                        "tlsDir": str(self.tls.cert.parent),
                        "operatorUser": OPERATOR,
                        "apiUser": API,
                        "store": {"path": str(self.folder / "curves.db"), **self.store},
                    },
                }
            )
        )
        log = self.folder / f"collector-{len(self.logs)}.log"
        self.logs.append(log)
        env = {**os.environ, "KUBECONFIG": str(self._kubeconfig()), "PYTHONPATH": f"{ROOT}/operator:{ROOT}/training"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelyard.collector.main", "--settings", str(settings)],
                env=env,
                stdout=out,
                stderr=out,
            )
        until("the collector", lambda: self.plain("/readyz")[0] == 200)

    def stop(self) -> int:
        """Ends the collector as Kubernetes does; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)

    def plain(self, path: str) -> tuple[int, str]:
        """GET on the port for probes and metrics."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def ask(self, method: str, path: str, token: str | None, body: Any = None) -> Answer:
        """A request to the collector. `body`: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            context = ssl.create_default_context(cadata=self.tls.ca_pem)
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return Answer(answer.status, json.loads(answer.read()), dict(answer.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read()), dict(error.headers))

    def series(self, uid: str, query: str = "") -> Answer:
        """Asks for curves as the status API does."""
        token = self.token("modelyard.dev/collector", namespace=SYSTEM, account="modelyard-api")
        return self.ask("GET", f"/v1/series/{uid}?{query}", token)

    def status_patches(self, name: str | None = None) -> list[dict[str, Any]]:
        """The audit log's entries of the collector's writes."""
        assert self.plane.audit_log is not None
        found = []
        for line in self.plane.audit_log.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            ref = entry.get("objectRef", {})
            if entry["verb"] == "patch" and ref.get("resource") == "trainings" and ref.get("subresource") == "status":
                by_us = entry["user"]["username"] == f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
                if by_us and name in (None, ref["name"]):
                    found.append(entry)
        return found

    def _kubeconfig(self) -> Path:
        token = self.core.create_namespaced_service_account_token(ACCOUNT, SYSTEM, {"spec": {}}).status.token
        content = yaml.safe_load(self.plane.kubeconfig.read_text())
        for user in content["users"]:
            user["user"] = {"token": token}
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path


@dataclass
class Running:
    """One Training under test and the pod of its current attempt."""

    world: World
    name: str
    uid: str = ""
    number: int = 1
    pod: str = ""

    def create(self) -> None:
        """POSTs the Training."""
        spec = {"recipe": {"name": "tabular-classification"}, "dataset": {"pvc": {"claimName": "data"}}}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Training",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": spec,
        }
        made = self.world.objects.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "trainings", body)
        self.uid = made["metadata"]["uid"]

    def attempt(self, number: int) -> None:
        """Makes the attempt's Job, and puts into the status what the operator would."""
        labels = {f"{GROUP}/training": self.name, f"{GROUP}/attempt": str(number)}
        job = f"{self.name}-{number}-{self.uid[:4]}"
        job_uid, self.pod = self.world.job(job, labels)
        self.number = number
        self.set_status(
            phase="Running", attempts={"number": number}, placement={"job": job, "jobUID": job_uid, "pod": self.pod}
        )

    def set_status(self, **fields: Any) -> None:
        """Merges fields into the status."""
        self.world.objects.patch_namespaced_custom_object_status(
            GROUP,
            VERSION,
            NAMESPACE,
            "trainings",
            self.name,
            {"status": fields},
            _content_type="application/merge-patch+json",
        )

    @property
    def audience(self) -> str:
        """The audience of its pods' tokens."""
        return f"{GROUP}/training/{NAMESPACE}/{self.name}"

    @property
    def path(self) -> str:
        """Where its reports go."""
        return f"/v1/namespaces/{NAMESPACE}/trainings/{self.name}/reports"

    def token(self) -> str:
        """A token as its pod has one."""
        return self.world.token(self.audience, self.pod)

    def status(self) -> dict[str, Any]:
        """The status as the API server has it."""
        found = self.world.objects.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, "trainings", self.name)
        status: dict[str, Any] = found.get("status", {})
        return status

    def batch(self, *reports: Mapping[str, Any], attempt: int | None = None, uid: str | None = None) -> dict[str, Any]:
        """A body with reports, each of them `modelyard`'s content and `seq`."""
        rows = []
        for report in reports:
            ours = dict(report)
            row: dict[str, Any] = {"seq": ours.pop("seq"), "time": "2026-11-21T10:00:00.5Z"}
            row["trainerStatus"] = ours.pop("trainerStatus", {})
            rows.append({**row, "modelyard": ours})
        return {"uid": uid or self.uid, "attempt": attempt or self.number, "pod": self.pod, "reports": rows}

    def post(self, token: str, *reports: Mapping[str, Any], **more: Any) -> Answer:
        """Sends reports."""
        return self.world.ask("POST", self.path, token, self.batch(*reports, **more))


def until(what: str, condition: Callable[[], Any]) -> Any:
    """Waits until `condition` is true."""
    return wait_for(condition, what, every=0.05)


@cache
def tool(name: str) -> Path:
    """One of the launcher's programs."""
    return build_tools([name])[name]
