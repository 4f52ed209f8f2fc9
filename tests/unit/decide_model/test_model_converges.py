"""The property that all else rests on: whatever happens, wherever a plan is cut off, the decisions end in one state.

Generated worlds: users change and delete things, downloads end well or badly, strangers take names, the operator dies
between any two writes. After that it must come to rest, stay silent, and reach what an undisturbed one reaches.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelyard.plan import Delete, Ref
from modelyard.resources import sources
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, POD, PVC, SECRET, TRAINING
from support.build import (
    NS,
    make_claim,
    make_model,
    make_pod,
    make_saved_claim,
    make_secret,
    make_source,
    make_training,
    make_version,
)
from support.models import HUB, Cluster, M
from support.world import World, WriteRefusedError, finish_job, jobs_of

TOKEN = Ref(SECRET, NS, "token")
TRAINING_REF = Ref(TRAINING, NS, "t")
POD_REF = Ref(POD, NS, "reader")

versions = st.lists(
    st.builds(
        lambda name, repo, revision, state: make_version(
            name,
            repo,
            **({"revision": revision} if revision and repo else {}),
            **({"state": state} if state else {}),
        ),
        st.sampled_from(["v1", "v1", "a-b"]),
        st.sampled_from(["org/a", "org/a", "org/b", None, "not a repo"]),
        st.sampled_from([None, "x", "y"]),
        st.sampled_from([None, None, "PRESENT", "ABSENT"]),
    ),
    max_size=2,
    unique_by=lambda v: v["name"],
)
retention = st.fixed_dictionaries(
    {}, optional={"fetched": st.sampled_from(["Delete", "Retain"]), "saved": st.sampled_from(["Delete", "Retain"])}
)
source_specs = st.sampled_from(
    [
        {"type": "HUGGING_FACE"},
        {"type": "HUGGING_FACE"},
        {"type": "HUGGING_FACE", "secretRef": "token"},
        {"type": "HUGGING_FACE", "config": {"endpoint": "https://hub.example"}},
        {"type": "HUGGING_FACE", "config": {"nonsense": "1"}},
        {"type": "HTTP", "config": {"url": "https://files.example"}},
        {"type": "PVC", "config": {"pvcName": "mine"}},
        {"type": "KAGGLE"},
    ]
)
endings = st.sampled_from(
    [
        {},
        {},
        {},
        {"with_pod": False},
        {"message": '{"result":"done","bytes":1,"files":1,"resolvedRevision":"c","digest":"d"}'},
        {"failed": True, "exit_code": 64, "message": '{"result":"failed","reason":"NotFound","message":"m"}'},
        {"failed": True, "exit_code": 75},
        {"failed": True, "exit_code": 1},
        {"failed": True, "with_pod": False},
    ]
)
steps = st.one_of(
    st.tuples(st.just("versions"), versions),
    st.tuples(st.just("retention"), retention),
    st.tuples(st.just("source"), source_specs),
    st.tuples(st.just("secret"), st.sampled_from([None, "", "good", "better"])),
    st.tuples(st.just("end"), endings),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 3600])),
    st.tuples(st.just("resync"), st.sampled_from([None, "1", "2"])),
    st.tuples(st.just("delete"), st.sampled_from(["claim", "claim and job", "job", "model", "source", "stranger"])),
    st.tuples(st.just("stranger"), st.sampled_from(["mdl-m-v1", "mine"])),
    st.tuples(st.just("saved"), st.sampled_from(["v1", "tuned"])),
    st.tuples(st.just("use"), st.sampled_from(["start", "end", "pod", "no pod"])),
    st.tuples(st.just("make"), st.sampled_from(["model", "source"])),
)


FETCHED: Any = [(("wait", 1), 8)] * 4 + [(("end", {}), 8), (("wait", 1), 8)]
"""A life until the Model's one version is there."""


def happen(world: World, what: str, value: Any) -> None:
    """One thing that anybody but the operator may do at any time."""
    match what:
        case "versions" if M in world.objects:
            world.edit(M, lambda o: o["spec"].update(versions=value))
        case "retention" if M in world.objects:
            world.edit(M, lambda o: o["spec"].update(retention=value))
        case "source" if HUB in world.objects:
            world.edit(HUB, lambda o: o.update(spec=value))
        case "secret":
            world.remove(TOKEN)
            world.settle()
            if value is not None:
                world.put(SECRET, make_secret("token", {"token": value}))
        case "end" if jobs_of(world):
            end(world, jobs_of(world)[0], value)
        case "wait":
            world.wait(value)
        case "resync" if M in world.objects:
            world.edit(M, lambda o: o["metadata"].update(annotations={"modelyard.dev/resync": value} if value else {}))
        case "delete":
            claims = [r for r in world.objects if r.kind == PVC and r.name.startswith("mdl-")]
            jobs = [r for r in world.objects if r.kind == JOB]
            refs = {
                "claim": claims[:1],
                "job": jobs[:1],
                "claim and job": claims[:1] + jobs[:1],
                "model": [M],
                "source": [HUB],
                "stranger": [r for r, o in world.objects.items() if o["metadata"].get("labels") == {"whose": "theirs"}],
            }[value]
            for ref in refs:
                world.remove(ref)
        case "stranger":
            _put(world, PVC, make_claim(value, labels={"whose": "theirs"}))
        case "saved":
            record = {"origin": "Training/t", "path": "model", "kind": "Full"}
            _put(world, PVC, make_saved_claim(f"trn-{value}-output", "m", value, record))
        case "use":
            _use(world, value)
        case "make":
            _put(world, MODEL, make_model("m")) if value == "model" else _put(world, MODELSOURCE, make_source())


def end(world: World, job: Ref, how: Any) -> None:
    """A download ends; if it ends well, this very volume holds the files, and that is written where no plan looks."""
    volume = Ref(PVC, job.namespace, world.objects[job]["metadata"]["labels"]["modelyard.dev/volume"])
    finish_job(world, job, **how)
    if not how.get("failed") and volume in world.objects:
        world.edit(volume, lambda o: o.update(filled=True))


def _use(world: World, how: str) -> None:
    claims = tuple(r.name for r in world.objects if r.kind == PVC and r.name.startswith("mdl-"))[:1]
    if how == "start":
        status = {"frozen": True, "phase": "Running", "inputs": [{"name": "model", "model": "m"}]}
        if claims:
            status["inputs"][0]["pvcName"] = claims[0]  # type: ignore[index]
        training = make_training("t", spec={"model": {"ref": {"name": "m", "version": "v1"}}})
        _put(world, TRAINING, {**training, "status": status})
    elif how == "end":
        world.remove(TRAINING_REF)
    elif how == "pod" and claims:
        _put(world, POD, make_pod("reader", claims=claims, labels={"app.kubernetes.io/managed-by": "modelyard"}))
    elif how == "no pod":
        world.remove(POD_REF)


def _put(world: World, kind: Any, obj: Any) -> None:
    try:
        world.put(kind, obj)
    except WriteRefusedError:
        return


def check(cluster: Cluster) -> None:
    """What must hold at any moment."""
    world = cluster.world
    busy = [world.objects[j]["metadata"]["labels"]["modelyard.dev/volume"] for j in jobs_of(world)]
    assert len(busy) == len(set(busy)), "two downloads into one volume"
    for ref in cluster.roots():
        for action in cluster.plan(ref).actions:
            if isinstance(action, Delete):
                live = world.objects[action.ref]
                assert live["metadata"].get("labels") != {"whose": "theirs"}, "a stranger's object is deleted"
                assert action.uid == live["metadata"]["uid"]
    for entry in (cluster.status() if M in world.objects else {}).get("syncedVersions") or ():
        volume = world.objects.get(Ref(PVC, NS, entry.get("pvcName", "")))
        if volume is not None and entry.get("origin") == "Source" and entry["pvcName"] != "mine":
            assert volume.get("filled"), "an empty volume is served"
            written = volume["metadata"]["annotations"]["modelyard.dev/content"]
            assert written == entry["observedVersionHash"], "other content than asked for is served"


def complete(cluster: Cluster) -> None:
    """What must hold when all is calm: every version that can be there is, and nothing that nobody asked for."""
    world = cluster.world
    if M not in world.objects:
        return
    spec, entries = world.objects[M]["spec"], {e["name"]: e for e in cluster.status().get("syncedVersions") or ()}
    saved = {
        o["metadata"]["labels"]["modelyard.dev/version"] for o in world.list(PVC) if o["metadata"]["name"][:4] == "trn-"
    }
    source = world.objects.get(HUB)
    usable = source is not None and cluster.condition("Ready", HUB)["status"] == "True"
    for version in spec["versions"]:
        entry = entries[version["name"]]
        if not usable or version.get("repo") in (None, "not a repo") or version["name"] in saved:
            continue
        if version.get("state") == "ABSENT":
            assert "phase" not in entry
        elif "revision" in version and source is not None and source["spec"]["type"] != "HUGGING_FACE":
            assert entry["reason"] == "InvalidVersion"
        elif entry["phase"] != "Ready":
            assert (entry["phase"], entry["reason"]) in (("Failed", "NotFound"), ("Failed", "Unexpected"))
        elif source is not None and source["spec"]["type"] != "PVC":
            chosen = source["spec"]["type"], source["spec"].get("config") or {}, version["repo"]
            wanted = sources.content(*chosen, revision=version.get("revision")).hash
            assert entry["observedVersionHash"] == wanted
    if usable and (spec.get("retention") or {}).get("fetched") != "Retain":
        fetched = {
            o["metadata"]["name"]
            for o in world.list(PVC)
            if o["metadata"]["name"].startswith("mdl-")
            and o["metadata"].get("ownerReferences")
            and o["metadata"]["labels"]["modelyard.dev/version"] not in saved
        }
        failed = {r.name for r, o in world.objects.items() if r.kind == JOB and "failed" in (o.get("status") or {})}
        serving = {e.get("pvcName") for e in entries.values()}
        assert not {v for v in fetched - serving if not any(v in job for job in failed)}, "a volume is left over"


def summary(world: World) -> Any:
    """The end state without what differs from run to run."""
    found = []
    for ref, obj in world.objects.items():
        if ref.kind not in (MODEL, MODELSOURCE):
            continue
        status = obj.get("status") or {}
        entries = [
            (e["name"], e.get("phase"), e.get("observedVersionHash"), e.get("observedState"))
            for e in status.get("syncedVersions") or ()
        ]
        ready = [(c["type"], c["status"], c["reason"]) for c in status.get("conditions") or ()]
        found.append((ref, status.get("phase"), entries, ready))
    volumes = [r.name for r in world.objects if r.kind == PVC]
    return sorted(found, key=lambda x: x[0].name), len(volumes)


def calm(cluster: Cluster) -> None:
    """Nobody interferes any more: strangers and users leave, every download succeeds, time goes by."""
    world = cluster.world
    for ref, obj in list(world.objects.items()):
        if obj["metadata"].get("labels") == {"whose": "theirs"} or ref in (TRAINING_REF, POD_REF):
            world.remove(ref)
    cluster.settle()
    for _ in range(6):
        for job in jobs_of(world):
            end(world, job, {})
        cluster.settle()
        world.wait(3600)
        cluster.settle()
    assert not jobs_of(world)
    assert cluster.settle() == 0, "not silent at rest"
    check(cluster)
    complete(cluster)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(steps, st.integers(0, 8)), min_size=2, max_size=12), versions)
@example(life=[*FETCHED, (("delete", "claim and job"), 8), (("wait", 1), 1), (("wait", 1), 0)], first=[])
@example(life=[*FETCHED, (("delete", "claim"), 8), (("wait", 1), 1), (("wait", 1), 0)], first=[])
@example(life=[(("versions", [{"name": "v1", "repo": "org/a"}]), 1), (("delete", "source"), 1)], first=[])
@example(life=[(("use", "start"), 1), (("delete", "source"), 1)], first=[])
def test_every_interrupted_life_ends_as_an_undisturbed_one(
    life: list[tuple[tuple[str, Any], int]], first: list[Any]
) -> None:
    cluster = Cluster(make_source(), make_model("m"))
    if first:
        cluster.edit_spec(versions=first)
    for (what, value), upto in life:
        for ref in cluster.roots():
            check(cluster)
            cluster.world.apply(cluster.plan(ref), upto)
            cluster.world.settle()
        happen(cluster.world, what, value)
    undisturbed = cluster.over(cluster.world.copy())
    calm(undisturbed)
    for ref in cluster.roots():
        # A source that is being deleted may come to know it before or after the Model has begun a download from it.
        completed = cluster.over(cluster.world.copy())
        completed.world.apply(completed.plan(ref), len(completed.plan(ref).actions))
        calm(completed)
        wanted = (summary(undisturbed.world), summary(completed.world))
        for upto in range(len(cluster.plan(ref).actions)):
            interrupted = cluster.over(cluster.world.copy())
            interrupted.world.apply(interrupted.plan(ref), upto)
            check(interrupted)
            calm(interrupted)
            final = summary(interrupted.world)
            # It may come to know it between the claim and the Job, too: then the claim is there and waits for it.
            waiting = final[0] == wanted[0][0] and wanted[0][1] <= final[1] <= wanted[1][1]
            assert final in wanted or waiting


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=2, max_size=10), versions)
def test_every_prefix_of_every_plan_converges(life: list[tuple[str, Any]], first: list[Any]) -> None:
    cluster = Cluster(make_source(), make_model("m"))
    if first:
        cluster.edit_spec(versions=first)
    for what, value in life:
        happen(cluster.world, what, value)
        for ref in cluster.roots():
            for upto in range(len(cluster.plan(ref).actions) + 1):
                other = cluster.over(cluster.world.copy())
                other.world.apply(other.plan(ref), upto)
                check(other)
                other.settle()
                check(other)
                assert other.settle() == 0
        cluster.settle()
        for ref in cluster.roots():
            assert cluster.plan(ref).actions == ()
