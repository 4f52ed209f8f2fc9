"""Bad input ends with code 64 and a sentence that says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import BertConfig, GPT2Config, GPT2LMHeadModel

TABULAR = {"recipe": "tabular-classification", "params": {"epochs": 1}}
TEXT = {"recipe": "text-classification", "params": {"epochs": 1}}
ROWS = "x,y,target\n" + "".join(f"{i},{i * 2},{i % 2}\n" for i in range(40))
TEXTS = "text,label\n" + "".join(f"words {i},{'ab'[i % 2]}\n" for i in range(20))


def lines(*changed: tuple[int, str], rows: str = ROWS) -> str:
    """`rows` with some lines (numbered from 1, as editors do) replaced."""
    found = rows.splitlines()
    for number, text in changed:
        found[number - 1] = text
    return "\n".join(found) + "\n"


TABULAR_CASES: list[tuple[str, dict[str, Any], dict[str, str], str]] = [
    (
        "missing column",
        {"dataset": {"columns": {"target": "outcome"}}},
        {"a.csv": ROWS},
        "The data set has no column 'outcome' (dataset.columns.target). It has: x, y, target.",
    ),
    (
        "one class",
        {},
        {"a.csv": "x,target\n" + "1,a\n" * 20},
        "Column 'target' has only one class, 'a', in 20 rows: there is nothing to tell apart.",
    ),
    (
        "a number as a class",
        {},
        {"a.csv": "x,target\n" + "".join(f"{i},{i * 1.5}\n" for i in range(40))},
        "Column 'target' has 40 different values in 40 rows: that is a number to predict, not a class. "
        "Use the regression recipe of the family.",
    ),
    (
        "unknown label",
        {"dataset": {"split": {"train": "train.csv", "validation": "dev.csv"}}},
        {"train.csv": ROWS, "dev.csv": "x,y,target\n1,2,0\n1,2,7\n"},
        "The label '7' at line 3 of dev.csv is not among the 2 labels of the training split: 0, 1.",
    ),
    (
        "short row",
        {},
        {"a.csv": lines((7, "5,10"))},
        "Line 7 of a.csv ends after 2 of 3 columns: column 'target' is missing.",
    ),
    (
        "long row",
        {},
        {"a.csv": lines((9, "7,14,1,8"))},
        "Line 9 of a.csv has 4 values for 3 columns: the first one too many comes after column 'target'.",
    ),
    (
        "broken value",
        {},
        {"a.csv": lines((12, "10,twenty,0"))},
        "Column 'y' holds numbers, but line 12 of a.csv has 'twenty' there (1 such rows of 40). Mend the rows, leave "
        "the column out with dataset.columns.ignore, or name it in tabular.categoricalColumns.",
    ),
    (
        "broken JSON",
        {},
        {"a.jsonl": '{"x": 1, "target": 0}\n{"x": 2, "target": 1\n'},
        "Line 2 of a.jsonl is not valid JSON (at character 21).",
    ),
    (
        "no object",
        {},
        {"a.jsonl": '{"x": 1, "target": 0}\n[1, 2]\n'},
        "Line 2 of a.jsonl is not a JSON object.",
    ),
    (
        "damaged parquet",
        {},
        {"a.parquet": "not one"},
        "a.parquet is not a readable Parquet file: it is damaged, or of another format.",
    ),
    (
        "empty file",
        {},
        {"a.csv": "x,target\n"},
        "The training split is empty: a.csv has no rows.",
    ),
    (
        "empty held-out file",
        {"dataset": {"split": {"train": "train.csv", "validation": "dev.csv"}}},
        {"train.csv": ROWS, "dev.csv": "x,y,target\n"},
        "The validation split is empty: dev.csv has no rows.",
    ),
    (
        "nothing to hold out",
        {},
        {"a.csv": "x,target\n1,a\n2,b\n"},
        "The validation split is empty: 2 rows are too few to hold some out. Add rows, or name a file in "
        "dataset.split.validation.",
    ),
    (
        "no files",
        {},
        {"readme.md": "hello"},
        "There is no CSV, JSONL or Parquet file in the data set's folder 'data': check dataset.path and format.",
    ),
    (
        "absent file",
        {"dataset": {"path": "rows.csv"}},
        {"a.csv": ROWS},
        "There is no 'rows.csv' in the data set: check dataset.path and dataset.split.",
    ),
    (
        "path that leaves",
        {"dataset": {"path": "../secret.csv"}},
        {"a.csv": ROWS},
        "The path '../secret.csv' leaves the data set: name a file or folder below its root.",
    ),
    (
        "columns differ",
        {},
        {"a.csv": ROWS, "b.csv": "x,z,target\n1,2,0\n"},
        "a.csv and b.csv do not have the same columns: 'y' is in one only.",
    ),
    (
        "metric of the other kind",
        {"params": {"bestMetric": "r2"}},
        {"a.csv": ROWS},
        "bestMetric r2 does not fit a classification recipe: use one of loss, accuracy, f1, auroc.",
    ),
    (
        "unknown parameter",
        {"params": {"epoch": 3}},
        {"a.csv": ROWS},
        "The configuration is wrong at epoch: Extra inputs are not permitted.",
    ),
    (
        "text as a number to predict",
        {"recipe": "tabular-regression"},
        {"a.csv": "x,target\n" + "1,a\n2,b\n" * 10},
        "Column 'target' does not hold numbers: a regression needs one. Use the classification recipe.",
    ),
]


@pytest.mark.parametrize(
    ("more", "files", "message"), [c[1:] for c in TABULAR_CASES], ids=[c[0] for c in TABULAR_CASES]
)
def test_tabular(more: dict[str, Any], files: dict[str, str], message: str, trainer: Callable[..., Any]) -> None:
    code, result = trainer({**TABULAR, **more}, files).here()
    assert (code, result["reason"], result["message"]) == (64, "BadInput", message)


def test_loss_that_is_not_a_number_names_step_and_batch(trainer: Callable[..., Any]) -> None:
    rows = lines((20, "1e39,0,1"))
    config = {**TABULAR, "params": {"epochs": 3, "batchSize": 8, "scaling": "None"}}
    code, result = trainer(config, {"a.csv": rows}).here()
    assert code == 64
    assert result["message"].startswith("The loss is not a finite number at step ")
    assert "(epoch 1, batch " in result["message"]
    assert "line" in result["message"]
    assert result["message"].endswith("Look for extreme values there, or lower learningRate.")


def test_exit_code_of_the_process(trainer: Callable[..., Any]) -> None:
    code, reports = trainer({**TABULAR, "dataset": {"columns": {"target": "outcome"}}}, {"a.csv": ROWS}).run()
    assert code == 64
    assert reports[-1]["phase"] == "Failed"
    assert reports[-1]["result"]["message"].startswith("The data set has no column 'outcome'")


def test_recipe_without_a_data_set(trainer: Callable[..., Any], tmp_path: Path) -> None:
    run = trainer(TABULAR, extra={"MODELYARD_DATASET": str(tmp_path / "absent")})
    assert run.here()[1]["message"] == (
        "The recipe tabular-classification needs a data set, and none is mounted: set spec.dataset."
    )


def test_recipe_that_is_not_built(trainer: Callable[..., Any]) -> None:
    assert trainer({"recipe": "custom", "params": {"command": ["train"]}}).here()[1]["message"] == (
        "The recipe custom is not part of this version of the trainer."
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    return folder


def test_base_model_absent(trainer: Callable[..., Any], tmp_path: Path) -> None:
    code, result = trainer(TEXT, {"a.csv": TEXTS}, model=tmp_path / "absent").here()
    assert (code, result["message"]) == (
        64,
        "The recipe text-classification needs a base model, and none is there: set spec.model.ref.",
    )


def test_base_model_without_configuration(trainer: Callable[..., Any], base: Path) -> None:
    code, result = trainer(TEXT, {"a.csv": TEXTS}, model=base).here()
    assert code == 64
    assert result["message"] == (
        "The base model has no readable config.json: check model.ref and the files that its version includes."
    )


def test_base_model_that_writes_text(trainer: Callable[..., Any], base: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1)).save_pretrained(base)
    code, result = trainer(TEXT, {"a.csv": TEXTS}, model=base).here()
    assert code == 64
    assert result["message"] == (
        "The base model is of the family 'gpt2', which writes text: a text recipe needs an encoder like BERT. "
        "For language models there is the recipe causal-lm."
    )


def test_base_model_that_is_a_pipeline(trainer: Callable[..., Any], base: Path) -> None:
    (base / "model_index.json").write_text("{}")
    assert trainer(TEXT, {"a.csv": TEXTS}, model=base).here()[1]["message"] == (
        "The base model is a diffusers pipeline: a text recipe needs an encoder such as BERT."
    )


def test_base_model_in_pickles_is_not_loaded(trainer: Callable[..., Any], base: Path) -> None:
    BertConfig(hidden_size=8).save_pretrained(base)
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    assert trainer(TEXT, {"a.csv": TEXTS}, model=base).here()[1]["message"] == (
        "The base model has no *.safetensors file. Weights in other formats can hold programs and are not loaded: "
        "take a revision with safetensors, or include them in the version."
    )


def test_base_model_that_is_damaged(trainer: Callable[..., Any], base: Path, minilm: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "config.json"):
        (base / name).write_bytes((minilm / name).read_bytes())
    (base / "model.safetensors").write_bytes((minilm / "model.safetensors").read_bytes()[:5000])
    code, result = trainer(TEXT, {"a.csv": TEXTS}, model=base).here()
    assert code == 64
    assert result["message"].startswith("The base model's weights can't be loaded: its files are incomplete or damaged")


def test_text_that_is_too_long_is_named(trainer: Callable[..., Any], tiny_bert: Path) -> None:
    rows = lines((5, "one two three four five six seven eight,a"), rows=TEXTS)
    config = {**TEXT, "params": {"epochs": 1, "maxLength": 6, "longText": "Refuse"}}
    assert trainer(config, {"a.csv": rows}, model=tiny_bert).here()[1]["message"] == (
        "The text at line 5 of a.csv has 10 tokens, more than 6: raise maxLength, shorten it, "
        "or set longText: Truncate."
    )


def test_adapter_for_layers_that_are_not_there(trainer: Callable[..., Any], tiny_bert: Path) -> None:
    config = {**TEXT, "params": {"method": "LoRA", "lora": {"targetModules": ["q_proj"]}}}
    assert trainer(config, {"a.csv": TEXTS}, model=tiny_bert).here()[1]["message"] == (
        "The base model has no layers called q_proj: correct lora.targetModules, or leave it out "
        "for every linear layer."
    )


def test_column_without_text(trainer: Callable[..., Any], tiny_bert: Path) -> None:
    frame = pl.DataFrame({"text": ["", "", "", ""], "label": ["a", "b", "a", "b"]})
    assert trainer(TEXT, {"a.csv": frame.write_csv()}, model=tiny_bert).here()[1]["message"] == (
        "Column 'text' has no text in any row: check dataset.columns.text."
    )
