"""`torch.compile` of a model in place: block by block where a model repeats one, else as a whole.

A repeated block is compiled once and used for all of them, which takes a fraction of the time that the whole takes,
and what a library does around its blocks (caches, counters) can't break the graph. Names of weights stay.
"""

from __future__ import annotations

from torch import nn


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
    for module in blocks(model) or [model]:
        module.compile()
