"""How a run ends: exit codes, termination message, signals, processes left behind. Real processes throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard_training.agent import bundle
from support.agent_runs import AgentRun

WAIT_FOR_STOP = """
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
post(step=3, totalSteps=40)
open(os.environ["MODELYARD_OUTPUT"] + "/ready", "w")
while not stopping:
    time.sleep(0.01)
"""


@pytest.fixture
def agent(tmp_path: Path) -> AgentRun:
    return AgentRun(tmp_path)


def checkpoint(run: AgentRun, step: int, marker: str | None = "{}") -> Path:
    folder = run.output / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True)
    if marker is not None:
        (folder / "complete.json").write_text(marker)
    return folder


def test_done_with_a_summary(agent: AgentRun) -> None:
    ended = agent.run("""
summary = {"path": "model", "kind": "Tabular", "bytes": 12, "metrics": {"accuracy": 0.9}}
post(step=10, totalSteps=10, done=True, result=summary)
""")
    assert ended.code == 0
    assert ended.message == {
        "result": "done",
        "reason": "Completed",
        "message": "The run is finished.",
        "step": 10,
        "resumedFrom": None,
        "summary": {"recipe": "custom", "path": "model", "kind": "Tabular", "bytes": 12, "metrics": {"accuracy": 0.9}},
    }


def test_bad_input_keeps_the_programs_own_words(agent: AgentRun) -> None:
    ended = agent.run("""
post(result={"reason": "BadInput", "message": "Row 7, column age: not a number."})
sys.exit(64)
""")
    assert (ended.code, ended.message["result"], ended.message["reason"]) == (64, "failed", "BadInput")
    assert ended.message["message"] == "Row 7, column age: not a number."


def test_stopped_after_a_checkpoint(agent: AgentRun) -> None:
    checkpoint(agent.start(WAIT_FOR_STOP + "sys.exit(75)\n"), 3)
    agent.until_file("ready")
    agent.signal()
    ended = agent.end()
    assert (ended.code, ended.message["result"], ended.message["reason"]) == (75, "stopped", "Stopped")
    assert ended.message["step"] == 3
    assert ended.message["checkpoint"] == {"step": 3, "path": "checkpoints/step-00000003"}


def test_exit_0_after_a_stop_request_is_not_done(agent: AgentRun) -> None:
    agent.start(WAIT_FOR_STOP)
    agent.until_file("ready")
    agent.signal()
    ended = agent.end()
    assert (ended.code, ended.message["result"]) == (75, "stopped")
    assert "step 3" in ended.message["message"]


def test_exit_0_after_a_stop_request_is_done_if_the_program_said_so(agent: AgentRun) -> None:
    agent.start(WAIT_FOR_STOP + "post(step=40, done=True)\n")
    agent.until_file("ready")
    agent.signal(signal.SIGINT)
    ended = agent.end()
    assert (ended.code, ended.message["result"], ended.message["step"]) == (0, "done", 40)


def test_crash_shows_the_last_lines_and_no_secret(agent: AgentRun) -> None:
    token = agent.folder / "token"
    token.write_text("projected.token.value\n")
    agent.env = {"MODELYARD_TOKEN_FILE": str(token), "HF_TOKEN": "hf_planted-canary"}
    ended = agent.run(f"""
print("to stdout")
for line in range(500):
    print("noise", line, file=sys.stderr)
print(dict(os.environ), open({str(token)!r}).read(), file=sys.stderr)
raise RuntimeError("the reason")
""")
    assert (ended.code, ended.message["reason"]) == (1, "Error")
    assert ended.message["message"] == "The program ended with exit code 1."
    assert ended.message["lastLines"][-1] == "RuntimeError: the reason"
    assert "to stdout" in ended.stdout
    assert "noise 0\n" in ended.stderr
    for secret in ("hf_planted-canary", "projected.token.value"):
        assert secret not in json.dumps(ended.message)


def test_a_huge_message_is_trimmed(agent: AgentRun) -> None:
    ended = agent.run("""
names = ["ä" * 60 + str(i) for i in range(500)]
post(done=True, step=5, result={"path": "model", "kind": "Tabular", "digest": "sha256:" + "0" * 64, "bytes": 1,
    "metrics": {n: 0.123456789 for n in names[:40]}, "params": {n: "x" * 200 for n in names[:60]},
    "features": names, "classes": names, "target": "t" * 5000, "message": "m" * 9000})
""")
    assert ended.code == 0
    assert ended.size <= 4096
    assert ended.message["summary"]["digest"] == "sha256:" + "0" * 64
    assert ended.message["summary"]["kind"] == "Tabular"


def test_long_last_lines_are_trimmed(agent: AgentRun) -> None:
    ended = agent.run("""
for i in range(200):
    print(str(i) + " " + "é" * 5000, file=sys.stderr)
sys.exit(2)
""")
    assert ended.size <= 4096
    assert ended.message["lastLines"][-1].startswith("199 ")


def test_killed_from_outside_is_most_likely_memory(agent: AgentRun) -> None:
    ended = agent.run("os.kill(os.getpid(), signal.SIGKILL)")
    assert (ended.code, ended.message["reason"]) == (1, "OutOfMemory")
    assert "most likely out of memory" in ended.message["message"]


def test_other_signals_are_named(agent: AgentRun) -> None:
    ended = agent.run("os.kill(os.getpid(), signal.SIGSEGV)")
    assert (ended.code, ended.message["reason"]) == (1, "Error")
    assert "SIGSEGV" in ended.message["message"]


def test_hanging_after_the_stop_request_is_killed_with_its_group(agent: AgentRun) -> None:
    agent.env = {"MODELYARD_GRACE_SECONDS": "1"}
    agent.start(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    open(os.environ["MODELYARD_OUTPUT"] + "/grandchild", "w").write(str(os.getpid()))
    time.sleep(600)
while not os.path.exists(os.environ["MODELYARD_OUTPUT"] + "/grandchild"):
    time.sleep(0.01)
open(os.environ["MODELYARD_OUTPUT"] + "/ready", "w")
time.sleep(600)
""",
        subreaper=True,
    )
    agent.until_file("ready")
    agent.signal()
    ended = agent.end()
    assert (ended.code, ended.message["reason"]) == (1, "GraceExceeded")
    grandchild = int((agent.output / "grandchild").read_text())
    agent.until("the grandchild's end", lambda: not _runs(grandchild))


def test_a_program_without_a_handler_goes_on_from_its_last_checkpoint(agent: AgentRun) -> None:
    agent.start('open(os.environ["MODELYARD_OUTPUT"] + "/ready", "w"); time.sleep(600)')
    agent.until_file("ready")
    agent.signal()
    ended = agent.end()
    assert (ended.code, ended.message["result"]) == (75, "stopped")


def test_orphans_are_reaped(agent: AgentRun) -> None:
    agent.start(
        """
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
open(os.environ["MODELYARD_OUTPUT"] + "/ready", "w")
signal.pause()
""",
        subreaper=True,
    )
    agent.until_file("ready")
    assert agent.process is not None
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    agent.until("reaping", lambda: len(children.read_text().split()) == 1)
    agent.signal()
    agent.end()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"MODELYARD_OUTPUT": "/nowhere/at/all"}, "The output folder /nowhere/at/all is not there"),
        ({"MODELYARD_MODEL": "/nowhere/model"}, "of the base model is not there"),
        ({"MODELYARD_CONFIG": "{not json"}, "MODELYARD_CONFIG is not valid JSON"),
        ({"MODELYARD_CONFIG": "[]"}, "MODELYARD_CONFIG must be a JSON object"),
        ({"MODELYARD_ATTEMPT": "many"}, "MODELYARD_ATTEMPT must be a whole number"),
    ],
)
def test_wrong_inputs_are_said_in_a_sentence(agent: AgentRun, env: dict[str, str], words: str) -> None:
    agent.env = env
    ended = agent.run("post(done=True)")
    assert (ended.code, ended.message["reason"]) == (64, "BadInput")
    assert words in ended.message["message"]


def test_empty_data_and_missing_config_and_command(agent: AgentRun) -> None:
    (agent.folder / "data").mkdir()
    agent.env = {"MODELYARD_DATASET": str(agent.folder / "data"), "MODELYARD_CONFIG": "{}"}
    assert "of the data set is empty" in agent.run("").message["message"]
    agent.env = {}
    agent.start_command([])
    assert "MODELYARD_CONFIG is missing" in agent.end().message["message"]
    agent.start_command(["--", "no-such-program"])
    ended = agent.end()
    assert ended.code == 64
    assert "The command no-such-program was not found" in ended.message["message"]


def test_resume_takes_the_newest_valid_checkpoint(agent: AgentRun) -> None:
    agent.output.mkdir()
    good = checkpoint(agent, 20)
    checkpoint(agent, 30, marker=None)
    checkpoint(agent, 40, marker="")
    checkpoint(agent, 5)
    (agent.output / "checkpoints" / "step-00000099.tmp").mkdir()
    ended = agent.run('print("from", os.environ["MODELYARD_RESUME_FROM"])')
    assert f"from {good}" in ended.stdout
    assert ended.message["resumedFrom"] == 20
    agent.env = {"MODELYARD_CONFIG": json.dumps({"checkpoint": {"resume": "Never"}})}
    ended = agent.run('print("from", repr(os.environ["MODELYARD_RESUME_FROM"]))')
    assert "from ''" in ended.stdout
    assert ended.message["resumedFrom"] is None


def test_the_program_never_gets_what_the_agent_alone_needs(agent: AgentRun) -> None:
    agent.env = {"MODELYARD_CA_PEM": "x", "http_proxy": "http://proxy.invalid:1", "no_proxy": "example.org"}
    ended = agent.run("""
post(step=1)
print(json.dumps({k: v for k, v in os.environ.items()}))
print("token", open(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read())
""")
    assert ended.code == 0, ended.stderr
    env = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith('{"PATH"')))
    assert "MODELYARD_CA_PEM" not in env
    assert "MODELYARD_TOKEN_FILE" not in env
    assert env["no_proxy"] == env["NO_PROXY"] == "127.0.0.1,localhost,example.org"
    assert env["KUBEFLOW_TRAINER_SERVER_URL"].startswith("http://127.0.0.1:")


def test_it_runs_from_one_file(agent: AgentRun) -> None:
    target = agent.folder / "agent.pyz"
    bundle.build(target)
    agent.launcher = [sys.executable, "-I", str(target)]
    assert agent.run("sys.exit(75)").code == 75
    first = target.read_bytes()
    subprocess.run(
        [sys.executable, "-m", "modelyard_training.agent.bundle", str(target)],
        check=True,
        env={**os.environ, "PYTHONPATH": "training"},
    )
    assert target.read_bytes() == first


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
