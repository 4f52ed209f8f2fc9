"""A secret that was planted in every Secret is found nowhere else."""

from __future__ import annotations

import secrets

from deploy.release import NAMESPACE
from support.place import Place, condition


def test_the_token_is_found_in_no_place_that_people_read(place: Place) -> None:
    canary = f"canary-{secrets.token_hex(16)}"
    place.secret("canary", {"token": canary})
    place.apply_source("refused", "canary")
    version = {"name": "v2", "repo": "sentence-transformers/all-MiniLM-L6-v2"}
    for name, source in (("with-canary", "refused"), ("with-token", "hub")):
        place.apply(
            {
                "apiVersion": "modelyard.dev/v1alpha1",
                "kind": "Model",
                "metadata": {"name": name},
                "spec": {"sourceRef": source, "versions": [version]},
            }
        )
    place.until("model", "with-canary", lambda o: o.get("status", {}).get("phase") == "Failed")
    place.until_phase("model", "with-token", "Ready")
    place.example("training-tabular.yaml", lambda t: t["spec"]["recipe"]["tabular"].update(epochs=2))
    # Its pods go with its Job: none that is listed may be gone when its log is read.
    place.until("training", "breast-cancer", lambda o: condition(o, "CleanedUp").get("status") == "True", 480)

    token = place.kubectl("get", "secret", "hub-token", "-o", "go-template={{.data.token | base64decode}}")
    seen = {
        "objects": place.kubectl(
            "get",
            "modelsources.modelyard.dev,models.modelyard.dev,trainings.modelyard.dev,jobs,pods,pvc,events,configmaps",
            "-o",
            "yaml",
        ),
        **{
            f"log of {name}": place.cluster.kubectl("-n", NAMESPACE, "logs", f"deployment/{name}", "--tail=-1")
            for name in ("modelyard-operator", "modelyard-collector")
        },
        **{
            f"log of {pod['metadata']['name']}": place.kubectl("logs", pod["metadata"]["name"], "--all-containers")
            for pod in place.items("pods")
        },
        **{
            f"metrics of {name}": place.cluster.kubectl(
                "get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{port}/proxy/metrics"
            )
            for name, port in (("operator", 8080), ("collector", 9090))
            for pod in [
                p["metadata"]["name"]
                for p in place.cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/component={name}")[
                    "items"
                ]
                if p["status"]["phase"] == "Running"
            ]
        },
    }
    for where, text in seen.items():
        assert canary not in text, where
        assert token not in text, where
    assert "modelyard_" in seen["metrics of operator"]
