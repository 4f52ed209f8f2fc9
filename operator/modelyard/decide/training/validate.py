"""Whether a Training can be run as it is written, before anything is fetched or paid for.

Answers one reason and all that is wrong, so that one edit mends it. What a spec names and is not there counts as wrong
too; it is looked at again when it appears.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.decide.training import origin
from modelyard.decide.training.view import Context, TrainingView
from modelyard.plan import Obj
from modelyard.resources import sources, support
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.objects import is_deleting
from modelyard.resources.problems import ManifestError, Problem, describe, parse
from modelyard.resources.training.data import VersionRef
from modelyard_training.params import RECIPES

BASE_KINDS: Final = ("Full", None)
_PICTURE_FORMATS: Final = ("Images", "Tar")
TAKE_ASSISTANTS: Final = frozenset({"text-to-image-lora", "custom"})
TAKE_ADAPTERS: Final = frozenset({"causal-lm", "text-to-image-lora", "custom"})
"""Recipes that go on from an adapter, on the base that it brings."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the spec can't be run. `unknown`: nobody has looked yet."""

    reason: str
    message: str
    unknown: bool = False


def refusal(ctx: Context) -> Refusal | None:
    """What is wrong with the Training, or None."""
    if gaps := support.unsupported(ctx.spec):
        return Refusal("NotSupported", _sentence(describe(gaps)))
    if wrong := [*_recipe(ctx), *ctx.compute.problems(ctx.view.training)]:
        return Refusal("InvalidSpec", _sentence("; ".join(wrong)))
    return _model(ctx) or _assistant(ctx) or _dataset(ctx) or _origin(ctx)


def unshared(ctx: Context, entries: Iterable[Mapping[str, Any]]) -> Refusal | None:
    """What several nodes can't read at once, of inputs that are all there."""
    nodes = (ctx.spec.compute.nodes if ctx.spec.compute is not None else None) or 1
    if nodes == 1:
        return None
    view = ctx.view
    seen = [*view.inputs.values(), view.dataset_claim, view.origin_claim, view.data.claim, view.data.volume]
    modes = {o["metadata"]["name"]: o["spec"]["accessModes"] for o in seen if o and o["spec"].get("accessModes")}
    for entry in entries:
        known = modes.get(entry.get("pvcName") or "")
        if known and not {"ReadWriteMany", "ReadOnlyMany"} & set(known):
            return Refusal(
                "VolumeNotShared",
                f"spec.compute.nodes: {nodes} nodes read volume {entry['pvcName']} of the {entry['name']}, which is "
                f"{', '.join(known)}: it must be ReadWriteMany or ReadOnlyMany.",
            )
    return None


def version_entry(model: Obj, version: str) -> dict[str, Any] | None:
    """What the Model's status says about a version, `{}` if only its spec knows it, None if nobody does."""
    for entry in (model.get("status") or {}).get("syncedVersions") or ():
        if entry.get("name") == version:
            return dict(entry)
    known = any(v.get("name") == version for v in model["spec"].get("versions") or ())
    return {} if known else None


def _recipe(ctx: Context) -> list[str]:
    recipe = RECIPES[ctx.spec.recipe.name]
    base = ctx.spec.model.ref if ctx.spec.model is not None else None
    found = []
    # A text recipe without a word of the architecture goes on from an encoder.
    needed = recipe.base_model == "Required" or (recipe.family == "text" and not _asked(ctx))
    if needed and base is None:
        found.append(
            str(Problem("spec.model.ref", f"is required: recipe {recipe.name} fine-tunes a base model; name its Model"))
        )
    if recipe.base_model == "None" and base is not None:
        found.append(str(Problem("spec.model.ref", f"recipe {recipe.name} trains from scratch; remove the base model")))
    if recipe.name == "custom" and ctx.spec.recipe.determinism == "Bitwise":
        found.append(
            str(Problem("spec.recipe.determinism", "Bitwise can't be promised of a program of your own; remove it"))
        )
    if recipe.dataset == "Required" and ctx.spec.dataset is None:
        found.append(str(Problem("spec.dataset", f"is required: recipe {recipe.name} has nothing to learn from")))
    given = ctx.spec.dataset.format if ctx.spec.dataset is not None else None
    if given in _PICTURE_FORMATS and recipe.family != "image":
        found.append(str(Problem("spec.dataset.format", f"{given} is for image recipes; name CSV, JSONL or Parquet")))
    return [*found, *_architecture(ctx, recipe.family, base is not None)]


def _architecture(ctx: Context, family: str, based: bool) -> list[str]:
    """Whether a network from scratch is asked for beside a base model, or a base model's without one."""
    asked = _asked(ctx)
    at = f"spec.recipe.{family}.architecture"
    if asked == "Pretrained" and not based:
        return [str(Problem(at, "Pretrained goes on from a base model; name it in spec.model.ref"))]
    if asked not in (None, "Pretrained") and based:
        return [str(Problem(at, f"{asked} is trained from scratch; remove spec.model, or set it to Pretrained"))]
    return []


def _asked(ctx: Context) -> str | None:
    """`architecture` as it is written, where the recipe has it."""
    found: str | None = getattr(ctx.spec.recipe.params(), "architecture", None)
    return found


def _model(ctx: Context) -> Refusal | None:
    base = ctx.spec.model.ref if ctx.spec.model is not None else None
    if base is None:
        return None
    found = _version(ctx.view, "spec.model.ref", base.name, base.version)
    if isinstance(found, Refusal):
        return found
    if found.get("kind") == "Adapter" and ctx.spec.recipe.name in TAKE_ADAPTERS:
        return _base_of(ctx, base, found)
    if found.get("kind") not in BASE_KINDS:
        return Refusal(
            "WrongKind",
            f"spec.model.ref: version {base.version} of Model {base.name} is of kind {found['kind']}; recipe "
            f"{ctx.spec.recipe.name} starts from a full model.",
        )
    return None


def _base_of(ctx: Context, adapter: VersionRef, entry: dict[str, Any]) -> Refusal | None:
    """Whether the base that an adapter was trained on is still known."""
    at = f"spec.model.ref: adapter {adapter.version} of Model {adapter.name}"
    base = entry.get("baseRef") or {}
    if not base.get("name") or not base.get("version"):
        return Refusal("BaseUnknown", f"{at} does not say which base it was trained on: name a full model.")
    found = _version(ctx.view, f"{at} needs its base", base["name"], base["version"])
    if isinstance(found, Refusal):
        return found
    if found.get("kind") not in BASE_KINDS:
        return Refusal("WrongKind", f"{at} has a base of kind {found['kind']}, which is no full model.")
    return None


def _assistant(ctx: Context) -> Refusal | None:
    ref = assistant_ref(ctx)
    if ref is None:
        return None
    at = "spec.model.assistantRef"
    if ctx.spec.recipe.name not in TAKE_ASSISTANTS:
        text = f"recipe {ctx.spec.recipe.name} has no use for a second model; remove it"
        return Refusal("InvalidSpec", _sentence(str(Problem(at, text))))
    found = _version(ctx.view, at, ref.name, ref.version)
    return found if isinstance(found, Refusal) else None


def _dataset(ctx: Context) -> Refusal | None:
    dataset = ctx.spec.dataset
    if dataset is None:
        return None
    if dataset.ref is not None:
        found = _version(ctx.view, "spec.dataset.ref", dataset.ref.model, dataset.ref.version)
        return found if isinstance(found, Refusal) else None
    if dataset.pvc is not None:
        return _claim(ctx.view, dataset.pvc.claim_name)
    return _source(ctx)


def _origin(ctx: Context) -> Refusal | None:
    found = origin.wrong(ctx)
    return Refusal(found.reason, found.message) if found is not None else None


def _version(view: TrainingView, at: str, name: str, version: str) -> Refusal | dict[str, Any]:
    model = view.models.get(name)
    if model is None:
        return Refusal(
            "ModelNotFound",
            f"{at}: there is no Model {name} in this namespace; create it (models.modelyard.dev), or name another.",
        )
    if is_deleting(model):
        return Refusal("ModelTerminating", f"{at}: Model {name} is being deleted; name another.")
    entry = version_entry(model, version)
    if entry is None:
        names = [v["name"] for v in model["spec"].get("versions") or ()]
        names += [e["name"] for e in (model.get("status") or {}).get("syncedVersions") or ()]
        known = ", ".join(sorted(set(names))[:10]) or "none"
        return Refusal("VersionNotFound", f"{at}: Model {name} has no version {version}; it has: {known}.")
    return entry


def _claim(view: TrainingView, name: str) -> Refusal | None:
    if not view.dataset_claim_read:
        return Refusal("CheckingClaim", f"Looking for PersistentVolumeClaim {name}.", unknown=True)
    if view.dataset_claim is None:
        return Refusal(
            "ClaimNotFound",
            f"spec.dataset.pvc.claimName: there is no PersistentVolumeClaim {name} in this namespace; create it, or "
            "name another.",
        )
    if is_deleting(view.dataset_claim):
        return Refusal(
            "ClaimTerminating", f"spec.dataset.pvc.claimName: PersistentVolumeClaim {name} is being deleted."
        )
    return None


def _source(ctx: Context) -> Refusal | None:
    wanted = ctx.spec.dataset.source if ctx.spec.dataset is not None else None
    if wanted is None:
        return None
    source = ctx.view.source
    if source is None:
        return Refusal(
            "SourceNotFound",
            f"spec.dataset.source.sourceRef: there is no ModelSource {wanted.source_ref} in this namespace; create it, "
            "or name another.",
        )
    try:
        spec = parse(ModelSourceSpec, source.get("spec"))
    except ManifestError:
        return Refusal("SourceInvalid", f"ModelSource {wanted.source_ref} is not valid: see its conditions.")
    if sources.check_config(spec.type, spec.config):
        return Refusal("SourceInvalid", f"ModelSource {wanted.source_ref} is not valid: see its conditions.")
    wrong = sources.check_content(
        spec.type,
        spec.config,
        wanted.repo,
        revision=wanted.revision,
        include=wanted.wanted,
        exclude=wanted.exclude,
        at="spec.dataset.source",
    )
    return Refusal("InvalidSpec", _sentence(describe(wrong))) if wrong else None


def version_ref(ctx: Context) -> VersionRef | None:
    """The base model, if there is one."""
    return ctx.spec.model.ref if ctx.spec.model is not None else None


def assistant_ref(ctx: Context) -> VersionRef | None:
    """The second model, if there is one."""
    return ctx.spec.model.assistant_ref if ctx.spec.model is not None else None


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
