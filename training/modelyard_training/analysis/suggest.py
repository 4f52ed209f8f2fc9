"""Conclusions from a profile: recipe, target and parameters that suit the data, each with its reason. Pure.

Only what differs from the documented default is suggested, and only where the data give a reason for it. A suggestion
never changes what the analysis itself reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Suggested = dict[str, Any]

_SMALL, _LARGE, _HUGE = 1_000, 20_000, 200_000
_UNEVEN = 5
"""From so many times as many rows in the largest class as in the smallest one, the smallest needs more weight."""


def said(value: Any, reason: str) -> dict[str, Any]:
    """One suggestion."""
    return {"value": value, "reason": reason}


def tabular(profile: Mapping[str, Any], recipe: str, target: str) -> Suggested:
    """For a table."""
    rows = profile["split"]["train"]
    params: Suggested = {}
    if rows < _SMALL:
        params["batchSize"] = said(32, f"{rows} training rows give few steps an epoch with larger batches")
        params["hiddenSizes"] = said([64, 64], f"a wider network learns {rows} rows by heart")
        params["dropout"] = said(0.2, f"against overfitting on {rows} rows")
    elif rows >= _HUGE:
        params["batchSize"] = said(1024, f"{rows} training rows: larger batches use the hardware better")
        params["hiddenSizes"] = said([512, 256], f"{rows} rows can teach a wider network")
        params["epochs"] = said(20, f"each epoch has {rows // 1024} steps already")
    elif rows >= _LARGE:
        params["batchSize"] = said(256, f"{rows} training rows: larger batches use the hardware better")
        params["hiddenSizes"] = said([256, 256], f"{rows} rows can teach a wider network")
    return {**_what(profile, recipe, target), "params": params | _weights(profile)}


def text(profile: Mapping[str, Any], recipe: str, target: str, most: int) -> Suggested:
    """For texts with labels. `most`: tokens that the base model takes."""
    rows, tokens = profile["split"]["train"], profile["tokens"]
    params: Suggested = {}
    length = fitting_length(tokens, most)
    if length is not None:
        params["maxLength"] = said(length, f"95 % of the texts have at most {tokens['p95']} tokens")
    if rows < _SMALL:
        params["batchSize"] = said(16, f"{rows} training texts give few steps an epoch with larger batches")
        params["epochs"] = said(8, f"{rows} training texts have to be seen more often")
    elif rows >= _HUGE:
        params["epochs"] = said(1, f"one pass over {rows} texts teaches most of it")
    return {**_what(profile, recipe, target), "params": params | _weights(profile)}


def language(profile: Mapping[str, Any], model: Mapping[str, Any]) -> Suggested:
    """For texts or chats that a language model goes on with."""
    rows, tokens = profile["split"]["train"], profile["tokens"]
    params: Suggested = {}
    most = int(model.get("positions") or 2**20)
    if profile["kind"] != "texts" and (length := fitting_length(tokens, most)) is not None:
        params["sequenceLength"] = said(length, f"95 % of the documents have at most {tokens['p95']} tokens")
    if rows < _SMALL:
        params["epochs"] = said(5, f"{rows} documents have to be seen more often")
        params["learningRate"] = said(1e-4, f"a smaller rate keeps {rows} documents from being learnt by heart")
    elif rows >= _HUGE:
        params["epochs"] = said(1, f"one pass over {rows} documents teaches most of it")
    recipe = said("causal-lm", f"the data are {profile['kind']}, which a language model learns to go on with")
    return {"recipe": recipe, "params": params}


def pictures(profile: Mapping[str, Any], recipe: str, *, scratch: bool = False) -> Suggested:
    """For pictures. `scratch`: without a base model that has a size of its own."""
    count, sizes = profile["rows"], profile.get("pictures") or {}
    params: Suggested = {}
    if recipe == "text-to-image-lora":
        steps = min(4000, max(500, count * 75))
        params["maxSteps"] = said(steps, f"about 75 steps for each of {count} pictures")
        why = "the pictures have captions" if profile.get("captions") else "a prompt stands for captions"
        return {"recipe": said(recipe, why), "params": params}
    edge = sizes.get("medianEdge") or 224
    size = next((s for s in (32, 64, 96, 128, 160, 224) if s >= edge), 224)
    if scratch and size != profile["imageSize"]:
        params["imageSize"] = said(size, f"the shorter edge of half the pictures has at most {edge} pixels")
    if count < _SMALL:
        params["augment"] = said("Strong", f"{count} pictures are few: random changes make more of them")
    target = (profile.get("target") or {}).get("column", "")
    return {**_what(profile, recipe, target), "params": params | _weights(profile)}


def fitting_length(tokens: Mapping[str, Any], most: int) -> int | None:
    """A multiple of 32 that holds 95 % of the texts; None where that is no help."""
    wanted = -(-int(tokens["p95"]) // 32) * 32
    return min(wanted, most) if wanted > 0 else None


def _what(profile: Mapping[str, Any], recipe: str, target: str) -> Suggested:
    about = profile.get("target") or {}
    family = recipe.rpartition("-")[0]
    column: Mapping[str, Any] = next((c for c in profile.get("columns") or () if c["name"] == target), {})
    if about.get("kind") == "classes":
        reason = f"'{target}' has {about['outputs']} different values"
        kind = "classification"
        if column.get("type") == "number" and about["outputs"] > 20:
            kind, reason = "regression", f"'{target}' is a number with {about['outputs']} different values"
    else:
        kind, reason = "regression", f"'{target}' is a number"
        distinct = column.get("distinct")
        if distinct is not None and distinct <= 10:
            kind, reason = "classification", f"'{target}' has only {distinct} different values"
    return {
        "recipe": said(f"{family}-{kind}", reason),
        "target": said(target, "named in dataset.columns, or by its usual name"),
    }


def _weights(profile: Mapping[str, Any]) -> Suggested:
    counts = (profile.get("target") or {}).get("classes") or {}
    if len(counts) < 2 or max(counts.values()) < _UNEVEN * min(counts.values()):
        return {}
    most, least = max(counts.values()), min(counts.values())
    return {"classWeights": said("Balanced", f"the largest class has {most} rows, the smallest {least}")}
