"""A small real controller for tests of the runtime: a ConfigMap that asks for it gets children with its data.

Run as a process of its own, it is the whole operator with this controller in place of ours.

A root is a ConfigMap labelled `copier=root`; its data says what to do: `children: "2"` makes `<name>-0`, `<name>-1`
(irrevocable creates), any other number of them deletes the rest; `boom` makes the decision raise; `finalizer: "yes"`
puts the guard on. The outcome is written to the annotation `copier/state`, by the root's resourceVersion.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import uvloop

from modelyard.cluster.facts import Facts
from modelyard.cluster.store import Store
from modelyard.cluster.watched import Scope, Watched
from modelyard.controllers.operator import run
from modelyard.controllers.protocol import SETTLE_SECONDS
from modelyard.observed import SecretFact
from modelyard.plan import (
    Action,
    Apply,
    Create,
    Delete,
    Event,
    Key,
    Kind,
    Obj,
    PatchMetadata,
    Plan,
    Ref,
    SetFinalizers,
)
from modelyard.resources.meta import CONFIGMAP, FINALIZER, SECRET
from modelyard.settings import load_settings

STATE = "copier/state"
ROOT = "root"
CHILD = "child"
SELECTOR = "copied=yes"


@dataclass(frozen=True, slots=True)
class View:
    """A root, its children by name, what has their names and is not in the store, and its Secret."""

    root: Obj
    children: dict[str, Obj]
    taken: dict[str, Obj]
    secret: SecretFact | None


class Copier:
    """The controller."""

    kind: Kind = CONFIGMAP
    settle = SETTLE_SECONDS

    def setup(self, store: Store) -> None:
        """No index."""

    def roots(self, kind: Kind, obj: Obj, store: Store) -> Iterable[Key]:
        """The root itself, or the owner of a child."""
        meta = obj["metadata"]
        if _role(obj) == ROOT:
            yield Key(meta["namespace"], meta["name"])
        for owner in meta.get("ownerReferences") or ():
            yield Key(meta["namespace"], owner["name"])

    def indifferent(self, kind: Kind, old: Obj, new: Obj) -> bool:
        """Everything matters."""
        return False

    def reads(self, root: Obj, store: Store) -> Iterable[Ref]:
        """The Secret that the root names."""
        if name := (root.get("data") or {}).get("secret"):
            yield Ref(SECRET, root["metadata"]["namespace"], name)

    def view(self, store: Store, facts: Facts, key: Key) -> View | None:
        """None for what is no root."""
        root = store.get(CONFIGMAP, *key)
        if root is None or _role(root) != ROOT:
            return None
        children = {c["metadata"]["name"]: c for c in store.owned(_uid(root))}
        wanted = [Ref(CONFIGMAP, key.namespace, name) for name in _wanted(root)]
        taken = {ref.name: obj for ref in wanted if (obj := facts.taken(ref)) is not None}
        secret = next((facts.secret(ref) for ref in self.reads(root, store)), None)
        return View(root, children, taken, secret)

    def decide(self, view: View, now: datetime) -> Plan:
        """Intent, children, outcome."""
        root, data = view.root, view.root.get("data") or {}
        if "boom" in data:
            raise ValueError(f"this text must not be logged: {data['boom']}")
        if "deletionTimestamp" in root["metadata"]:
            return Plan(_guard(root, wanted=False))
        wanted = _wanted(root)
        foreign = [name for name, obj in view.taken.items() if name in wanted and not _owned_by(obj, root)]
        actions: list[Action] = list(_guard(root, wanted=data.get("finalizer") == "yes"))
        for name in wanted:
            child = view.children.get(name)
            if child is None and not foreign:
                actions.append(Create(CONFIGMAP, _child(root, name), irrevocable=True))
            elif child is not None and child.get("data") != data:
                update = {"metadata": {"namespace": child["metadata"]["namespace"], "name": name}}
                update["metadata"]["uid"] = _uid(child)
                actions.append(Apply(CONFIGMAP, {**update, "data": dict(data)}))
        for name, child in view.children.items():
            if name not in wanted and "deletionTimestamp" not in child["metadata"]:
                actions.append(Delete(_ref(child), _uid(child)))
        state = f"NameTaken:{','.join(foreign)}" if foreign else f"Ready:{len(wanted)}"
        if view.secret is not None:
            state += f":{','.join(sorted(view.secret.present)) if view.secret.exists else 'NoSecret'}"
        if (root["metadata"].get("annotations") or {}).get(STATE) != state:
            version = root["metadata"]["resourceVersion"]
            actions.append(PatchMetadata(_ref(root), _uid(root), version, {"annotations": {STATE: state}}))
            actions.append(Event(_ref(root), _uid(root), "Copied", state))
        return Plan(tuple(actions), requeue_after=30.0 if foreign else None)


def _guard(root: Obj, wanted: bool) -> tuple[SetFinalizers, ...]:
    meta = root["metadata"]
    if (FINALIZER in (meta.get("finalizers") or ())) == wanted:
        return ()
    finalizers = (FINALIZER,) if wanted else ()
    return (SetFinalizers(_ref(root), meta["uid"], meta["resourceVersion"], finalizers),)


def _ref(obj: Obj) -> Ref:
    return Ref(CONFIGMAP, obj["metadata"]["namespace"], obj["metadata"]["name"])


def _uid(obj: Obj) -> str:
    return str(obj["metadata"]["uid"])


def _owned_by(obj: Obj, root: Obj) -> bool:
    return any(owner["uid"] == _uid(root) for owner in obj["metadata"].get("ownerReferences") or ())


def _role(obj: Obj) -> str:
    return str((obj["metadata"].get("labels") or {}).get("copier", ""))


def _wanted(root: Obj) -> list[str]:
    return [f"{root['metadata']['name']}-{n}" for n in range(int((root.get("data") or {}).get("children", "0")))]


def _child(root: Obj, name: str) -> Obj:
    return {
        "metadata": {
            "name": name,
            "namespace": root["metadata"]["namespace"],
            "labels": {"copier": CHILD, "copied": "yes"},
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "name": root["metadata"]["name"],
                    "uid": _uid(root),
                    "controller": True,
                }
            ],
        },
        "data": dict(root.get("data") or {}),
    }


def main() -> int:
    """The operator's process with this controller."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path)
    settings = load_settings(parser.parse_args().settings)
    scope = Scope((Watched(CONFIGMAP, SELECTOR),), settings.watch_namespaces)
    return uvloop.run(run(settings, [Copier()], scope))


if __name__ == "__main__":
    raise SystemExit(main())
