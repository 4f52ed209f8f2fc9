"""Programs of users under the agent: the one that the documentation shows, stopped and resumed to its end."""

from __future__ import annotations

import json
import re
import sys

import pytest

from support.agent_runs import ROOT, AgentRun

PROGRAM = re.findall(r"```python\n(.*?)```", (ROOT / "docs/custom.md").read_text(), re.DOTALL)[0]


@pytest.fixture
def agent(tmp_path) -> AgentRun:  # type: ignore[no-untyped-def]
    return AgentRun(tmp_path)


def run(agent: AgentRun, steps: int) -> AgentRun:
    agent.env["STEPS"] = str(steps)
    return agent.start_command(["--", sys.executable, "-c", PROGRAM])


def test_the_program_of_the_documentation(agent: AgentRun) -> None:
    run(agent, 10_000_000)
    checkpoints = agent.output / "checkpoints"
    agent.until("a checkpoint", lambda: list(checkpoints.glob("*/complete.json")))
    agent.signal()
    stopped = agent.end()
    assert (stopped.code, stopped.message["result"]) == (75, "stopped")
    step = stopped.message["checkpoint"]["step"]
    assert stopped.message["step"] == step > 0

    done = run(agent, step + 20).end()
    assert done.code == 0, done.stderr
    assert done.message["resumedFrom"] == step
    summary = done.message["summary"]
    assert (summary["path"], summary["kind"], summary["files"]) == ("model", "Full", 1)
    assert summary["bytes"] == (agent.output / "model" / "weights.json").stat().st_size
    assert summary["metrics"]["loss"] >= 0
    written = json.loads((agent.output / "metadata.json").read_text())
    assert written["digest"] == summary["digest"]
    assert list(written["listing"]) == ["weights.json"]


def test_a_program_that_leaves_nothing(agent: AgentRun) -> None:
    assert agent.run("post(done=True)").message["summary"] == {"recipe": "custom", "metrics": {}}
    assert not (agent.output / "metadata.json").exists()


def test_an_adapter_is_told_and_the_programs_own_metadata_stay(agent: AgentRun) -> None:
    script = """
folder = os.environ["MODELYARD_OUTPUT"] + "/model"
os.mkdir(folder)
open(folder + "/adapter_config.json", "w").write("{}")
open(folder + "/../metadata.json", "w").write('{"mine": 1}')
"""
    assert agent.run(script).message["summary"]["kind"] == "Adapter"
    assert json.loads((agent.output / "metadata.json").read_text()) == {"mine": 1}
