"""One case: a scenario in a namespace of its own, with its own operator and a plan of faults; and its judgement."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.resources.meta import DATASET, NAMESPACE, NODE
from support.cluster import CRD, Kube, Refused, new_namespace
from support.faultoperator import ForkedOperator
from support.faultproxy import Fault, FaultProxy, Lane, StaleLists, StreamFault, StreamFaults, Write
from support.faultscenarios import STOPPED_POD, Place, Scenario, Step
from support.faultstate import Recorder, cost_gaps, differences, end_state, violations
from support.kubelet import PretendKubelet

Obj = dict[str, Any]
SETTINGS: Obj = {
    "dataPlane": "native",
    "workers": 1,  # so that the order of writes replays
    "secrets": {"periodSeconds": 1},
    "download": {"backoffSeconds": 1, "maxBackoffSeconds": 2},
    "storage": {"defaultSize": "1Gi"},
    "training": {"analysis": "WhenAsked"},
}
STEP_SECONDS = 120
END_SECONDS = 60
ROUNDED_SECONDS = 2
LATE_SECONDS = 30
"""How late it may be seen that a pod ended: while the operator is away or the machine is slow, the pod and its Job may
both be gone before it looks. What was held is never told too low."""

GIVEN_QUIET_SECONDS = 0.8
END_QUIET_SECONDS = 1.2
REFERENCE_QUIET_SECONDS = 4.0


class StuckError(Exception):
    """A step did not come to its outcome."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to. `hits`: the faults that struck; `problems`: what must not be.

    `gap`: seconds by which the GPU time that a Training tells differs from what its pods held.
    """

    state: Obj
    made: Counter[str]
    writes: tuple[Write, ...]
    hits: tuple[str, ...]
    kills: int
    ends: int
    gap: int
    problems: tuple[str, ...]


class Stage:
    """Where cases are played: one cluster, one proxy."""

    def __init__(self, kube: Kube, proxy: FaultProxy, recorder: Recorder, folder: Path) -> None:
        self.kube = kube
        self.proxy = proxy
        self.recorder = recorder
        self.folder = folder
        self._alone = threading.Lock()

    def play(
        self,
        scenario: Scenario,
        *faults: Fault,
        stream: StreamFault | StreamFaults | None = None,
        stale: StaleLists | None = None,
        like: Outcome | None = None,
        settings: Obj | None = None,
    ) -> Outcome:
        """The case; compared with the undisturbed one, if that is given."""
        with self._alone if scenario.datasets else nullcontext():
            return self._play(scenario, faults, stream, stale, like, settings)

    def _play(
        self,
        scenario: Scenario,
        faults: tuple[Fault, ...],
        stream: StreamFault | StreamFaults | None,
        stale: StaleLists | None,
        like: Outcome | None,
        settings: Obj | None,
    ) -> Outcome:
        namespace = new_namespace(self.kube, "fault")
        lane = self.proxy.lane(namespace)
        place = Place(self.kube, namespace, lane.watching)
        own = {**SETTINGS, **(settings or {})}
        if scenario.datasets:
            own |= {"dataPlane": "auto", "baize": {"loader": "modelyard", "discoverySeconds": 1}}
        if scenario.shares:
            own["storage"] = {**SETTINGS["storage"], "persistentVolumes": True}
            named = {"name": place.there, "labels": {"to": namespace}}
            self.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": named}, NAMESPACE)
            self.proxy.join(lane, place.there)
        more = (place.there,) if scenario.shares else ()
        operator = ForkedOperator(self.proxy.kubeconfig, self.folder, namespace, own, *more)
        lane.kill = operator.kill
        kubelet = PretendKubelet(self.kube, namespace, scenario.script, stopped=STOPPED_POD)
        try:
            return _Case(self, scenario, place, lane, operator, kubelet, like).play(
                lambda: lane.arm(*faults, stream=stream, stale=stale)
            )
        finally:
            operator.end()
            if scenario.datasets:
                self._without_datasets(place)
            self.kube.delete(NODE, "", f"node-{namespace}")

    def _without_datasets(self, place: Place) -> None:
        """For the next case; a CRD goes once all of its objects have gone."""
        with suppress(Refused):
            place.withdraw_datasets()
        deadline = time.monotonic() + STEP_SECONDS
        while self.kube.find(CRD, "", f"{DATASET.plural}.{DATASET.group}") is not None:
            assert time.monotonic() < deadline, "the CRD of Datasets stays"
            time.sleep(0.2)


class _Case:
    def __init__(
        self,
        stage: Stage,
        scenario: Scenario,
        place: Place,
        lane: Lane,
        operator: ForkedOperator,
        kubelet: PretendKubelet,
        like: Outcome | None,
    ) -> None:
        self._stage = stage
        self._scenario = scenario
        self._place = place
        self._lane = lane
        self._operator = operator
        self._kubelet = kubelet
        self._like = like
        self._ends = 0

    def play(self, arm: Callable[[], None]) -> Outcome:
        problems: list[str] = []
        self._operator.start()
        self._wait(self._lane.leading.is_set, "the operator to lead", STEP_SECONDS)
        try:
            for step in self._scenario.given:
                self._step(step)
            self._wait(lambda: self._lane.quiet() > GIVEN_QUIET_SECONDS, "quiet", STEP_SECONDS)
            arm()
            for step in self._scenario.steps:
                self._step(step)
            self._settle()
        except StuckError as error:
            problems.append(str(error))
        state = end_state(self._place.kube, self._place.namespace)
        made = self._lane.made()
        if self._like is not None:
            problems += differences(state, self._like.state)
            for write in sorted({*made, *self._like.made}):
                if made[write] != self._like.made[write]:
                    problems.append(f"{write}: {made[write]} times, not {self._like.made[write]}")
        states = self._stage.recorder.states(self._place.namespace)
        problems += violations(states)
        gaps = dict(cost_gaps(states))
        gap = max(gaps.values(), default=0)
        if gap > LATE_SECONDS or min(gaps.values(), default=0) < -ROUNDED_SECONDS:
            problems.append(f"GPU time told and held differ, in seconds: {gaps}")
        if problems:
            problems.append(f"the operator's last words:\n{self._operator.tail()}")
        lane = self._lane
        return Outcome(state, made, tuple(lane.writes), tuple(lane.hits), lane.kills, self._ends, gap, tuple(problems))

    def _step(self, step: Step) -> None:
        step.act(self._place)
        self._wait(lambda: step.outcome(self._place), f"the outcome of {step.name!r}", STEP_SECONDS)

    def _settle(self) -> None:
        """Until it is as it should be and nothing more is written, or for so long as it may take to become so."""
        if self._like is None:
            self._wait(lambda: self._lane.quiet() > REFERENCE_QUIET_SECONDS, "silence", END_SECONDS)
            return
        wanted = self._like.state
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            self._turn()
            quiet = self._lane.quiet() > END_QUIET_SECONDS and self._lane.leading.is_set()
            if quiet and end_state(self._place.kube, self._place.namespace) == wanted:
                return
            time.sleep(0.2)

    def _wait(self, look: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not look():
            if time.monotonic() > deadline:
                raise StuckError(f"waited {seconds:.0f} s in vain for {what}")
            self._turn()
            time.sleep(0.15)

    def _turn(self) -> None:
        """Pods move, and an operator that ended starts again."""
        self._kubelet.step()
        if not self._operator.running():
            self._ends += 1
            self._lane.leading.clear()
            self._operator.end()
            self._operator.start()
