"""The algorithms over a table: quality, exact resume, the saved files in stock libraries, the contest of all."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard_training.core import files
from modelyard_training.core.stop import Stop
from modelyard_training.recipes.tabular import predict

QUICK = {"width": 16, "layers": 1, "heads": 2}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

ALONE = """
import csv, importlib.util, json, sys
assert importlib.util.find_spec("modelyard_training") is None
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "nothing-else":
    sys.modules["lightgbm"] = sys.modules["sklearn"] = sys.modules["onnx"] = None
import predict
rows = list(csv.DictReader(open(sys.argv[3])))
found = predict.Predictor().outputs(rows)
numbers, categories = predict.encode(predict.Predictor().spec, rows)
given = {"numbers": numbers.numpy(), "categories": categories.numpy()}
answers = {"ours": found.tolist()}
if sys.argv[2] == "stock":
    import onnxruntime
    session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
    answers["onnx"] = session.run(None, {i.name: given[i.name] for i in session.get_inputs()})[0].tolist()
    if predict.Predictor().forest is not None:
        import lightgbm
        booster = lightgbm.Booster(model_file=sys.argv[1] + "/model.txt")
        answers["lightgbm"] = booster.predict(predict.joined(numbers, categories)).tolist()
print(json.dumps(answers))
"""


def alone(model: Path, rows: Path, how: str) -> dict[str, np.ndarray]:
    """What the saved files say in an isolated interpreter that can't see our package."""
    command = [sys.executable, "-I", "-c", ALONE, str(model), how, str(rows)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=rows.parent)
    return {name: np.array(values) for name, values in json.loads(out.stdout).items()}


@pytest.fixture(scope="module")
def people_csv() -> str:
    """Numbers, categories, dates, gaps, and a class of three that follows from them."""
    random = np.random.default_rng(3)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["age", "city", "since", "wage", "target"])
    for i in range(300):
        city = ["Bergen", "Oslo", "Tromsø, nord"][random.integers(3)]
        age = int(random.integers(18, 80))
        label = "old" if age > 60 else ("west" if city == "Bergen" else "rest")
        since = f"20{random.integers(10, 24)}-0{random.integers(1, 10)}-11"
        wage = "" if i % 5 == 0 else f"{random.normal():.4f}"
        rows.writerow([age, city, since, wage, label])
    return text.getvalue()


@pytest.mark.parametrize("algorithm", ["MLP", "Linear", "LightGBM", "Transformer"])
def test_saved_files_say_the_same_everywhere(algorithm: str, trainer: Callable[..., Any], people_csv: str) -> None:
    params: dict[str, Any] = {"algorithm": algorithm, "epochs": 25}
    if algorithm == "Transformer":
        params |= QUICK
    run = trainer({"recipe": "tabular-classification", "params": params, "dataset": {}}, {"people.csv": people_csv})
    code, result = run.here()
    assert code == 0, result
    assert result["summary"]["algorithm"] == algorithm
    assert result["summary"]["metrics"]["accuracy"] >= (0.9 if algorithm == "LightGBM" else 0.55)
    model, rows = run.output / "model", run.root / "data" / "people.csv"
    ours = predict.Predictor(model).outputs(list(csv.DictReader(people_csv.splitlines()))).numpy()
    found = alone(model, rows, "stock")
    np.testing.assert_array_equal(found["ours"], ours)
    np.testing.assert_array_equal(alone(model, rows, "nothing-else")["ours"], ours)
    np.testing.assert_allclose(found["onnx"], ours, atol=2e-5)
    if algorithm == "LightGBM":
        np.testing.assert_allclose(found["lightgbm"], ours, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["Linear", "LightGBM"])
def test_regressions_say_the_targets_unit_everywhere(algorithm: str, trainer: Callable[..., Any]) -> None:
    from sklearn import datasets

    text = datasets.load_diabetes(as_frame=True, scaled=False).frame.to_csv(index=False)
    config = {"recipe": "tabular-regression", "params": {"algorithm": algorithm, "epochs": 40}, "dataset": {}}
    run = trainer(config, {"diabetes.csv": text})
    code, result = run.here()
    assert code == 0, result
    assert result["summary"]["metrics"]["r2"] >= 0.35
    found = alone(run.output / "model", run.root / "data" / "diabetes.csv", "stock")
    np.testing.assert_allclose(found["onnx"][:, 0], found["ours"], rtol=1e-4)
    if algorithm == "LightGBM":
        np.testing.assert_allclose(found["lightgbm"], found["ours"], rtol=1e-9)
    # What is saved is what was measured: the held-out rows are among these.
    truth = np.array([float(row["target"]) for row in csv.DictReader(text.splitlines())])
    assert 1 - ((found["ours"] - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum() >= 0.35


@pytest.mark.parametrize("algorithm", ["Linear", "LightGBM", "Transformer", "Auto"])
def test_stopped_anywhere_and_resumed_is_bit_identical(
    algorithm: str, trainer: Callable[..., Any], stop_later: Callable[[int], Stop], breast_cancer_csv: str
) -> None:
    params: dict[str, Any] = {"algorithm": algorithm, "epochs": 4, "earlyStopping": {"patience": 2}}
    params |= QUICK if algorithm in ("Transformer", "Auto") else {}
    config = {
        "recipe": "tabular-classification",
        "params": params,
        "dataset": {"columns": {"target": "diagnosis"}},
        "determinism": "Bitwise",
    }
    undisturbed = trainer(config, {"data.csv": breast_cancer_csv}, name="undisturbed")
    assert undisturbed.here()[0] == 0

    disturbed = trainer(config, {"data.csv": breast_cancer_csv}, name="disturbed")
    codes = []
    for _ in range(40):
        code, result = disturbed.here(stop_later(9))
        codes.append(code)
        if code == 0:
            break
        assert code == 75, result
    assert codes[-1] == 0
    assert len(codes) > 1
    assert disturbed.rows() == undisturbed.rows()
    assert files.listing(disturbed.output / "model") == files.listing(undisturbed.output / "model")


def test_two_processes_go_on_exactly(trainer: Callable[..., Any], breast_cancer_csv: str) -> None:
    config: dict[str, Any] = {
        "recipe": "tabular-classification",
        "params": {"algorithm": "Auto", "epochs": 3, **QUICK},
        "dataset": {"columns": {"target": "diagnosis"}},
        "determinism": "Bitwise",
        "checkpoint": {"everySteps": 5, "keep": 100},
    }
    run = trainer(config, {"data.csv": breast_cancer_csv})
    assert run.run(*TORCHRUN)[0] == 0
    rows, listing = run.rows(), files.listing(run.output / "model")
    # As if killed after a checkpoint in the middle of the second and third candidate.
    run.forget_after(17)
    assert run.run(*TORCHRUN)[0] == 0
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


def test_auto_keeps_the_best_of_all(trainer: Callable[..., Any], breast_cancer_csv: str) -> None:
    config = {
        "recipe": "tabular-classification",
        "params": {"algorithm": "Auto", **QUICK},
        "dataset": {"columns": {"target": "diagnosis"}},
    }
    run = trainer(config, {"data.csv": breast_cancer_csv})
    code, result = run.here()
    assert code == 0, result
    assert result["summary"]["metrics"]["accuracy"] >= 0.95
    metadata = run.metadata()
    board = metadata["notes"]["leaderboard"]
    assert sorted(row["algorithm"] for row in board) == ["LightGBM", "Linear", "MLP", "Transformer"]
    losses = [row["metrics"]["validationLoss"] for row in board]
    assert losses == sorted(losses)
    assert metadata["algorithm"] == board[0]["algorithm"]
    assert metadata["metrics"] == board[0]["metrics"]
    assert metadata["bestEpoch"] == board[0]["epoch"]
    assert json.loads((run.output / "model" / "model.json").read_text())["algorithm"] == board[0]["algorithm"]
    assert {row["candidate"] for row in run.rows() if "epoch" in row} == {row["algorithm"] for row in board}


def test_auto_is_as_good_as_ridge_on_diabetes(trainer: Callable[..., Any]) -> None:
    from sklearn import datasets, linear_model, metrics, pipeline, preprocessing

    from modelyard_training.core import split

    frame = datasets.load_diabetes(as_frame=True, scaled=False).frame
    values, target = frame.drop(columns="target").to_numpy(), frame.target.to_numpy()
    ours, ridge = [], []
    for seed in range(20):
        config = {
            "recipe": "tabular-regression",
            "params": {"algorithm": "Auto", **QUICK, "epochs": 30, "earlyStopping": {"patience": 3}},
            "dataset": {"split": {"seed": seed}},
        }
        run = trainer(config, {"diabetes.csv": frame.to_csv(index=False)}, name=f"split{seed}")
        code, result = run.here()
        assert code == 0, result
        ours.append(result["summary"]["metrics"]["r2"])
        train, held = split.rows(len(frame), None, 0.2, seed)
        peer = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()).fit(
            values[train], target[train]
        )
        ridge.append(metrics.r2_score(target[held], peer.predict(values[held])))
    assert np.mean(ours) >= np.mean(ridge) - 0.02


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"algorithm": "Linear", "hiddenSizes": [8]}, "hiddenSizes is for algorithm MLP, not Linear"),
        ({"algorithm": "Transformer", "heads": 5}, "heads must divide width"),
    ],
)
def test_parameters_of_another_algorithm_are_refused(
    params: dict[str, Any], words: str, trainer: Callable[..., Any]
) -> None:
    run = trainer({"recipe": "tabular-classification", "params": params, "dataset": {}}, {"a.csv": "x,target\n1,2\n"})
    code, result = run.here()
    assert code == 64
    assert words in result["message"]
