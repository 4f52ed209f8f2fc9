"""What users do while the operator is disturbed: each scenario is a list of steps, each step an act and its outcome.

What comes before (`given`) is not disturbed: another scenario's steps are. A scenario needs nothing but its namespace,
and everything that a pod does follows from what its Job is, so that two runs differ in what the operator did alone.
"""

from __future__ import annotations

from support.faultscenarios.disruptions import DISRUPTIONS
from support.faultscenarios.models import MODELS
from support.faultscenarios.outputs import OUTPUTS
from support.faultscenarios.place import Place
from support.faultscenarios.runs import RUNS
from support.faultscenarios.shares import SHARES
from support.faultscenarios.stories import Scenario, Step
from support.kubelet import Ending
from support.trainings import STOPPED

__all__ = ["SCENARIOS", "STOPPED_POD", "Place", "Scenario", "Step"]

SCENARIOS = (*MODELS, *SHARES, *RUNS, *DISRUPTIONS, *OUTPUTS)
STOPPED_POD = Ending(75, STOPPED)
