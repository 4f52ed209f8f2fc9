"""Versions that other namespaces get, on claims of ours: who gets them, what is made, and how it is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.plan import Delete, Ref
from modelyard.resources.meta import MODEL, NAMESPACE, POD, PV, PVC
from modelyard.resources.names import claim_volume, share
from modelyard.resources.selectors import label_of, selects
from modelyard.settings import Settings
from support.build import NS, make_model, make_pod, make_source, make_version
from support.models import HUB, Cluster, M
from support.world import finish_job, jobs_of

Obj = dict[str, Any]
ACCEPTS = {"modelyard.dev/accept-shares": "true"}
RWX = {"accessModes": ["ReadWriteMany"]}
NAME = share(NS, "m", "v1")
CLAIM_B = Ref(PVC, "team-b", NAME)
DISK_B = Ref(PV, "", claim_volume("team-b", NAME))


def shared(selector: Obj | None = None, **more: Any) -> Obj:
    return {"enabled": True, "namespaceSelector": selector or {"matchLabels": {"team": "yes"}}, **more}


def make_namespace(name: str, **labels: str) -> Obj:
    named = {**labels, "kubernetes.io/metadata.name": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": named}}


def bind(cluster: Cluster) -> None:
    """The cluster's binder and provisioner: every claim has a volume, its own or the one that it names."""
    world = cluster.world
    for ref, claim in list(world.objects.items()):
        if ref.kind != PVC or (claim.get("status") or {}).get("phase") == "Bound":
            continue
        name = claim["spec"].get("volumeName")
        if name is None:
            spec = {"capacity": {"storage": "20Gi"}, "accessModes": claim["spec"]["accessModes"]}
            spec |= {"csi": {"driver": "nfs.csi.k8s.io", "volumeHandle": ref.name}, "storageClassName": "fast"}
            name = f"pvc-{claim['metadata']['uid']}"
            world.put(PV, {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
        elif Ref(PV, "", name) not in world.objects:
            continue
        bound = {"phase": "Bound", "capacity": {"storage": "20Gi"}}
        world.edit(ref, lambda o, n=name, b=bound: (o["spec"].update(volumeName=n), o.update(status=b)))  # type: ignore[misc]


def settle(cluster: Cluster) -> None:
    for _ in range(6):
        cluster.settle()
        for job in jobs_of(cluster.world):
            finish_job(cluster.world, job)
        bind(cluster)
    assert cluster.settle() == 0


def a_cluster(share: Obj | None = None, *, storage: Obj = RWX) -> Cluster:
    version = make_version("v1", storage=storage, share=share or shared())
    cluster = Cluster(
        make_source(),
        make_model("m", version),
        make_namespace(NS, team="yes", **ACCEPTS),
        make_namespace("team-b", team="yes", **ACCEPTS),
        make_namespace("deaf", team="yes"),
        make_namespace("other", **ACCEPTS),
        make_namespace("kube-b", team="yes", **ACCEPTS),
        make_namespace("modelyard-system", team="yes", **ACCEPTS),
    )
    settle(cluster)
    return cluster


def rows(cluster: Cluster) -> list[tuple[str, str]]:
    return [(r["namespace"], r["phase"]) for r in cluster.entry().get("sharedWith") or ()]


def about_sharing(cluster: Cluster) -> Obj:
    return next(c for c in cluster.entry()["conditions"] if c["type"] == "Shared")


def relabel(cluster: Cluster, namespace: str, **labels: str) -> None:
    cluster.world.edit(
        Ref(NAMESPACE, "", namespace),
        lambda o: o["metadata"].update(labels={**labels, "kubernetes.io/metadata.name": namespace}),
    )


def test_a_selected_namespace_that_accepts_shares_gets_a_second_name_for_the_same_storage() -> None:
    cluster = a_cluster()
    assert rows(cluster) == [("team-b", "Ready")]
    assert about_sharing(cluster)["status"] == "True"
    claim, disk = cluster.world.objects[CLAIM_B], cluster.world.objects[DISK_B]
    assert claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert claim["spec"]["volumeName"] == DISK_B.name
    assert "ownerReferences" not in claim["metadata"]
    assert disk["spec"]["csi"] == {"driver": "nfs.csi.k8s.io", "volumeHandle": "mdl-m-v1"}
    assert disk["spec"]["mountOptions"] == ["ro"]
    assert disk["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert (disk["spec"]["claimRef"]["namespace"], disk["spec"]["claimRef"]["name"]) == ("team-b", NAME)
    assert cluster.world.objects[M]["metadata"]["finalizers"] == ["modelyard.dev/guard"]


def test_shares_follow_namespaces_as_they_are_labelled_made_and_deleted() -> None:
    cluster = a_cluster()
    cluster.put(make_namespace("team-c", team="yes", **ACCEPTS))
    relabel(cluster, "deaf", team="yes", **ACCEPTS)
    relabel(cluster, "team-b", **ACCEPTS)
    settle(cluster)
    assert rows(cluster) == [("deaf", "Ready"), ("team-c", "Ready")]
    assert CLAIM_B not in cluster.world.objects
    assert DISK_B not in cluster.world.objects
    cluster.world.edit(Ref(NAMESPACE, "", "team-c"), lambda o: o.update(status={"phase": "Terminating"}))
    cluster.world.remove(Ref(PVC, "team-c", NAME))
    settle(cluster)
    assert rows(cluster) == [("deaf", "Ready")]
    assert Ref(PV, "", claim_volume("team-c", NAME)) not in cluster.world.objects


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ({"enabled": True}, "share.namespaceSelector is empty"),
        ({"enabled": True, "namespaceSelector": {}}, "share.namespaceSelector is empty"),
        (shared(requireOptInLabel="wants"), "No namespace matches"),
        (shared({"matchLabels": {"team": "no"}}), "No namespace matches"),
    ],
)
def test_what_selects_nobody_shares_nothing_and_says_so(share: Obj, words: str) -> None:
    cluster = a_cluster(share)
    assert rows(cluster) == []
    assert about_sharing(cluster)["message"].startswith(words)
    assert (
        "finalizers" not in cluster.world.objects[M]["metadata"]
        or not cluster.world.objects[M]["metadata"]["finalizers"]
    )


def test_an_opt_in_label_comes_on_top() -> None:
    cluster = a_cluster(shared(requireOptInLabel="wants=this"))
    relabel(cluster, "team-b", team="yes", wants="this", **ACCEPTS)
    settle(cluster)
    assert rows(cluster) == [("team-b", "Ready")]


def test_a_volume_for_one_node_is_not_shared_and_the_version_stays_ready() -> None:
    cluster = a_cluster(storage={"accessModes": ["ReadWriteOnce"]})
    assert cluster.entry()["phase"] == "Ready"
    assert cluster.entry()["sharedWith"] == [
        {"namespace": "team-b", "name": NAME, "phase": "Failed", "reason": "AccessModesNotShareable"}
    ]
    assert "only one that is ReadWriteMany or ReadOnlyMany" in about_sharing(cluster)["message"]


def test_revoking_takes_everything_back_and_a_reader_finishes_first() -> None:
    cluster = a_cluster()
    cluster.world.put(
        POD, {**make_pod("reader", claims=(NAME,)), "metadata": {"name": "reader", "namespace": "team-b"}}
    )
    cluster.edit_version(share=None)
    cluster.settle()
    assert cluster.world.objects[CLAIM_B]["metadata"]["deletionTimestamp"]
    assert cluster.world.objects[M]["metadata"]["finalizers"]
    cluster.world.remove(Ref(POD, "team-b", "reader"))
    settle(cluster)
    assert CLAIM_B not in cluster.world.objects
    assert not cluster.world.objects[M]["metadata"]["finalizers"]
    assert cluster.entry()["phase"] == "Ready"


def test_shares_go_before_their_source() -> None:
    cluster = a_cluster()
    cluster.world.put(
        POD, {**make_pod("reader", claims=(NAME,)), "metadata": {"name": "reader", "namespace": "team-b"}}
    )
    cluster.world.remove(M)
    cluster.settle()
    assert "the share in namespace team-b" in cluster.condition("Ready")["message"]
    assert Ref(PVC, NS, "mdl-m-v1") in cluster.world.objects
    cluster.world.remove(Ref(POD, "team-b", "reader"))
    cluster.settle()
    assert not [r for r in cluster.world.objects if r.kind in (MODEL, PVC)]


def test_other_content_is_shared_anew_and_the_old_volume_waits_for_its_readers() -> None:
    cluster = a_cluster()
    old = cluster.world.objects[CLAIM_B]["metadata"]["uid"]
    cluster.world.put(
        POD, {**make_pod("reader", claims=(NAME,)), "metadata": {"name": "reader", "namespace": "team-b"}}
    )
    cluster.edit_version(repo="org/other")
    settle(cluster)
    assert Ref(PVC, NS, "mdl-m-v1") in cluster.world.objects
    cluster.world.remove(Ref(POD, "team-b", "reader"))
    settle(cluster)
    assert cluster.world.objects[CLAIM_B]["metadata"]["uid"] != old
    assert Ref(PVC, NS, "mdl-m-v1") not in cluster.world.objects
    assert rows(cluster) == [("team-b", "Ready")]


def test_a_strangers_claim_under_the_name_is_left_alone() -> None:
    cluster = a_cluster(shared({"matchLabels": {"team": "later"}}))
    theirs = cluster.world.put(
        PVC,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": NAME, "namespace": "team-b"},
            "spec": {},
            "status": {"phase": "Bound"},
        },
    )
    relabel(cluster, "team-b", team="later", **ACCEPTS)
    settle(cluster)
    assert cluster.entry()["sharedWith"][0]["reason"] == "NameTaken"
    assert cluster.world.objects[CLAIM_B]["metadata"]["uid"] == theirs["metadata"]["uid"]
    cluster.world.remove(CLAIM_B)
    settle(cluster)
    assert rows(cluster) == [("team-b", "Ready")]


def test_shares_of_a_model_of_the_same_name_before_are_replaced() -> None:
    cluster = a_cluster()
    cluster.world.edit(CLAIM_B, lambda o: o["metadata"]["labels"].update({"modelyard.dev/shared-uid": "another"}))
    old = cluster.world.objects[CLAIM_B]["metadata"]["uid"]
    settle(cluster)
    assert cluster.world.objects[CLAIM_B]["metadata"]["uid"] != old


def test_a_users_own_volume_is_not_shared() -> None:
    cluster = a_cluster()
    cluster.world.edit(HUB, lambda o: o.update(spec={"type": "PVC", "config": {"pvcName": "mine"}}))
    cluster.world.put(
        PVC,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "mine", "namespace": NS},
            "spec": {},
            "status": {"phase": "Bound"},
        },
    )
    cluster.edit_version(repo="/")
    settle(cluster)
    assert about_sharing(cluster)["reason"] == "NotShareable"
    assert CLAIM_B not in cluster.world.objects


def test_from_every_prefix_of_every_plan_the_shares_come_and_go() -> None:
    for change in ("share", "revoke", "delete", "content"):
        start = a_cluster(None if change != "share" else shared({"matchLabels": {"team": "later"}}))
        match change:
            case "share":
                relabel(start, "team-b", team="later", **ACCEPTS)
            case "revoke":
                start.edit_version(share=None)
            case "delete":
                start.world.remove(M)
            case _:
                start.edit_version(repo="org/other")
        whole = start.over(start.world.copy())
        settle(whole)
        wanted = {
            (r.kind, r.namespace, r.name) for r in whole.world.objects if r.kind in (PVC, PV) and r.namespace != ""
        }
        for ref in start.roots():
            for upto in range(len(start.plan(ref).actions) + 1):
                cut = start.over(start.world.copy())
                plan = cut.plan(ref)
                assert all(not isinstance(a, Delete) or a.ref in cut.world.objects for a in plan.actions)
                cut.world.apply(plan, upto)
                settle(cut)
                assert {
                    (r.kind, r.namespace, r.name)
                    for r in cut.world.objects
                    if r.kind in (PVC, PV) and r.namespace != ""
                } == wanted


def test_selectors_follow_kubernetes_rules() -> None:
    labels = {"a": "1"}
    for operator, key, values, wanted in (
        ("In", "a", ["1"], True),
        ("In", "b", ["1"], False),
        ("NotIn", "a", ["1"], False),
        ("NotIn", "b", ["1"], True),
        ("Exists", "a", [], True),
        ("Exists", "b", [], False),
        ("DoesNotExist", "b", [], True),
    ):
        assert selects({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}, labels) is wanted
    assert label_of("k=v=w") == ("k", "v=w")
    assert label_of("k") == ("k", "true")
    assert label_of("k=") == ("k", "")


def borrow(cluster: Cluster, repo: str) -> None:
    """A Model `b` in team-b whose version refers to what is shared with that namespace."""
    there = {"namespace": "team-b"}
    source, model = make_source("shared", "REFERENCE"), make_model("b", make_version("v1", repo), source="shared")
    for obj in (source, model):
        cluster.put({**obj, "metadata": {**obj["metadata"], **there}})
    settle(cluster)


B = Ref(MODEL, "team-b", "b")


@pytest.mark.parametrize("repo", [f"{NS}/m/v1", f"{NS}/mdl-m-v1"])
def test_a_reference_is_what_is_shared_with_its_namespace(repo: str) -> None:
    cluster = a_cluster()
    borrow(cluster, repo)
    entry = cluster.entry(ref=B)
    assert (entry["phase"], entry["pvcName"], entry["path"]) == ("Ready", NAME, "data")
    cluster.edit_version(share=None)
    settle(cluster)
    assert cluster.entry(ref=B)["reason"] == "NotShared"
    assert "pvcName" not in cluster.entry(ref=B)


def test_a_reference_to_what_is_not_shared_says_what_both_sides_must_do() -> None:
    cluster = a_cluster()
    borrow(cluster, f"{NS}/m/v2")
    entry = cluster.entry(ref=B)
    assert (entry["phase"], entry["reason"]) == ("Pending", "NotShared")
    assert "must select this namespace" in entry["message"] or "select this namespace" in entry["message"]


NFS = {"type": "NFS", "config": {"server": "nas.example", "path": "/export"}}


def nfs_cluster(settings: Settings | None = None) -> Cluster:
    cluster = Cluster(
        make_source(type="NFS", config=NFS["config"]),
        make_model("m", make_version("v1", "models/a")),
        settings=settings,
    )
    settle(cluster)
    return cluster


def test_an_exported_folder_is_a_claim_and_nothing_is_copied() -> None:
    cluster = nfs_cluster()
    entry = cluster.entry()
    assert (entry["phase"], entry["pvcName"], "path" in entry) == ("Ready", "mdl-m-v1", False)
    disk = cluster.world.objects[Ref(PV, "", claim_volume(NS, "mdl-m-v1"))]["spec"]
    assert disk["nfs"] == {"server": "nas.example", "path": "/export/models/a"}
    assert (disk["accessModes"], disk["mountOptions"]) == (["ReadOnlyMany"], ["ro"])
    assert disk["persistentVolumeReclaimPolicy"] == "Retain"
    assert not jobs_of(cluster.world)


def test_another_folder_is_another_claim_and_a_deleted_model_leaves_no_volume() -> None:
    cluster = nfs_cluster()
    cluster.edit_version(repo="models/b")
    settle(cluster)
    disks = [o["spec"]["nfs"]["path"] for o in cluster.world.list(PV)]
    assert disks == ["/export/models/b"]
    cluster.world.remove(M)
    for upto in range(3):
        cluster.world.apply(cluster.plan(M), upto)
    settle(cluster)
    assert not [r for r in cluster.world.objects if r.kind in (PV, PVC, MODEL)]


def test_lost_volumes_of_nfs_are_made_anew() -> None:
    cluster = nfs_cluster()
    disk = Ref(PV, "", claim_volume(NS, "mdl-m-v1"))
    del cluster.world.objects[disk]
    cluster.world.edit(Ref(PVC, NS, "mdl-m-v1"), lambda o: o.update(status={"phase": "Lost"}))
    settle(cluster)
    assert cluster.entry()["phase"] == "Ready"
    assert disk in cluster.world.objects


def test_without_the_right_to_make_volumes_nfs_is_refused() -> None:
    cluster = nfs_cluster(Settings(namespace="modelyard-system", watch_namespaces=(NS,)))
    assert cluster.entry()["reason"] == "VolumesNotAllowed"
    assert not list(cluster.world.list(PVC))
