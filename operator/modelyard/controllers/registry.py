"""The controllers that the operator runs: one a kind."""

from __future__ import annotations

from typing import Any

from modelyard.controllers.model import ModelController
from modelyard.controllers.modelsource import ModelSourceController
from modelyard.controllers.protocol import Controller
from modelyard.controllers.training import TrainingController
from modelyard.settings import Settings


def controllers(settings: Settings, *, datasets: bool = False) -> list[Controller[Any]]:
    """A new controller of each kind. `datasets`: the kind Dataset is served."""
    return [ModelSourceController(), ModelController(settings, datasets=datasets), TrainingController(settings)]
