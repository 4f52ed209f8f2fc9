"""`torch.compile` of a model in place: block by block where a model repeats one, else as a whole.

A repeated block is compiled once and used for all of them, which takes a fraction of the time that the whole takes,
and what a library does around its blocks (caches, counters) can't break the graph. Names of weights stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from torch import nn

from modelyard_training.core.errors import BadInput

_SHAPES = 256
"""Blocks of one class and different sizes that are compiled each. Beyond torch's own 8 a U-Net would go on without."""


def check_compiler(environment: Mapping[str, str]) -> None:
    """Raises `BadInput` where torch.compile would find no compiler, before anything is loaded."""
    if not any(shutil.which(name) for name in (environment.get("CXX") or "g++", "clang++", "gcc")):
        raise BadInput(
            "compile: true needs a C++ compiler, and there is none: install g++ in the image, or set compile: false."
        )


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a model: the members of its outermost lists of one class, if any."""
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList) and _alike(child):
            found += list(child)
        else:
            found += blocks(child)
    return found


def _alike(modules: nn.ModuleList) -> bool:
    # Two layers are enough for a tiny model; a list of one gains nothing.
    return len(modules) > 1 and len({type(module) for module in modules}) == 1


def compile_in_place(model: nn.Module) -> None:
    """Compiles `model`; it is still the same object, with the same names."""
    from torch._dynamo import config as dynamo
    from torch._inductor import config

    # Random numbers as without compilation: those of its own follow from how often and for what shapes it compiled,
    # which a resumed run has no part in.
    config.fallback_random = True
    dynamo.recompile_limit = max(dynamo.recompile_limit, _SHAPES)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 8 * _SHAPES)
    for module in blocks(model) or [model]:
        module.compile()
