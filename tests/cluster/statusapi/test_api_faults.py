"""A bad way to the API server: broken, stalled, compacted, slow watches, and reviews that fail or take long."""

from __future__ import annotations

from pathlib import Path

from localcluster import ControlPlane
from modelyard.resources.meta import MODEL
from support.cluster import Kube, wait_for
from support.faultproxy import STREAMS, Fault, FaultProxy, StreamFault
from support.faultstate import Recorder
from support.statusapi import SPECS, Follower, account, api_process, equal, listed, make


def test_it_ends_with_what_there_is_whatever_happens_to_watches_and_reviews(
    control_plane: ControlPlane, kube: Kube, datasets: None, admin_token: str, filled: str, tmp_path: Path
) -> None:
    strangers = [account(kube, filled, f"stranger-{number}") for number in range(4)]
    with FaultProxy(control_plane.kubeconfig, tmp_path, Recorder()) as proxy:
        whole = proxy.lane("")  # lists and watches of all namespaces, and reviews
        (tmp_path / "api").mkdir()
        with api_process(tmp_path / "api", proxy.kubeconfig) as api:
            caller = api.caller(admin_token)
            follower = Follower(api.url, admin_token, namespace=filled)
            assert follower.synced.wait(120)
            for what in STREAMS:
                whole.arm(stream=StreamFault(what, 1, 4))
                for number in range(5):
                    make(kube, MODEL, filled, f"{what.replace(' ', '-')}-{number}", SPECS["models"])
                kube.delete(MODEL, filled, f"{what.replace(' ', '-')}-1")
                kube.merge(MODEL, filled, "one", {"metadata": {"labels": {"fault": what.replace(" ", "-")}}})
                wait_for(lambda: whole.hits, "the fault")
                whole.arm()
                there = {obj["metadata"]["name"] for obj in kube.list(MODEL, filled)}

                def same(there: set[str] = there, label: str = what.replace(" ", "-")) -> bool:
                    rows = {row["name"]: row for row in caller.json("/models", namespace=filled)["items"]}
                    return set(rows) == there and rows["one"]["labels"] == {"fault": label}

                wait_for(same, f"the list after {what}")
                equal(follower, lambda: listed(caller, filled))
                whole.hits.clear()

            whole.slow = 1.5
            assert caller.json("/models", namespace=filled)["total"] > 1
            assert api.caller(strangers[0]).get("/models", namespace=filled).status_code == 403
            whole.slow = 0.0
            for stranger, what in zip(strangers[1:], ("503", "429", "reply lost"), strict=True):
                whole.arm(*(Fault(what, at) for at in range(1, 3)))
                codes = set()

                def answered(who: str = stranger, codes: set[int] = codes) -> bool:
                    codes.add(api.caller(who).get("/models", namespace=filled).status_code)
                    return 403 in codes

                wait_for(answered, f"an answer after {what}")
                assert codes <= {403, 503}, (what, codes)
            follower.close()
