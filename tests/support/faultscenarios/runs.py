"""A Training waits for a person, is stopped, fails and is tried again."""

from __future__ import annotations

from modelyard.resources.meta import JOB, PVC, TRAINING
from support.faultscenarios.place import Place
from support.faultscenarios.stories import Scenario, Step, trained
from support.faultscenarios.submitted import ENDED, RUNNING, clean, failed, submit
from support.kubelet import Ending
from support.trainings import BAD


def _asked(place: Place, generation: int) -> bool:
    """A person is asked about that generation, and nothing runs."""
    seen = place.status(TRAINING, "t").get("observedGeneration")
    return seen == generation and place.phase("AwaitingApproval") and not place.names(JOB)


def _approve(place: Place) -> None:
    digest = place.status(TRAINING, "t")["analysis"]["digest"]
    approval = {"metadata": {"annotations": {"modelyard.dev/approve": digest}}}
    place.kube.merge(TRAINING, place.namespace, "t", approval)


RUNS = (
    Scenario(
        "training paused",
        (
            Step(
                "pause",
                lambda p: p.edit(TRAINING, "t", suspend=True),
                lambda p: p.phase("Suspended") and not p.names(JOB),
            ),
            Step("resume", lambda p: p.edit(TRAINING, "t", suspend=False), lambda p: clean(p, "Succeeded")),
        ),
        given=(RUNNING,),
        script=trained(None, ENDED),
    ),
    Scenario(
        "training approved",
        (
            Step("submit", submit(pauseAfter="Analysis"), lambda p: _asked(p, 1)),
            Step("approve", _approve, lambda p: clean(p, "Succeeded")),
        ),
        script=trained(ENDED),
    ),
    Scenario(
        "other data before approval",
        (
            Step(
                "other data",
                lambda p: p.edit(TRAINING, "t", dataset={"path": "other.csv"}),
                lambda p: _asked(p, 2),
            ),
            Step("go on", lambda p: p.edit(TRAINING, "t", pauseAfter=None), lambda p: p.phase("Running")),
        ),
        given=(Step("submit", submit(pauseAfter="Analysis"), lambda p: _asked(p, 1)),),
        script=trained(None),
    ),
    Scenario(
        "training retried",
        (Step("submit", submit(), lambda p: clean(p, "Succeeded")),),
        script=trained(Ending(1), ENDED),
    ),
    Scenario(
        "training failed",
        (Step("submit", submit(retry={"onError": 0}), failed),),
        script=trained(Ending(1)),
    ),
    Scenario(
        "bad input",
        (Step("submit", submit(), failed),),
        script=trained(Ending(64, BAD)),
    ),
    Scenario(
        "training deleted",
        (
            Step(
                "delete",
                lambda p: p.delete(TRAINING, "t"),
                lambda p: p.went(TRAINING, "t") and not p.names(JOB) and p.names(PVC) == ["rows"],
            ),
        ),
        given=(RUNNING,),
        script=trained(None),
    ),
)
