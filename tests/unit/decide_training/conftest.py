"""The world of a Training: in memory, with data and a model that are there."""

from __future__ import annotations

from support.training_life import world

__all__ = ["world"]
