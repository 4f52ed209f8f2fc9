"""Decisions about a Training. Pure."""

from modelyard.decide.training.decision import decide_training
from modelyard.decide.training.view import TrainingView

__all__ = ["TrainingView", "decide_training"]
