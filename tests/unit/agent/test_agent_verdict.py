"""From the program's end to exit code and message: every way to end, and what is cut when there is no room."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from modelyard_training.agent import launch, memory, message, settings
from modelyard_training.agent.checkpoints import Checkpoint
from modelyard_training.agent.child import Exit
from modelyard_training.agent.codes import BadInputError, Verdict
from modelyard_training.agent.tail import MAX_LINES, Tail, secrets_of
from modelyard_training.agent.verdict import judge

DONE = Exit(0, 0, asked=False, killed=False)


def end(code: int = 0, by: int = 0, *, asked: bool = False, killed: bool = False) -> Exit:
    return Exit(code or (128 + by if by else 0), by, asked, killed)


def verdict(ended: Exit, said: dict[str, Any] | None = None, **more: Any) -> Verdict:
    defaults: dict[str, Any] = {"done": False, "step": None, "out_of_memory": False, "launcher": False, "grace": 30.0}
    return judge(ended, said or {}, **{**defaults, **more})


@pytest.mark.parametrize(
    ("ended", "more", "expected"),
    [
        (end(), {}, (0, "done", "Completed")),
        (end(asked=True), {}, (75, "stopped", "Stopped")),
        (end(asked=True), {"done": True}, (0, "done", "Completed")),
        (end(64), {}, (64, "failed", "BadInput")),
        (end(64), {"said": {"reason": "DiskFull", "message": "Full."}}, (64, "failed", "DiskFull")),
        (end(75), {}, (75, "stopped", "Stopped")),
        (end(75, asked=True), {}, (75, "stopped", "Stopped")),
        (end(1), {}, (1, "failed", "Error")),
        (end(1, asked=True), {}, (1, "failed", "Error")),
        (end(1), {"out_of_memory": True}, (1, "failed", "OutOfMemory")),
        (end(by=9), {}, (1, "failed", "OutOfMemory")),
        (end(137), {}, (1, "failed", "OutOfMemory")),
        (end(by=9, asked=True, killed=True), {}, (1, "failed", "GraceExceeded")),
        (end(by=15), {}, (1, "failed", "Error")),
        (end(by=15, asked=True), {}, (75, "stopped", "Stopped")),
        (end(143, asked=True), {}, (75, "stopped", "Stopped")),
        (end(by=11), {}, (1, "failed", "Error")),
        # torchrun exits 1 whatever its workers did.
        (end(1, asked=True), {"launcher": True, "said": {"result": "stopped"}}, (75, "stopped", "Stopped")),
        (end(1), {"launcher": True, "said": {"result": "failed", "reason": "BadInput"}}, (64, "failed", "BadInput")),
        (end(1, asked=True), {"launcher": True, "done": True, "said": {"result": "done"}}, (0, "done", "Completed")),
        (end(1, asked=True), {"said": {"result": "stopped"}}, (1, "failed", "Error")),
        # A node where no process reports knows by their exit codes.
        (end(1, asked=True), {"launcher": True, "ranks": [75, 75]}, (75, "stopped", "Stopped")),
        (end(1), {"launcher": True, "ranks": [75, 0]}, (75, "stopped", "Stopped")),
        (end(by=15, asked=True), {"launcher": True, "ranks": [75]}, (75, "stopped", "Stopped")),
        (end(1), {"launcher": True, "ranks": [1, 64]}, (64, "failed", "BadInput")),
        (end(1), {"launcher": True, "ranks": [1, 75], "said": {"result": "stopped"}}, (1, "failed", "Error")),
        (end(0), {"launcher": True, "ranks": [0, 0]}, (0, "done", "Completed")),
        # A reason that is no reason is not passed on.
        (end(1), {"said": {"reason": "not a reason"}}, (1, "failed", "Error")),
    ],
)
def test_every_way_to_end(ended: Exit, more: dict[str, Any], expected: tuple[int, str, str]) -> None:
    assert verdict(ended, **more)[:3] == expected


def test_words() -> None:
    assert (
        verdict(end(by=signal.SIGBUS), step=7).message
        == "The program was ended by signal SIGBUS. It had reached step 7."
    )
    assert verdict(end(3), {"message": "  own words "}).message == "own words"
    assert len(verdict(end(3), {"message": "x" * 9000}).message) == 1024
    assert "grace period of 30 s" in verdict(end(by=9, asked=True, killed=True)).message


def built(result: str = "failed", summary: dict[str, Any] | None = None, lines: list[str] | None = None) -> Any:
    raw = message.build(
        Verdict(1, result, "Error", "m" * 1024),
        5,
        None,
        Checkpoint(4, Path("/out/checkpoints/step-00000004")),
        Path("/out"),
        summary or {},
        lines or [],
    )
    assert len(raw) <= message.LIMIT
    return json.loads(raw)


def test_the_oldest_lines_go_first() -> None:
    got = built(lines=[f"{n} " + "é" * 300 for n in range(40)])
    assert got["lastLines"][-1].startswith("39 ")
    assert got["checkpoint"] == {"step": 4, "path": "checkpoints/step-00000004"}


def test_lists_go_before_numbers_and_identity_stays() -> None:
    identity = {"path": "model", "kind": "Tabular", "bytes": 5, "files": 2, "digest": "sha256:" + "a" * 64}
    small = {**identity, "metrics": {"accuracy": 0.5}, "params": {"epochs": 3}, "unknown": 1}
    got = built("done", {**small, "features": ["f" * 200] * 64, "classes": ["c" * 200] * 32})
    assert {k: v for k, v in got["summary"].items() if k not in ("features", "classes")} == {
        k: v for k, v in small.items() if k != "unknown"
    }
    assert len(got["summary"]["features"]) >= 1
    assert len(got["summary"]["classes"]) >= 1
    got = built("done", {**identity, "params": {str(n): "p" * 300 for n in range(99)}, "target": "t" * 9000})
    assert {k: got["summary"][k] for k in identity} == identity


def test_nothing_can_make_it_too_large() -> None:
    monster: dict[str, Any] = dict.fromkeys(message._SUMMARY, "ä" * 9000)
    assert built("done", monster)["result"] == "done"


def test_lines_are_bounded_and_progress_bars_collapse() -> None:
    tail = Tail()
    tail.feed(b"".join(b"%d%%|##|\r" % n for n in range(100)) + b"100%\nsecond\n")
    tail.feed(b"half")
    tail.feed(b"-line")
    assert tail.lines() == ["100%", "second", "half-line"]
    tail.feed(b"\n" + b"x\n" * 1000 + b"y" * 100_000 + b"\xff")
    assert len(tail.lines()) == MAX_LINES
    assert len(tail.lines()[-1]) == 400


def test_secrets_are_found_by_name_and_blanked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    env = {
        "HF_TOKEN": "hf_123456",
        "AWS_SECRET_ACCESS_KEY": "aws-key-1",
        "HOME": "/home/me",
        "TOKEN_FILE": "/run/token",
    }
    secrets = secrets_of(env, [tmp_path / "token", tmp_path / "absent"])
    assert secrets == {"hf_123456", "aws-key-1", "from-the-file"}
    tail = Tail()
    tail.feed(b"a hf_123456 b from-the-file\n")
    assert tail.lines(secrets) == ["a [hidden] b [hidden]"]


def test_memory_counters_of_both_versions(tmp_path: Path) -> None:
    two, one = tmp_path / "events", tmp_path / "oom_control"
    one.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert memory.oom_kills((two, one)) == 3
    two.write_text("low 0\noom 1\noom_kill 2\n")
    assert memory.oom_kills((two, one)) == 2
    assert memory.oom_kills(()) == 0


def test_several_processes_run_under_torchrun_with_a_static_rendezvous() -> None:
    env = {
        "MODELYARD_CONFIG": "{}",
        "MODELYARD_NODES": "2",
        "MODELYARD_PROCESSES_PER_NODE": "4",
        "JOB_COMPLETION_INDEX": "1",
        "MODELYARD_MASTER_ADDR": "run-1-0.run-1",
        "MODELYARD_GRACE_SECONDS": "120",
    }
    config = settings.load(env, config_required=True)
    assert launch.command([], config)[1:] == ["-m", "torch.distributed.run", "-m", launch.RANK]
    assert launch.command(["python", "x.py"], config) == ["python", "x.py"]
    child = launch.environment(env, config, None, "http://127.0.0.1:1/x", Path("/tmp/x"))
    assert child["MODELYARD_RANKS"] == "/tmp/x/ranks"
    assert {name: value for name, value in child.items() if name.startswith("PET_")} == {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "run-1-0.run-1",
        "PET_MASTER_PORT": "29400",
        "PET_RDZV_BACKEND": "static",
        "PET_RDZV_CONF": "timeout=86400",
        "PET_SHUTDOWN_TIMEOUT": "105",
    }
    alone = settings.load({"MODELYARD_CONFIG": "{}"}, config_required=True)
    assert launch.command([], alone)[1:] == ["-m", launch.CORE]
    assert not [n for n in launch.environment({}, alone, None, "u", Path("t")) if n.startswith("PET_")]


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(BadInputError, match="MODELYARD_NODES must be a whole number of at least 1"):
        settings.load({"MODELYARD_CONFIG": "{}", "MODELYARD_NODES": "0"}, config_required=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", "GPULost"),
        ("RuntimeError: CUDA error: all CUDA-capable device(s) is/are busy or unavailable", "GPULost"),
        (
            "[rank0]: [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)",
            "NCCLTimeout",
        ),
        ("[PG 0 Rank 1] Some NCCL operations have failed or timed out.", "NCCLTimeout"),
        ("torch.distributed.DistBackendError: NCCL error in: x.cpp:1, remote process exited", "NCCLError"),
        ("ncclRemoteError: A call failed possibly due to a network error", "NCCLError"),
        ("ValueError: timeout must be positive", "Error"),
    ],
)
def test_what_the_last_lines_give_away(line: str, reason: str) -> None:
    judged = verdict(end(1), lines=["Traceback (most recent call last):", line], step=7)
    assert (judged.code, judged.reason) == (1, reason)
    assert line not in judged.message
    assert "It had reached step 7." in judged.message
    assert verdict(end(64), lines=[line]).reason == "BadInput"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"connect postgres://me:hunter2@db/x", "connect postgres://[hidden]@db/x"),
        (b"GET https://s3/x?X-Amz-Signature=abc&y=1 failed", "GET https://s3/x?[hidden] failed"),
        (b"Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        (b"{'api_key': 'sk-1', 'b': 2}", "{'api_key': [hidden] 'b': 2}"),
        (b"using hf_abcdefghijklmnopqrstuvwxyz012345", "using [hidden]"),
        (b"key AKIAIOSFODNN7EXAMPLE", "key [hidden]"),
        (b'  File "/opt/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1775, in _call_impl', None),
        (b"RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x784 and 64x10)", None),
        (b"loading checkpoints/step-00000120/tensors", None),
    ],
)
def test_what_looks_like_a_credential_is_blanked(line: bytes, shown: str | None) -> None:
    tail = Tail()
    tail.feed(line + b"\n")
    assert tail.lines() == [line.decode() if shown is None else shown]


def test_values_from_a_secret_are_blanked_whatever_their_name() -> None:
    assert secrets_of({"MODELYARD_SECRETS": "A,B", "A": "s3cret-a", "C": "public-c"}, []) == {"s3cret-a"}
