"""The look at tables: scikit-learn's sets, and tables with every fault that it tells."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.looking import REPO, look


def classify(**dataset: Any) -> dict[str, Any]:
    return {"recipe": "tabular-classification", "dataset": dataset}


def test_a_real_table(tmp_path: Path, breast_cancer_csv: str) -> None:
    seen = look(tmp_path, classify(columns={"target": "diagnosis"}), {"data.csv": breast_cancer_csv})
    profile = seen.profile
    assert (profile["rows"], profile["columnCount"], profile["files"]) == (569, 31, 1)
    assert profile["bytes"] == len(breast_cancer_csv)
    assert seen.column("mean radius") == {
        "name": "mean radius",
        "type": "number",
        "distinct": 456,
        "min": 6.981,
        "max": 28.11,
        "mean": 14.127,
    }
    assert profile["target"]["classes"] == {"benign": 357, "malignant": 212}
    assert profile["split"] == {"train": 456, "validation": 113}
    assert profile["features"] == {"numeric": 30, "categorical": 0, "encoded": 30}
    assert profile["duplicateRows"] == 0
    suggested = seen.found["suggested"]
    assert suggested["recipe"]["value"] == "tabular-classification"
    assert suggested["target"]["value"] == "diagnosis"
    assert suggested["params"]["batchSize"]["value"] == 32
    assert all(entry["reason"] for entry in suggested["params"].values())
    assert len(seen.file["samples"]) == 3
    assert "samples" not in seen.found
    assert seen.words["message"].startswith("569 rows of 31 columns, 2 classes in 'diagnosis'")


def test_what_is_wrong_with_a_table_is_told(tmp_path: Path) -> None:
    chance = random.Random(3)
    head = "id,same,empty,age,answer,label"
    rows = [
        f"row-{i},1,{'x' if i % 9 == 0 else ''},{chance.random():.4f},{'yes' if i % 20 == 0 else 'no'},{i % 20 == 0}"
        for i in range(400)
    ]
    held = [*rows[:30], *(f"new-{i},1,,{chance.random():.4f},no,False" for i in range(30))]
    files = {
        "train.csv": "\n".join([head, *rows, *rows[:40]]),
        "held.csv": "\n".join([head, *held]),
    }
    config = classify(columns={"target": "label"}, split={"train": "train.csv", "validation": "held.csv"})
    seen = look(tmp_path, config, files)
    assert seen.profile["duplicateRows"] == 40
    assert seen.profile["rowsInBothParts"] == 30
    assert seen.column("empty")["missing"] > 300
    assert seen.warned("40 of 500 rows are copies")
    assert seen.warned("30 rows of the validation split are in the training split")
    assert seen.warned("'same'", "the same value in every row")
    assert seen.warned("'empty'", "has no value in")
    assert seen.warned("'answer' alone tells 'label'")
    assert seen.found["suggested"]["params"]["classWeights"]["value"] == "Balanced"
    assert "row-1" not in json.dumps(seen.found)


def test_an_id_is_no_feature(tmp_path: Path) -> None:
    rows = [f"name-{i},{i % 7},{i % 2}" for i in range(200)]
    seen = look(tmp_path, classify(), {"a.csv": "\n".join(["id,x,target", *rows])})
    assert seen.warned("'id' is different in almost every row")


def test_a_number_with_few_values_is_rather_a_class(tmp_path: Path) -> None:
    rows = [f"{i},{i % 3}" for i in range(90)]
    seen = look(tmp_path, {"recipe": "tabular-regression"}, {"a.csv": "\n".join(["x,target", *rows])})
    assert seen.found["suggested"]["recipe"]["value"] == "tabular-classification"
    assert seen.profile["target"]["kind"] == "number"


def test_a_wide_table_is_cut_in_the_status_and_whole_in_the_file(tmp_path: Path) -> None:
    chance = random.Random(5)
    names = [f"a column with quite a long name, number {i:04d} of them all" for i in range(700)]
    rows = [",".join(f"{chance.random():.6f}" for _ in names) + f",{i % 2}" for i in range(30)]
    text = "\n".join([",".join(f'"{n}"' for n in names) + ",target", *rows])
    seen = look(tmp_path, classify(), {"a.csv": text})
    assert 0 < len(seen.profile["columns"]) <= 64
    assert seen.profile["columnCount"] == 701
    assert len(seen.file["profile"]["columns"]) == 701


@pytest.mark.parametrize(
    ("config", "files", "said"),
    [
        pytest.param(classify(columns={"target": "kind"}), {"a.csv": "x,y\n1,2\n"}, "no column 'kind'", id="no target"),
        pytest.param(classify(), {"a.csv": "x,target\n1\n"}, "ends after 1 of 2 columns", id="a short row"),
        pytest.param(classify(), {"a.csv": "x,target\n1,2\n1,2\n"}, "has only one class", id="one class"),
        pytest.param(classify(), {}, "There is no CSV, JSONL or Parquet file", id="no file"),
        pytest.param(classify(path="../x"), {"a.csv": "x"}, "leaves the data set", id="outside"),
    ],
)
def test_what_the_trainer_would_refuse_is_refused_here(
    tmp_path: Path, config: dict[str, Any], files: dict[str, str], said: str
) -> None:
    seen = look(tmp_path, config, files)
    assert seen.code == 64
    assert seen.words["result"] == "failed"
    assert said in seen.words["message"]


def test_it_does_not_import_torch(tmp_path: Path) -> None:
    code = "import sys, modelyard_training.analysis.tables as t; print(t is None or 'torch' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(REPO / "training")}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
