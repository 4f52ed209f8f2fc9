"""`python -m generate [--check]`: write what is derived from the types, or fail where it is stale.

The CRDs at the repository's root are the one source; the chart carries copies because Helm reads nothing outside it.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART_CRDS = Path("charts/modelyard/files/crds")


def write(root: Path) -> list[Path]:
    """Write every generated file under `root`; returns their folders, relative to it."""
    crds, docs = Path("crds"), Path("docs/reference")
    for folder in (crds, docs, CHART_CRDS):
        (root / folder).mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "modelyard.resources.crd", str(root / crds)], check=True)
    subprocess.run([sys.executable, "-m", "modelyard.resources.docs", str(root / docs)], check=True)
    for path in sorted((root / crds).glob("*.yaml")):
        (root / CHART_CRDS / path.name).write_bytes(path.read_bytes())
    return [crds, docs, CHART_CRDS]


def stale(fresh: Path, folders: list[Path]) -> list[str]:
    """Names of the generated files that differ from what the types say now, or that nothing generates any more."""
    found: list[str] = []
    for folder in folders:
        comparison = filecmp.dircmp(fresh / folder, ROOT / folder, ignore=[])
        names = [*comparison.left_only, *comparison.right_only, *comparison.diff_files, *comparison.funny_files]
        found += [str(folder / name) for name in names]
    return sorted(found)


def main() -> int:
    """Exit code 0: fresh; 1: stale, with the names."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a generated file is stale")
    if not parser.parse_args().check:
        write(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = stale(Path(folder), write(Path(folder)))
    for name in found:
        print(f"{name} is stale: run `make generate` and commit what it writes", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
