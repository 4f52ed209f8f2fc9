"""Tabular recipes on scikit-learn's sets: quality, the saved files in a process without our package, the metadata."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from modelyard_training.core import columns, files
from modelyard_training.recipes.tabular import encode as tabular
from modelyard_training.recipes.tabular import predict as tabular_predict


def predict_alone(model: Path, rows: Path) -> list[dict[str, str]]:
    """What the saved predictor says in an isolated interpreter that can't see our package."""
    check = "import sys, runpy, importlib.util\nassert importlib.util.find_spec('modelyard_training') is None\n"
    start = (
        f"sys.argv = ['predict.py', {str(rows)!r}]\nrunpy.run_path({str(model / 'predict.py')!r}, run_name='__main__')"
    )
    code = check + start
    out = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=rows.parent
    )
    return list(csv.DictReader(out.stdout.splitlines()))


@pytest.mark.parametrize(
    ("data", "target", "least"), [("breast_cancer_csv", "diagnosis", 0.95), ("digits_csv", "target", 0.97)]
)
def test_classification_reaches_its_accuracy_and_loads_alone(
    data: str, target: str, least: float, trainer: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    text = request.getfixturevalue(data)
    run = trainer(
        {"recipe": "tabular-classification", "dataset": {"path": "data.csv", "columns": {"target": target}}},
        {"data.csv": text},
    )
    code, result = run.here()
    assert code == 0
    assert result["summary"]["metrics"]["accuracy"] >= least

    model, rows = run.output / "model", run.root / "data" / "data.csv"
    alone = predict_alone(model, rows)
    ours = tabular_predict.Predictor(model).predict(list(csv.DictReader(text.splitlines())))
    assert [row["prediction"] for row in alone] == ours
    truth = [row[target] for row in csv.DictReader(text.splitlines())]
    assert np.mean([a == b for a, b in zip(ours, truth, strict=True)]) >= least


def test_regression_learns_and_predicts_in_the_targets_unit(trainer: Callable[..., Any]) -> None:
    from sklearn import datasets

    frame = datasets.load_diabetes(as_frame=True, scaled=False).frame
    run = trainer({"recipe": "tabular-regression", "dataset": {}}, {"diabetes.csv": frame.to_csv(index=False)})
    code, result = run.here()
    assert code == 0
    assert result["summary"]["metrics"]["r2"] >= 0.35
    alone = predict_alone(run.output / "model", run.root / "data" / "diabetes.csv")
    predicted = np.array([float(row["prediction"]) for row in alone])
    assert 1 - ((predicted - frame.target) ** 2).sum() / ((frame.target - frame.target.mean()) ** 2).sum() >= 0.35


def test_metadata_is_complete(trainer: Callable[..., Any], breast_cancer_csv: str) -> None:
    config = {
        "recipe": "tabular-classification",
        "params": {"epochs": 2, "hiddenSizes": [8]},
        "dataset": {"columns": {"target": "diagnosis", "ignore": ["mean area"]}},
    }
    run = trainer(config, {"data.csv": breast_cancer_csv})
    code, result = run.here()
    assert code == 0
    metadata = run.metadata()
    listing = files.listing(run.output / "model")
    assert metadata["recipe"] == "tabular-classification"
    assert metadata["algorithm"] == "MLP"
    assert metadata["params"]["hiddenSizes"] == [8]
    assert metadata["params"]["learningRate"] == 0.001
    assert metadata["target"] == "diagnosis"
    assert metadata["classes"] == ["benign", "malignant"]
    assert len(metadata["features"]) == 29
    assert "mean area" not in metadata["features"]
    assert (metadata["trainSamples"], metadata["testSamples"]) == (456, 113)
    assert metadata["trainingSeconds"] > 0
    assert metadata["bytes"] == sum(entry["bytes"] for entry in listing.values())
    assert metadata["files"] == len(listing) == 6
    assert metadata["digest"] == files.tree_digest(listing)
    assert set(metadata["metrics"]) == {"loss", "validationLoss", "accuracy", "f1", "auroc"}
    assert result["summary"]["digest"] == metadata["digest"]
    assert [row["epoch"] for row in run.rows() if "epoch" in row] == [1, 2]


def test_categories_missing_values_and_dates_are_encoded_alike_in_both_places(trainer: Callable[..., Any]) -> None:
    random = np.random.default_rng(3)
    lines = ["age,city,member,since,wage,code,target"]
    for i in range(400):
        age = "" if i % 7 == 0 else str(random.integers(18, 80))
        city = ["Bergen", "Oslo", "NA", "Tromsø, nord"][random.integers(4)]
        member = ["true", "false"][random.integers(2)]
        since = f"20{random.integers(10, 24)}-0{random.integers(1, 10)}-11"
        cell = f'"{city}"' if "," in city else city
        lines.append(
            f"{age},{cell},{member},{since},{random.normal():.4f},{i % 3},{'yes' if member == 'true' else 'no'}"
        )
    config = {
        "recipe": "tabular-classification",
        "params": {"epochs": 12, "categoricalColumns": ["code"]},
        "dataset": {"columns": {"target": "target"}},
    }
    text = "\n".join(lines) + "\n"
    run = trainer(config, {"people.csv": text})
    code, result = run.here()
    assert code == 0
    assert result["summary"]["metrics"]["accuracy"] >= 0.98
    spec = json.loads((run.output / "model" / "model.json").read_text())
    assert {c["name"]: c["kind"] for c in spec["numeric"]} == {"age": "number", "since": "date", "wage": "number"}
    assert [c["indicator"] for c in spec["numeric"]] == [True, False, False]
    assert [c["name"] for c in spec["categorical"]] == ["city", "member", "code"]

    tables, _ = columns.read(run.root / "data", None, ["code"])
    by_columns = tabular.encoded(spec, tables.train.frame)
    by_rows = tabular_predict.encode(spec, list(csv.DictReader(text.splitlines())))
    typed = tabular_predict.encode(spec, tables.train.frame.to_dicts())
    assert torch.equal(by_columns[0], by_rows[0])
    assert torch.equal(by_columns[1], by_rows[1])
    assert torch.equal(by_columns[0], typed[0])
    assert torch.equal(by_columns[1], typed[1])


WRITTEN = {
    "iso": ("2020-03-{:02d}", "ISO"),
    "moment": ("2020-03-{:02d}T10:00:00+02:00", "ISO"),
    "day": ("{:02d}/03/2020", "%d/%m/%Y"),
    "month": ("3/{:d}/2020", "%m/%d/%Y"),
    "dots": ("{:02d}.03.2020 08:15", "%d.%m.%Y %H:%M"),
    "time": ("{:02d}:30", "%H:%M"),
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_a_value_means_does_not_depend_on_format_or_place(ending: str, trainer: Callable[..., Any]) -> None:
    rows: list[dict[str, Any]] = []
    for i in range(80):
        row: dict[str, Any] = {name: text.format(i % 20 + 1) for name, (text, _) in WRITTEN.items()}
        row |= {"gone": "None" if i % 9 == 0 else row["day"], "member": bool(i % 2), "code": f"{i % 3:03d}"}
        row |= {"city": ["NA", "none", "Oslo", "?"][i % 4], "target": ["none", "some"][i // 2 % 2]}
        rows.append(row)
    config = {
        "recipe": "tabular-classification",
        "params": {"epochs": 1, "categoricalColumns": ["code"]},
        "dataset": {},
    }
    run = trainer(config)
    path = run.root / "data" / f"rows.{ending}"
    frame = pl.DataFrame(rows)
    if ending == "parquet":
        frame.write_parquet(path)
    elif ending == "jsonl":
        frame.write_ndjson(path)
    else:
        # As pandas writes truth values.
        frame.with_columns(pl.col("member").cast(pl.String).str.to_titlecase()).write_csv(path)
    code, result = run.here()
    assert code == 0, result
    metadata = run.metadata()
    # A class called `none` is not a missing value.
    assert metadata["classes"] == ["none", "some"]
    assert metadata["trainSamples"] + metadata["testSamples"] == 80
    assert metadata["notes"]["dates"] == {**{name: known for name, (_, known) in WRITTEN.items()}, "gone": "%d/%m/%Y"}
    spec = json.loads((run.output / "model" / "model.json").read_text())
    categories = {c["name"]: sorted(c["values"]) for c in spec["categorical"]}
    assert categories == {"member": ["false", "true"], "code": ["000", "001", "002"], "city": ["Oslo", "none"]}

    tables, _ = columns.read(run.root / "data", None, ["code"])
    by_columns = tabular.encoded(spec, tables.train.frame)
    as_text = [{name: str(value) for name, value in row.items()} for row in rows]
    for given in (rows, as_text):
        by_rows = tabular_predict.encode(spec, given)
        assert torch.equal(by_columns[0], by_rows[0])
        assert torch.equal(by_columns[1], by_rows[1])


def test_a_held_out_date_that_is_written_otherwise_is_named(trainer: Callable[..., Any]) -> None:
    train = "day,target\n" + "".join(f"{i:02d}/03/2020,{i % 2}\n" for i in range(1, 20))
    split = {"train": "train.csv", "validation": "held.csv"}
    run = trainer(
        {"recipe": "tabular-classification", "dataset": {"split": split}},
        {"train.csv": train, "held.csv": "day,target\n03/04/2020,1\n2020-03-04,0\n"},
    )
    code, result = run.here()
    assert code == 64
    assert "'day' holds dates written as %d/%m/%Y, but line 3 of held.csv has '2020-03-04'" in result["message"]


def test_what_was_held_out_does_not_reach_the_encoders(trainer: Callable[..., Any]) -> None:
    train = "x,target\n" + "".join(f"{i},{i % 2}\n" for i in range(20))
    held = "x,target\n" + "".join(f"{1000 + i},{i % 2}\n" for i in range(20))
    config = {
        "recipe": "tabular-classification",
        "params": {"epochs": 1},
        "dataset": {"split": {"train": "train.csv", "validation": "dev.csv"}},
    }
    run = trainer(config, {"train.csv": train, "dev.csv": held})
    assert run.here()[0] == 0
    spec = json.loads((run.output / "model" / "model.json").read_text())
    assert spec["numeric"][0]["center"] == pytest.approx(9.5)
    assert (run.metadata()["trainSamples"], run.metadata()["testSamples"]) == (20, 20)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_other_formats(ending: str, trainer: Callable[..., Any]) -> None:
    frame = pl.DataFrame({"x": [float(i) for i in range(60)], "label": ["a" if i < 30 else "b" for i in range(60)]})
    run = trainer({"recipe": "tabular-classification", "params": {"epochs": 2, "batchSize": 16}, "dataset": {}})
    path = run.root / "data" / f"rows.{ending}"
    if ending == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)
    assert run.here()[0] == 0
    assert run.metadata()["classes"] == ["a", "b"]


def test_target_that_is_missing_in_some_rows_is_left_out_and_counted(trainer: Callable[..., Any]) -> None:
    rows = "x,target\n" + "".join(f"{i},{'' if i % 10 == 0 else i % 2}\n" for i in range(50))
    run = trainer({"recipe": "tabular-classification", "params": {"epochs": 1}, "dataset": {}}, {"a.csv": rows})
    assert run.here()[0] == 0
    assert run.metadata()["notes"]["rowsWithoutTarget"] == 5
