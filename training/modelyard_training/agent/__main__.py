"""`python -m modelyard_training.agent [-- command …]` and the console script `modelyard-train`: the pod's process 1.

Without a command it runs our training core. Whatever happens in here ends in one of the four exit codes and a
termination message; an error of the agent itself is never told with its text, which could hold anything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import checkpoints, launch, memory, message, product, rank, settings, verdict
from .child import Stop, run
from .codes import BAD_INPUT, ERROR, STOPPED, BadInputError, Reason, Verdict
from .loopback import Loopback
from .progress import Progress
from .reporter import Reporter
from .settings import Settings
from .tail import Tail, secrets_of

_FLUSH_SECONDS = 10.0
_YIELD_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pod's one training attempt. Returns the exit code: 0 done, 64 bad input, 75 stopped, 1 anything else."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["--"]:
        given = given[1:]
    log = settings.termination_log(os.environ)
    stop = Stop()
    try:
        config = settings.load(os.environ, config_required=not given)
        settings.check(config)
        return _run(given, config, stop)
    except BadInputError as problem:
        return _end(log, Verdict(BAD_INPUT, "failed", Reason.BAD_INPUT, str(problem)))
    except Exception as problem:
        text = f"The agent itself failed ({type(problem).__name__}); the program's state is unknown."
        return _end(log, Verdict(ERROR, "failed", Reason.AGENT_ERROR, text))


def _run(given: list[str], config: Settings, stop: Stop) -> int:
    resume = checkpoints.newest(config.output) if config.resume else None
    if resume is None and config.origin is not None:
        resume = checkpoints.newest(config.origin)
        if resume is None:
            raise BadInputError("The Training of spec.checkpoint.from has left no whole checkpoint: name another.")
    progress, tail = Progress(), Tail()
    reporter = Reporter(config, lambda: progress.beat(_now()))

    def take(report: dict[str, Any]) -> bool:
        entry = progress.take(report, time.monotonic(), _now())
        if entry is not None:
            reporter.offer(entry)
        return entry is not None

    launch.await_first_node(config, stop)
    if stop.requested:
        return _end(config.termination_log, Verdict(STOPPED, "stopped", Reason.STOPPED, "Stopped before it began."))
    scratch = Path(tempfile.mkdtemp(prefix="modelyard-agent-"))
    server = Loopback(take)
    try:
        (scratch / "token").write_text("loopback-needs-no-token\n")
        (scratch / "ranks").mkdir()
        server.start()
        reporter.start()
        url = (
            f"http://127.0.0.1:{server.port}/apis/trainer.kubeflow.org/v1alpha1"
            f"/namespaces/{config.namespace or 'default'}/trainjobs/{config.training or 'training'}/status"
        )
        command = launch.command(given, config)
        env = launch.environment(os.environ, config, resume, url, scratch)
        kills = memory.oom_kills()
        _say(f"starting attempt {config.attempt}, " + (f"from step {resume.step}" if resume else "from the beginning"))
        # The last seconds of the grace period are the agent's own: to report, and to leave its message.
        end = run(command, env, stop, max(config.grace - 5, config.grace * 0.6), tail)
        server.close()
        judged = verdict.judge(
            end,
            progress.result,
            progress.done,
            progress.step,
            out_of_memory=memory.oom_kills() > kills,
            launcher=not given and config.world_size > 1,
            grace=config.grace,
            lines=tail.lines(),
            ranks=rank.codes(scratch / "ranks"),
        )
        if config.nodes > 1 and judged.code == ERROR:
            _let_others_speak(stop)
        summary = _summary(progress.result)
        if given and judged.result == "done" and config.node_rank == 0:
            summary = {**product.describe(config.output, progress.metrics), **summary}
        reporter.offer(progress.last_word(_now(), judged.result.capitalize()))
        content = message.build(
            judged,
            progress.step,
            progress.resumed_from(resume.step if resume else None),
            checkpoints.newest(config.output),
            config.output,
            summary,
            tail.lines(secrets_of(os.environ, [config.token_file])),
        )
        # Written before the flush: should the rest of the grace period not be enough, the message is there.
        code = _end(config.termination_log, judged, content)
        reporter.flush(min(_FLUSH_SECONDS, config.grace * 0.2) if stop.requested else _FLUSH_SECONDS)
        return code
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _let_others_speak(stop: Stop) -> None:
    """A node that breaks mostly does so because another has: that one's pod is to end first, and be the cause."""
    until = time.monotonic() + _YIELD_SECONDS
    while not stop.requested and (left := until - time.monotonic()) > 0:
        stop.sleep(left)


def _summary(said: dict[str, Any]) -> dict[str, Any]:
    inner = said.get("summary")
    return inner if isinstance(inner, dict) else said


def _end(log: Path, judged: Verdict, content: bytes | None = None) -> int:
    _say(f"{judged.reason}: {judged.message}")
    if content is None:
        content = message.build(judged, None, None, None, Path(), {}, [])
    if not message.write(log, content):
        _say(f"the termination message could not be written to {log}")
    return judged.code


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"modelyard-agent: {text}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
