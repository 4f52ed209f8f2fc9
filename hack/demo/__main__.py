"""Bring up a cluster, install Modelyard, fetch real weights, train twice, keep the results and predict with them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from demo.clock import Clock
from demo.watch import DemoError, condition, until_ended
from deploy import hub, images, release
from deploy.release import Cluster
from deploy.shell import ROOT, CommandError
from deploy.target import bring_up

NAMESPACE = "modelyard-demo"
EXAMPLES = ROOT / "examples"
TRAININGS = ("breast-cancer", "docstrings")
PREDICTORS = ("predict-tumours", "predict-docstrings")


def apply(cluster: Cluster, name: str, replace: tuple[str, str] = ("", "")) -> None:
    """Apply one file of `examples/`, with the image that was built instead of the published one."""
    text = (EXAMPLES / name).read_text()
    print(cluster.kubectl("apply", "-f", "-", stdin=text.replace(*replace) if replace[0] else text), end="")


def start_afresh(cluster: Cluster) -> None:
    """Remove what an earlier demo left, so that everything shown really happens now."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s")


def show_results(cluster: Cluster, trainings: Sequence[dict[str, Any]]) -> None:
    """Final metrics, from the status of each Training."""
    for obj in trainings:
        metrics = obj["status"]["output"]["metrics"]
        words = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
        print(f"  {obj['metadata']['name']}: {words}")


def predict(cluster: Cluster, trainer: tuple[str, str]) -> None:
    """Run the two predicting pods and print what they say."""
    for name in ("predict-tabular.yaml", "predict-text.yaml"):
        apply(cluster, name, ("modelyard-trainer:0.1.0", ":".join(trainer)))
    for name in PREDICTORS:
        cluster.kubectl(
            "-n", NAMESPACE, "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s"
        )
        print(f"--- {name}")
        print(cluster.kubectl("-n", NAMESPACE, "logs", name), end="")


def demo(clock: Clock) -> None:
    """All of it. Raises CommandError or DemoError."""
    with clock.step("A cluster"):
        target = bring_up()
        cluster = target.cluster
    with clock.step("Images"):
        operator, trainer, demo_hub = target.build(images.OPERATOR, images.TRAINER, images.HUB)
    with clock.step("Modelyard, from its Helm chart"):
        release.install(cluster, operator, trainer, {})
        start_afresh(cluster)
    with clock.step("A source, a model, and a mistake"):
        apply(cluster, "namespace.yaml")
        apply(cluster, "source.yaml")
        hub.install(cluster, NAMESPACE, ":".join(demo_hub))
        apply(cluster, "wrong-secret.yaml")
        apply(cluster, "model.yaml")
        condition(cluster, NAMESPACE, "modelsource.modelyard.dev", "hub", 60)
    with clock.step("Two Trainings"):
        apply(cluster, "training-tabular.yaml")
        apply(cluster, "training-text.yaml")
        trainings = until_ended(cluster, NAMESPACE, TRAININGS, 900)
    with clock.step("What came of it"):
        show_results(cluster, trainings)
        for name in ("tumours", "docstring-modules"):
            condition(cluster, NAMESPACE, "model.modelyard.dev", name, 60)
        print(cluster.kubectl("-n", NAMESPACE, "get", "modelsources.modelyard.dev,models.modelyard.dev"), end="")
        wrong = cluster.get("-n", NAMESPACE, "modelsource.modelyard.dev", "hub-with-wrong-secret")
        message = next(c["message"] for c in wrong["status"]["conditions"] if c["type"] == "Ready")
        print(f"\nThe mistake: ModelSource hub-with-wrong-secret says: {message}")
    with clock.step("Predictions, with the stock libraries alone"):
        predict(cluster, trainer)
    print(f"""
What was made: namespace {release.NAMESPACE} with the operator and the collector; namespace {NAMESPACE} with one
fetched Model (minilm), two Trainings, and the Models that they were saved to (tumours, docstring-modules).

Where to look:
  export KUBECONFIG={cluster.kubeconfig}
  {cluster.kubectl_bin} -n {NAMESPACE} get trainings,models.modelyard.dev,modelsources,pvc,pods
  {cluster.kubectl_bin} -n {NAMESPACE} describe training docstrings
  {cluster.kubectl_bin} -n {NAMESPACE} get training docstrings -o yaml

To take it down: `make cluster-down` removes the cluster that the demo made. In a cluster of your own:
  {cluster.kubectl_bin} delete namespace {NAMESPACE}
  {cluster.helm_bin} uninstall modelyard -n {release.NAMESPACE}
  {cluster.kubectl_bin} delete namespace {release.NAMESPACE}
""")


def main() -> int:
    """Exit code 0: all came out as it should; 1: not, with what failed."""
    clock = Clock()
    try:
        demo(clock)
    except (CommandError, DemoError) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    finally:
        print(f"\nWhere the time went:\n{clock.table()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
