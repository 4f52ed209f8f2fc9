"""Packs the agent into one executable file that any image with Python 3.9 or newer can run.

`python -m modelyard_training.agent.bundle FILE`; then `python3 FILE -- command …` is the agent.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

_HERE = Path(__file__).parent
_MAIN = """\
import sys
if sys.version_info < (3, 9):
    sys.exit("The agent needs Python 3.9 or newer in the image.")
from modelyard_training.agent.__main__ import main
sys.exit(main())
"""


def build(target: Path) -> None:
    """Writes the file. Its bytes depend on the sources alone."""
    files = {f"modelyard_training/agent/{file.name}": file.read_text("utf-8") for file in sorted(_HERE.glob("*.py"))}
    files["modelyard_training/__init__.py"] = ""
    files["__main__.py"] = _MAIN
    with target.open("wb") as stream:
        stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    target.chmod(0o755)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
