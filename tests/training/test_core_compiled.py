"""What is compiled: every block of a model, however many sizes they have."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from modelyard_training.core import compiled


class Block(nn.Module):
    """One of a size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(values).relu()
        return found


class Sizes(nn.Module):
    """Pairs of blocks of twelve sizes, as a U-Net has them."""

    def __init__(self) -> None:
        super().__init__()
        for width in range(4, 16):
            self.add_module(f"pair{width}", nn.ModuleList([Block(width), Block(width)]))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found = []
        for width in range(4, 16):
            first, second = self.get_submodule(f"pair{width}").children()
            found.append(second(first(values[:, :width])).sum())
        return torch.stack(found).sum()


def test_blocks_of_many_sizes_are_all_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config

    model = Sizes()
    assert len(compiled.blocks(model)) == 24
    values = torch.randn(2, 16)
    expected = model(values)
    # What is asked is whether each is compiled, not by what.
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    names = [name for name, _ in model.named_parameters()]
    compiled.compile_in_place(model)
    monkeypatch.setattr(config, "fail_on_recompile_limit_hit", True)
    torch.testing.assert_close(model(values), expected)
    assert [name for name, _ in model.named_parameters()] == names
