"""The Job of an attempt: what every pod must have, and what comes from the spec."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.compute.gpu import MODELS, matches, node_terms, problem
from modelyard.compute.kubernetes import KubernetesCompute
from modelyard.resources.quantities import parse_gpu
from modelyard.settings import Settings
from support.build import NS, make_training

URL = "https://modelyard-collector.modelyard-system.svc:8443"
SETTINGS = Settings.model_validate(
    {"namespace": "modelyard-system", "collector": {"url": URL}, "images": {"pullSecrets": ["registry"]}}
)


def job(settings: Settings = SETTINGS, ca_pem: str | None = "PEM", **spec: Any) -> dict[str, Any]:
    training = make_training("t", spec={"recipe": {"name": "tabular-classification"}, **spec})
    training["metadata"]["uid"] = "u-1"
    return KubernetesCompute(settings, ca_pem).job(
        training,
        attempt=2,
        output_claim="trn-t-output",
        config="{}",
        mounts={"model": ("mdl-m-v1", "data"), "dataset": ("rows", "")},
    )


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = job(**spec)["spec"]["template"]["spec"]
    return found


def env(found: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in found["containers"][0]["env"]}


def test_never_retries_by_itself_and_keeps_the_cause() -> None:
    made = job()
    assert made["metadata"]["name"] == "t-2"
    assert made["metadata"]["ownerReferences"][0] | {} == {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "Training",
        "name": "t",
        "uid": "u-1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    spec = made["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"], spec["suspend"]) == (0, "Failed", False)
    assert [next(iter(r.keys() - {"action"})) for r in spec["podFailurePolicy"]["rules"]] == [
        "onPodConditions",
        "onExitCodes",
        "onExitCodes",
        "onExitCodes",
    ]
    assert "activeDeadlineSeconds" not in spec


def test_restricted_security() -> None:
    found = pod()
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    assert found["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert found["containers"][0]["terminationMessagePolicy"] == "File"


def test_ids_can_be_left_to_the_platform() -> None:
    settings = Settings.model_validate({"podSecurity": {"enabled": False}})
    context = job(settings)["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_mounts() -> None:
    mounts = {m["mountPath"]: m for m in pod()["containers"][0]["volumeMounts"]}
    assert mounts["/modelyard/output"] == {"name": "output", "mountPath": "/modelyard/output"}
    assert mounts["/modelyard/model"] == {
        "name": "model",
        "mountPath": "/modelyard/model",
        "subPath": "data",
        "readOnly": True,
    }
    assert mounts["/modelyard/dataset"] == {"name": "dataset", "mountPath": "/modelyard/dataset", "readOnly": True}
    volumes = {v["name"]: v for v in pod()["volumes"]}
    assert volumes["shm"] == {"name": "shm", "emptyDir": {"medium": "Memory"}}
    token = volumes["token"]["projected"]["sources"][0]["serviceAccountToken"]
    assert token == {"audience": f"modelyard.dev/training/{NS}/t", "expirationSeconds": 3600, "path": "token"}


def test_environment() -> None:
    secret = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    found = env(pod(compute={"env": [secret, {"name": "HOME", "value": "/root"}]}, checkpoint={"graceSeconds": 45}))
    assert found["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert found["HOME"] == "/tmp"
    assert found["MODELYARD_ATTEMPT"] == "2"
    assert found["MODELYARD_TRAINING_UID"] == "u-1"
    assert found["MODELYARD_COLLECTOR_URL"] == URL
    assert found["MODELYARD_CA_PEM"] == "PEM"
    assert found["MODELYARD_GRACE_SECONDS"] == "45"
    assert found["MODELYARD_MODEL"] == "/modelyard/model"


def test_without_a_collector_there_is_no_token() -> None:
    found = job(Settings.model_validate({}))["spec"]["template"]["spec"]
    assert "token" not in {v["name"] for v in found["volumes"]}
    assert "MODELYARD_COLLECTOR_URL" not in env(found)


def test_what_the_spec_says_reaches_the_pod() -> None:
    toleration = {"key": "team", "operator": "Exists"}
    found = pod(
        compute={
            "cpu": "4",
            "memory": "16Gi",
            "scratch": "5Gi",
            "nodeSelector": {"disk": "nvme"},
            "tolerations": [toleration],
            "priorityClassName": "high",
            "image": "example.com/mine:1",
            "imagePullSecrets": [{"name": "mine"}],
        },
        checkpoint={"graceSeconds": 45},
    )
    container = found["containers"][0]
    assert container["image"] == "example.com/mine:1"
    assert container["resources"] == {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "16Gi"}}
    assert found["nodeSelector"] == {"disk": "nvme"}
    assert found["tolerations"] == [toleration]
    assert found["priorityClassName"] == "high"
    assert found["imagePullSecrets"] == [{"name": "mine"}, {"name": "registry"}]
    assert found["terminationGracePeriodSeconds"] == 45
    assert {v["name"]: v for v in found["volumes"]}["tmp"]["emptyDir"] == {"sizeLimit": "5Gi"}
    assert "affinity" not in found


def test_a_gpu_becomes_requests_affinity_and_toleration() -> None:
    found = pod(compute={"gpu": "H100:8"})
    resources = found["containers"][0]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == "8"
    assert resources["limits"]["nvidia.com/gpu"] == "8"
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    required = found["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = required["nodeSelectorTerms"][0]["matchExpressions"]
    assert expression["key"] == "nvidia.com/gpu.product"
    assert {"NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"} <= set(expression["values"])


def test_none_asks_for_no_gpu() -> None:
    found = pod(compute={"gpu": "none"})
    assert "nvidia.com/gpu" not in found["containers"][0]["resources"]["limits"]
    assert "tolerations" not in found


def test_a_queue_gets_a_suspended_job() -> None:
    made = job(compute={"queueName": "team"})
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"


NODES: dict[str, dict[str, str]] = {
    "sxm": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "node.kubernetes.io/instance-type": "p5.48xlarge"},
    "pcie": {"nvidia.com/gpu.product": "NVIDIA-H100-PCIe"},
    "nvl": {"nvidia.com/gpu.product": "NVIDIA-H100-NVL"},
    "sliced": {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
        "node.kubernetes.io/instance-type": "p5.48xlarge",
    },
    "shared": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-SHARED"},
    "gke": {"cloud.google.com/gke-accelerator": "nvidia-h100-mega-80gb"},
    "gke-sliced": {
        "cloud.google.com/gke-accelerator": "nvidia-h100-80gb",
        "cloud.google.com/gke-gpu-partition-size": "1g.10gb",
    },
    "gke-shared": {
        "cloud.google.com/gke-accelerator": "nvidia-h100-80gb",
        "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
    },
    "karpenter": {"karpenter.k8s.aws/instance-gpu-name": "h100"},
    "eks": {"node.kubernetes.io/instance-type": "p5.48xlarge"},
    "aks": {"node.kubernetes.io/instance-type": "Standard_ND96isr_H100_v5"},
    "coreweave": {"gpu.nvidia.com/class": "H100_NVLINK_80GB"},
    "a100": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
    "a100-40": {"node.kubernetes.io/instance-type": "p4d.24xlarge"},
}


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        ("H100", "sxm pcie nvl gke karpenter eks aks coreweave"),
        ("h100-sxm", "sxm gke karpenter eks aks coreweave"),
        ("H100-PCIe", "pcie"),
        ("H100-NVL", "nvl"),
        ("A100", "a100 a100-40"),
        ("A100-80GB", "a100"),
        ("NVIDIA-H100-80GB-HBM3", "sxm"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "sliced"),
        ("NVIDIA-H100-80GB-HBM3-SHARED", "shared"),
    ],
)
def test_which_nodes_have_a_gpu(wanted: str, nodes: str) -> None:
    terms = node_terms(wanted)
    assert {name for name, labels in NODES.items() if matches(terms, labels)} == set(nodes.split())


def test_no_name_of_a_node_means_two_types() -> None:
    plain = [name for name in MODELS if "-" not in name]
    for kind in ("products", "gke", "karpenter", "coreweave", "instances"):
        named = [value for name in plain for value in getattr(MODELS[name], kind)]
        assert len(named) == len(set(named)), kind


@pytest.mark.parametrize("name", [*MODELS, "h100", "NVIDIA-H100-80GB-HBM3", "Tesla-T4", "NVIDIA-A30-MIG-1g.6gb"])
def test_known_gpus(name: str) -> None:
    assert problem(parse_gpu(name)) is None
    assert node_terms(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("H1000", "no GPU type known"),
        ("gpu", "no GPU type known"),
        ("mig-1g.5gb", "exact value"),
        ("NVIDIA-A30-MIG-1g.6gb:2", "can't train together"),
    ],
)
def test_unknown_gpus(name: str, words: str) -> None:
    assert words in (problem(parse_gpu(name)) or "")


def test_a_pod_without_gpus_gets_none_and_one_with_several_starts_a_process_for_each() -> None:
    assert env(pod())["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "MODELYARD_PROCESSES_PER_NODE" not in env(pod(compute={"gpu": "H100"}))
    found = env(pod(compute={"gpu": "H100:8", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}))
    assert (found["MODELYARD_PROCESSES_PER_NODE"], found["NCCL_DEBUG"]) == ("8", "INFO")
    assert "NVIDIA_VISIBLE_DEVICES" not in found


def test_further_resources() -> None:
    found = pod(compute={"gpu": "H100:8", "extraResources": {"rdma/hca": "1", "hugepages-2Mi": "1Gi"}})
    limits = found["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "2Gi", "rdma/hca": "1", "hugepages-2Mi": "1Gi", "nvidia.com/gpu": "8"}
    sliced = pod(compute={"extraResources": {"nvidia.com/mig-1g.10gb": "1"}})
    assert sliced["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "NVIDIA_VISIBLE_DEVICES" not in env(sliced)


@pytest.mark.parametrize(
    ("name", "amount", "words"),
    [
        ("nvidia.com/gpu", "1", "asked for in spec.compute.gpu"),
        ("cpu", "1", "set spec.compute.cpu"),
        ("ephemeral-storage", "1Gi", "set spec.compute.scratch"),
        ("hca", "1", "domain in their name"),
        ("kubernetes.io/hca", "1", "domain in their name"),
        ("rdma/hca", "500m", "whole numbers"),
    ],
)
def test_further_resources_that_are_none(name: str, amount: str, words: str) -> None:
    training = make_training("t", spec={"compute": {"extraResources": {name: amount}}})
    (problem,) = KubernetesCompute(SETTINGS).problems(training)
    assert words in problem


def test_the_agent_knows_which_variables_come_from_secrets() -> None:
    wanted = [
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}},
        {"name": "PLAIN", "value": "x"},
    ]
    assert env(pod(compute={"env": wanted}))["MODELYARD_SECRETS"] == "WORD"
    assert "MODELYARD_SECRETS" not in env(pod())


CUSTOM: Any = {"recipe": {"name": "custom", "custom": {"command": ["python3", "train.py"], "args": ["--lr", "1"]}}}


def test_a_program_of_the_users_own_is_the_agents_argument() -> None:
    found = pod(**CUSTOM, compute={"image": "mine:1"})
    (agent,), (trainer,) = found["initContainers"], found["containers"]
    assert (agent["image"], trainer["image"]) == ("modelyard:latest", "mine:1")
    file = agent["command"][-1]
    assert trainer["command"] == ["python3", file, "--", "python3", "train.py", "--lr", "1"]
    (shared,) = [m["name"] for m in agent["volumeMounts"]]
    assert {"name": shared, "mountPath": file.rpartition("/")[0], "readOnly": True} in trainer["volumeMounts"]
    assert {"name": shared, "emptyDir": {}} in found["volumes"]
    assert agent["securityContext"] == trainer["securityContext"]
    assert "initContainers" not in pod()
