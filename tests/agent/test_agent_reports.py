"""Reports on their way to the collector: over TLS, through outages, and never at the program's expense."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard_training.agent import reporter, settings
from modelyard_training.agent.progress import Progress
from support.agent_runs import AgentRun, own_reports
from support.tls_sink import Sink, certificates, never_accepting

STAMP = "2026-11-21T10:00:00.000Z"
FLOOD = """
for step in range(1, 1501):
    post(step=step, totalSteps=1500, metrics={"loss": 1 / step})
    if step % 100 == 0:
        post(step=step, epochRow={"epoch": step // 100, "metrics": {"accuracy": step / 1500}})
open(os.environ["MODELYARD_OUTPUT"] + "/ready", "w")
"""
HOLD = """
while not os.path.exists(os.environ["MODELYARD_OUTPUT"] + "/go"):
    time.sleep(0.01)
"""


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    sink = Sink(certificates(tmp_path))
    yield sink
    sink.close()


@pytest.fixture
def agent(tmp_path: Path, sink: Sink) -> AgentRun:
    (tmp_path / "projected").write_text("token-1")
    return AgentRun(
        tmp_path,
        {
            "MODELYARD_COLLECTOR_URL": sink.url,
            "MODELYARD_CA_PEM": sink.certificates.ca_pem,
            "MODELYARD_TOKEN_FILE": str(tmp_path / "projected"),
            "HOSTNAME": "run-2-abcde",
        },
    )


def test_reports_arrive_in_order_with_attempt_and_identity(agent: AgentRun, sink: Sink) -> None:
    ended = agent.run("""
for step in (1, 2, 3):
    post(step=step, totalSteps=4, unit="rows/s", throughput=12.5, metrics={"loss": 1 / step, "bad": float("nan")})
post(metrics={"lr": 0.1})
post(checkpoint={"step": 3, "path": "checkpoints/step-00000003"})
""")
    assert ended.code == 0
    assert set(sink.paths) == {"/v1/namespaces/team-a/trainings/run/reports"}
    assert {(r["uid"], r["attempt"], r["pod"]) for r in sink.requests} == {("uid-1", 2, "run-2-abcde")}
    assert [r["seq"] for r in sink.accepted] == [1, 2, 3, 4, 5, 6]
    merged = sink.accepted[3]
    assert merged["modelyard"]["step"] == 3
    assert merged["modelyard"]["metrics"] == {"lr": 0.1}
    assert merged["trainerStatus"]["progressPercentage"] == 75
    assert "bad" not in sink.accepted[0]["modelyard"]["metrics"]
    assert sink.accepted[4]["modelyard"]["checkpoint"] == {"step": 3, "path": "checkpoints/step-00000003"}
    assert sink.accepted[-1]["modelyard"]["final"] is True
    assert sink.accepted[-1]["modelyard"]["phase"] == "Done"


def test_kubeflows_wire_format_is_understood_and_100_percent_is_not_the_end(agent: AgentRun, sink: Sink) -> None:
    agent.run("""
def status(**fields):
    request = urllib.request.Request(os.environ["KUBEFLOW_TRAINER_SERVER_URL"],
        json.dumps({"trainerStatus": fields}).encode(), {"Authorization": "Bearer x"}, method="POST")
    urllib.request.urlopen(request).close()
status(progressPercentage=50, metrics=[{"name": "current_step", "value": "20"}, {"name": "total_steps", "value": "40"},
    {"name": "current_epoch", "value": "0.5"}, {"name": "loss", "value": "0.25"}])
status(progressPercentage=100, estimatedRemainingSeconds=0, metrics=[{"name": "loss", "value": "0.24"}])
""")
    first, last = sink.accepted[0], sink.accepted[-1]
    assert first["modelyard"] == {"step": 20, "totalSteps": 40, "epoch": 0.5, "metrics": {"loss": 0.25}}
    assert last["modelyard"]["step"] == 20
    assert last["trainerStatus"]["progressPercentage"] == 50


def test_a_rotated_token_is_read_again(agent: AgentRun, sink: Sink) -> None:
    agent.start("post(step=1)\n" + HOLD + "post(step=2, checkpoint={'step': 2, 'path': 'x'})\n")
    agent.until("the first report", lambda: sink.accepted)
    (agent.folder / "projected").write_text("token-2\n")
    (agent.output / "go").touch()
    agent.end()
    assert sink.tokens[0] == "Bearer token-1"
    assert sink.tokens[-1] == "Bearer token-2"
    for text in (agent.stdout(), agent.stderr()):
        assert "token-1" not in text
        assert "token-2" not in text


def test_a_server_of_another_ca_gets_nothing(agent: AgentRun, sink: Sink, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    agent.env["MODELYARD_CA_PEM"] = certificates(other).ca_pem
    agent.env["MODELYARD_GRACE_SECONDS"] = "1"
    agent.start("post(step=1)\n" + 'open(os.environ["MODELYARD_OUTPUT"] + "/ready", "w"); signal.pause()')
    agent.until_file("ready")
    agent.until("the complaint", lambda: "The collector can't be reached" in agent.stderr())
    agent.signal()
    agent.end()
    assert sink.requests == []


def test_outage_keeps_the_newest_and_every_epoch(agent: AgentRun, sink: Sink) -> None:
    sink.hold = threading.Event()
    agent.start(FLOOD + HOLD)
    agent.until_file("ready")
    assert sink.accepted == []
    sink.hold.set()
    (agent.output / "go").touch()
    ended = agent.end()
    assert ended.code == 0
    rows = [r["modelyard"]["epochRow"]["epoch"] for r in sink.accepted if "epochRow" in r["modelyard"]]
    assert sorted(set(rows)) == list(range(1, 16))
    assert sink.accepted[-1]["modelyard"]["step"] == 1500
    assert len({r["seq"] for r in sink.accepted}) < 1000


def test_refusals_are_retried_and_resent_with_the_same_numbers(agent: AgentRun, sink: Sink) -> None:
    sink.answers = [503, 401, 429]
    agent.run("post(step=1, totalSteps=2)\npost(step=2)\n")
    sent = [report["seq"] for request in sink.requests for report in request["reports"]]
    assert sent.count(1) >= 4
    assert [r["seq"] for r in sink.accepted] == [1, 2, 3]


def test_an_attempt_that_is_over_stops_reporting(agent: AgentRun, sink: Sink) -> None:
    sink.answers = [409]
    ended = agent.run("post(step=1)\ntime.sleep(1)\npost(step=2, epochRow={'epoch': 1})\n")
    assert ended.code == 0
    assert len(sink.requests) == 1
    assert "another one has taken over" in ended.stderr


@pytest.mark.parametrize("trouble", ["down", "never accepts", "slow"])
def test_the_program_runs_on_whatever_the_collector_does(agent: AgentRun, sink: Sink, trouble: str) -> None:
    """The program waits for each answer, so getting to the end while nothing was accepted is the proof."""
    agent.env["MODELYARD_GRACE_SECONDS"] = "1"
    if trouble == "slow":
        sink.hold = threading.Event()
    elif trouble == "down":
        sink.close()
    else:
        agent.env["MODELYARD_COLLECTOR_URL"], release = never_accepting()
    agent.start(FLOOD + "signal.pause()")
    agent.until_file("ready")
    assert sink.accepted == []
    agent.signal()
    ended = agent.end()
    assert ended.message["step"] == 1500
    if trouble == "never accepts":
        release()


def test_without_a_collector_reports_are_lines_on_stdout(agent: AgentRun) -> None:
    del agent.env["MODELYARD_COLLECTOR_URL"]
    ended = agent.run("post(step=1)\npost(step=2, epochRow={'epoch': 1, 'metrics': {'accuracy': 0.5}})\n")
    lines = own_reports(ended.stdout)
    assert lines[0]["modelyard"]["step"] == 1
    assert any("epochRow" in line["modelyard"] for line in lines)
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)


def test_nonsense_is_answered_and_changes_nothing(agent: AgentRun, sink: Sink) -> None:
    ended = agent.run("""
import urllib.error
for body in (b"", b"[]", b"{", b'{"modelyard": 5}', b'{"x": {}}', b"[" * 100000):
    try:
        urllib.request.urlopen(urllib.request.Request(os.environ["KUBEFLOW_TRAINER_SERVER_URL"], body, method="POST"))
        print("accepted", body[:20])
    except urllib.error.HTTPError as error:
        assert error.code == 400, error.code
post(step="seven", totalSteps=True, epochRow={"epoch": "x"}, metrics={"loss": [1], "": 2, "n" * 500: 1}, checkpoint=[])
""")
    assert ended.code == 0, ended.stderr
    assert "accepted" not in ended.stdout
    assert sink.accepted[0]["modelyard"] == {"metrics": {"n" * 64: 1.0}}


def test_a_silent_program_is_told_of(agent: AgentRun, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(reporter, "INTERVAL_SECONDS", 0.1)
    known = Progress()
    told = reporter.Reporter(settings.load(agent.env, config_required=False), lambda: known.beat(STAMP))
    told.start()
    first = known.take({"modelyard": {"step": 7, "totalSteps": 9}}, 0.0, STAMP)
    assert first is not None
    told.offer(first)
    agent.until("two beats", lambda: len(sink.accepted) >= 3)
    assert told.flush(10)
    assert [r["modelyard"]["step"] for r in sink.accepted[:3]] == [7, 7, 7]
    assert [r["seq"] for r in sink.accepted[:3]] == [1, 2, 3]
