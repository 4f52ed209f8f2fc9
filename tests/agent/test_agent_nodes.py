"""Two agents, as in the two pods of a run of two nodes, with our trainer under torchrun and gloo between them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from support.agent_runs import AgentRun, Ended
from support.ports import free_port

pytestmark = pytest.mark.timeout(900)
CONFIG: dict[str, Any] = {
    "recipe": "tabular-classification",
    "params": {"epochs": 3, "batchSize": 8, "earlyStopping": {"patience": 0}},
    "checkpoint": {"everySteps": 20},
}


class Nodes:
    """The agents of a run, each in a folder of its own, with one output volume and one data set."""

    def __init__(self, folder: Path, config: dict[str, Any], rows: list[str]) -> None:
        data, self.output = folder / "data", folder / "output"
        for made in (data, self.output):
            made.mkdir(exist_ok=True)
        (data / "rows.csv").write_text("a,b,target\n" + "\n".join(rows) + "\n")
        port = free_port()
        self.agents = []
        for index in (0, 1):
            own = folder / f"node-{index}-{port}"
            own.mkdir()
            env = {
                "MODELYARD_CONFIG": json.dumps(config),
                "MODELYARD_DATASET": str(data),
                "MODELYARD_OUTPUT": str(self.output),
                "MODELYARD_NODES": "2",
                "MODELYARD_MASTER_ADDR": "localhost",
                "MODELYARD_MASTER_PORT": str(port),
                "MODELYARD_GRACE_SECONDS": "60",
                "JOB_COMPLETION_INDEX": str(index),
                "OMP_NUM_THREADS": "1",
            }
            self.agents.append(AgentRun(own, env).start_command([]))

    def end(self) -> list[Ended]:
        return [agent.end() for agent in self.agents]

    def told(self) -> str:
        return "\n".join(agent.stderr() for agent in self.agents)


def rows(count: int = 400) -> list[str]:
    return [f"{i % 7},{i % 11},{'x' if (i % 7) > 3 else 'y'}" for i in range(count)]


def test_two_nodes_stop_on_one_step_and_go_on_to_one_result(tmp_path: Path) -> None:
    long = {**CONFIG, "params": {**CONFIG["params"], "epochs": 4000}}
    nodes = Nodes(tmp_path, long, rows())
    deadline = time.monotonic() + 300
    while not list(nodes.output.glob("checkpoints/step-*/complete.json")):
        assert time.monotonic() < deadline, nodes.told()
        time.sleep(0.05)
    nodes.agents[1].signal()  # only one of the nodes is drained
    first, second = nodes.end()
    assert (first.code, second.code) == (75, 75), nodes.told()
    step = first.message["checkpoint"]["step"]
    assert first.message["step"] == step == second.message["checkpoint"]["step"]

    config = {**CONFIG, "params": {**CONFIG["params"], "epochs": 4000, "maxSteps": step + 40}}
    first, second = Nodes(tmp_path, config, rows()).end()
    assert (first.code, second.code) == (0, 0), first.stderr + second.stderr
    assert first.message["resumedFrom"] == step
    assert first.message["summary"]["kind"] == "Tabular"
    metadata = json.loads((nodes.output / "metadata.json").read_text())
    assert metadata["steps"] == step + 40


def test_bad_input_is_told_by_every_node(tmp_path: Path) -> None:
    broken = {**CONFIG, "dataset": {"columns": {"target": "absent"}}}
    ended = Nodes(tmp_path, broken, rows(40)).end()
    assert [e.code for e in ended] == [64, 64], ended[0].stderr
    assert {e.message["reason"] for e in ended} == {"BadInput"}
    assert "absent" in ended[0].message["message"]
