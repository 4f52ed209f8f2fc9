"""Models and ModelSources in a world: both controllers over it, and what tests ask again and again."""

from __future__ import annotations

from typing import Any

from modelyard.controllers.model import ModelController
from modelyard.controllers.modelsource import ModelSourceController
from modelyard.plan import Key, Kind, Plan, Ref
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, PVC, SECRET
from modelyard.settings import Settings
from support.build import NS, make_model, make_source
from support.world import World, converge, finish_job, jobs_of
from support.world_facts import WorldFacts

Obj = dict[str, Any]
HUB = Ref(MODELSOURCE, NS, "hub")
M = Ref(MODEL, NS, "m")


class Cluster:
    """A world with the ModelSource and the Model controller."""

    def __init__(
        self, *objects: Obj, settings: Settings | None = None, world: World | None = None, datasets: bool = False
    ) -> None:
        self.world = world or World()
        self.facts = WorldFacts(self.world)
        self.sources = ModelSourceController()
        self.models = ModelController(settings or Settings(namespace="modelyard-system"), datasets=datasets)
        if world is None:
            self.sources.setup(self.world)  # type: ignore[arg-type]
            self.models.setup(self.world)  # type: ignore[arg-type]
        for obj in objects:
            self.put(obj)

    def put(self, obj: Obj) -> Obj:
        """A user creates it."""
        kinds = {"ModelSource": MODELSOURCE, "Model": MODEL, "PersistentVolumeClaim": PVC, "Secret": SECRET, "Job": JOB}
        kind = kinds.get(obj["kind"]) or Kind(obj["apiVersion"], obj["kind"], obj["kind"].lower() + "s")
        return self.world.put(kind, obj)

    def over(self, world: World) -> Cluster:
        """The same controllers over another world."""
        return Cluster(settings=self.models._settings, world=world, datasets=self.models._datasets)

    def keys(self) -> list[tuple[Any, Key]]:
        """Every root with its controller."""
        return [
            (controller, Key(o["metadata"]["namespace"], o["metadata"]["name"]))
            for controller in (self.sources, self.models)
            for o in self.world.list(controller.kind)
        ]

    def plan(self, ref: Ref) -> Plan:
        """What the controller of that kind wants for the root now."""
        controller: Any = self.sources if ref.kind == MODELSOURCE else self.models
        view = controller.view(self.world, self.facts, Key(ref.namespace, ref.name))
        return Plan() if view is None else controller.decide(view, self.world.now)

    def roots(self) -> list[Ref]:
        """Every root."""
        return [r for r in self.world.objects if r.kind in (MODELSOURCE, MODEL)]

    def settle(self, rounds: int = 40) -> int:
        """Decides and applies until nobody asks for anything; answers the writes."""
        keys = [Key(str(r.kind.kind), f"{r.namespace}/{r.name}") for r in self.roots()]
        by_key = dict(zip(keys, self.roots(), strict=True))
        return converge(self.world, keys, lambda _, key: self.plan(by_key[key]), rounds)

    def finish(self, **how: Any) -> None:
        """Every running download ends."""
        for job in jobs_of(self.world):
            finish_job(self.world, job, **how)

    def status(self, ref: Ref = M) -> Obj:
        """The root's status."""
        return dict(self.world.objects[ref].get("status") or {})

    def entry(self, version: str = "v1", ref: Ref = M) -> Obj:
        """A version's entry in the status."""
        return next(e for e in self.status(ref)["syncedVersions"] if e["name"] == version)

    def condition(self, type: str, ref: Ref = M) -> Obj:
        """A condition of the root."""
        return next(c for c in self.status(ref)["conditions"] if c["type"] == type)

    def claims(self) -> list[str]:
        """Names of all volume claims."""
        return sorted(r.name for r in self.world.objects if r.kind == PVC)

    def jobs(self) -> list[str]:
        """Names of all Jobs."""
        return sorted(r.name for r in self.world.objects if r.kind == JOB)

    def edit_spec(self, ref: Ref = M, **fields: Any) -> None:
        """A user changes fields of the spec."""
        self.world.edit(ref, lambda o: o["spec"].update(fields))

    def edit_version(self, index: int = 0, **fields: Any) -> None:
        """A user changes a version; None removes a field."""

        def change(obj: Obj) -> None:
            version = obj["spec"]["versions"][index]
            version.update(fields)
            for key in [k for k, v in version.items() if v is None]:
                del version[key]

        self.world.edit(M, change)


def ready_model(*versions: Obj, **fields: Any) -> Cluster:
    """A public hub and a Model `m` whose versions are all there."""
    cluster = Cluster(make_source(), make_model("m", *versions, **fields))
    cluster.settle()
    cluster.finish()
    cluster.settle()
    return cluster
