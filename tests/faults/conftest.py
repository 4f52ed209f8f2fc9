from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from localcluster import ControlPlane
from support.cluster import Kube, control_plane, kube
from support.faultcases import Outcome, Stage
from support.faultproxy import FaultProxy
from support.faultscenarios import Scenario
from support.faultstate import Recorder

__all__ = ["control_plane", "kube"]

AT_ONCE = 12
_rows: list[tuple[str, ...]] = []


class Faults:
    """Plays cases, several at a time, and knows the undisturbed run of each scenario."""

    def __init__(self, stage: Stage, pool: ThreadPoolExecutor) -> None:
        self.stage = stage
        self._pool = pool
        self._references: dict[str, Any] = {}

    def reference(self, scenario: Scenario) -> Outcome:
        """The undisturbed run, played once."""
        if scenario.name not in self._references:
            first = self.stage.play(scenario)
            assert not first.problems, "\n".join(first.problems)
            self._references[scenario.name] = first
        outcome: Outcome = self._references[scenario.name]
        return outcome

    def play(self, scenario: Scenario, plans: list[dict[str, Any]]) -> list[Outcome]:
        """One case a plan, each compared with the undisturbed run."""
        like = self.reference(scenario)

        def one(plan: dict[str, Any]) -> Outcome:
            return self.stage.play(scenario, *plan.get("faults", ()), **plan.get("others", {}), like=like)

        return list(self._pool.map(one, plans))

    def play_all(self, cases: list[tuple[Scenario, dict[str, Any]]]) -> list[Outcome]:
        """Cases of several scenarios, with their undisturbed runs before."""
        new = {s.name: s for s, _ in cases if s.name not in self._references}
        list(self._pool.map(self.reference, new.values()))

        def one(case: tuple[Scenario, dict[str, Any]]) -> Outcome:
            scenario, plan = case
            like = self._references[scenario.name]
            return self.stage.play(scenario, *plan["faults"], **plan["others"], like=like)

        return list(self._pool.map(one, cases))

    def report(self, *row: object) -> None:
        """A line of the table that is printed at the end."""
        _rows.append(tuple(str(cell) for cell in row))


@pytest.fixture(scope="package")
def faults(control_plane: ControlPlane, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """One control plane and one proxy for all cases."""
    folder = tmp_path_factory.mktemp("faults")
    recorder = Recorder()
    with FaultProxy(control_plane.kubeconfig, folder, recorder) as proxy, ThreadPoolExecutor(AT_ONCE) as pool:
        yield Faults(Stage(kube, proxy, recorder, folder), pool)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table."""
    if not _rows:
        return
    terminalreporter.section("faults")
    heads = ("scenario", "faults", "writes", "cases", "kills", "divergences", "cost gap s")
    sums = [str(sum(int(row[column]) for row in _rows)) for column in range(2, 6)]
    for row in [heads, *_rows, ("all", "", *sums, str(max(int(row[6]) for row in _rows)))]:
        scenario, *rest = row
        terminalreporter.write_line(f"{scenario:26} {rest[0]:26} " + " ".join(f"{cell:>11}" for cell in rest[1:]))
