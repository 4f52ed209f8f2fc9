"""What becomes of a program's reports: merging, percent and time left, bounds, thinning."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from modelyard_training.agent.buffer import BATCH_ENTRIES, MAX_PLAIN, Buffer
from modelyard_training.agent.progress import Entry, Progress

NOW = "2026-11-21T10:00:00.000Z"
AGENT = Path(__file__).resolve().parents[3] / "training/modelyard_training/agent"


def take(progress: Progress, at: float = 0.0, **ours: Any) -> dict[str, Any]:
    entry = progress.take({"modelyard": ours}, at, NOW)
    assert entry is not None
    return entry.body


def kubeflow(progress: Progress, metrics: dict[str, Any], at: float = 0.0, **status: Any) -> dict[str, Any]:
    items = [{"name": name, "value": str(value)} for name, value in metrics.items()]
    entry = progress.take({"trainerStatus": {**status, "metrics": items}}, at, NOW)
    assert entry is not None
    return entry.body


def test_a_report_without_a_step_is_merged() -> None:
    progress = Progress()
    take(progress, step=4, totalSteps=8, unit="rows/s")
    body = take(progress, metrics={"lr": 0.5})
    assert body["modelyard"] == {"step": 4, "totalSteps": 8, "unit": "rows/s", "metrics": {"lr": 0.5}}
    assert body["trainerStatus"]["progressPercentage"] == 50
    assert progress.step == 4


def test_time_left_comes_from_the_steps_of_this_attempt() -> None:
    progress = Progress()
    assert "estimatedRemainingSeconds" not in take(progress, 100.0, step=50, totalSteps=100)["trainerStatus"]
    assert take(progress, 120.0, step=60)["trainerStatus"]["estimatedRemainingSeconds"] == 80
    assert take(progress, 300.0)["trainerStatus"]["estimatedRemainingSeconds"] == 80


def test_a_claimed_100_percent_is_not_believed() -> None:
    progress = Progress()
    assert kubeflow(progress, {}, progressPercentage=100)["trainerStatus"]["progressPercentage"] == 99
    kubeflow(progress, {"current_step": 20, "total_steps": 40})
    assert kubeflow(progress, {"loss": 1}, progressPercentage=100)["trainerStatus"]["progressPercentage"] == 50
    assert take(progress, done=True)["trainerStatus"]["progressPercentage"] == 100


def test_what_kubeflow_calls_metrics_is_told_apart() -> None:
    body = kubeflow(Progress(), {"current_step": 3, "total_steps": 9, "current_epoch": 0.5, "loss": "nan", "lr": 1e-4})
    assert body["modelyard"] == {"step": 3, "totalSteps": 9, "epoch": 0.5, "metrics": {"lr": 1e-4}}


@pytest.mark.parametrize("report", [{}, {"trainerStatus": []}, {"modelyard": None}, {"other": {}}])
def test_what_is_no_report(report: dict[str, Any]) -> None:
    assert Progress().take(report, 0.0, NOW) is None


def test_wrong_types_are_left_out_and_sizes_bounded() -> None:
    body = take(
        Progress(),
        step="x",
        totalSteps=-4,
        epoch=float("inf"),
        phase="p" * 100,
        metrics={**{str(i): i for i in range(100)}, "huge": 1e300},
        checkpoint={"step": 1, "path": 5},
        epochRow={"metrics": {}},
    )
    assert set(body["modelyard"]) == {"phase", "metrics"}
    assert len(body["modelyard"]["phase"]) == 64
    assert len(body["modelyard"]["metrics"]) == 64


def test_numbers_count_up_and_the_last_word_is_last() -> None:
    progress = Progress()
    assert [take(progress)["seq"], take(progress)["seq"]] == [1, 2]
    last = progress.last_word(NOW, "Stopped")
    assert (last.seq, last.body["seq"], last.row, last.urgent) == (3, 3, True, True)
    assert last.body["modelyard"] == {"phase": "Stopped", "final": True}


def test_what_is_urgent() -> None:
    progress = Progress()

    def urgent(**ours: Any) -> bool:
        entry = progress.take({"modelyard": ours}, 0.0, NOW)
        assert entry is not None
        return entry.urgent

    assert urgent(step=1)
    assert not urgent(step=2)
    assert urgent(epochRow={"epoch": 1})
    assert urgent(checkpoint={"step": 2, "path": "x"})
    assert urgent(done=True)


def test_the_programs_own_word_on_its_start_counts() -> None:
    progress = Progress()
    assert progress.resumed_from(20) == 20
    take(progress, result={"resumedFrom": 10})
    assert progress.resumed_from(20) == 10
    take(progress, result={"resumedFrom": None})
    assert progress.resumed_from(20) is None


def test_the_buffer_thins_out_and_keeps_the_newest_and_every_row() -> None:
    buffer = Buffer()
    for seq in range(1, 10_001):
        buffer.put(Entry(seq, {"seq": seq}, row=seq % 100 == 0))
    kept = [entry.seq for entry in buffer.drain()]
    assert set(range(100, 10_001, 100)) <= set(kept)
    assert 9_999 in kept
    assert kept == sorted(kept)
    plain = [seq for seq in kept if seq % 100]
    assert len(plain) <= MAX_PLAIN
    assert plain[0] < 5_000
    assert len(buffer) == 0


def test_batches_are_bounded_and_stay_until_dropped() -> None:
    buffer = Buffer()
    for seq in range(1, 301):
        buffer.put(Entry(seq, {"seq": seq, "pad": "x" * 100}))
    first = buffer.batch()
    assert [e.seq for e in first] == list(range(1, BATCH_ENTRIES + 1))
    assert buffer.batch() == first
    buffer.drop(first)
    assert [e.seq for e in buffer.batch()] == list(range(BATCH_ENTRIES + 1, 301))
    large = Buffer()
    for seq in range(1, 4):
        large.put(Entry(seq, {"pad": "x" * 150_000}))
    assert len(large.batch()) == 1


def test_the_agent_is_standard_library_and_python_3_9() -> None:
    allowed = {"modelyard_training"}
    import sys

    for file in AGENT.glob("*.py"):
        tree = ast.parse(file.read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            for name in names:
                assert name.partition(".")[0] in sys.stdlib_module_names | allowed, (file.name, name)
            assert not isinstance(node, ast.Match)
