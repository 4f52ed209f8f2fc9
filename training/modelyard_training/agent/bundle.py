"""Packs the agent into one executable file that any image with Python 3.9 or newer can run.

`python -m modelyard_training.agent.bundle FILE`; then `python3 FILE -- command …` is the agent.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

_HERE = Path(__file__).parent
_MAIN = """\
import os
import sys
if sys.version_info < (3, 9):
    # What the agent would do, in words that the oldest Python 3 understands: refuse the image for good, and say so.
    text = "Modelyard's agent needs Python 3.9 or newer as python3 in the image: choose another spec.compute.image."
    try:
        with open(os.environ.get("MODELYARD_TERMINATION_LOG") or "/dev/termination-log", "w") as log:
            log.write('{"result": "failed", "reason": "BadInput", "message": "' + text + '"}')
    except OSError:
        pass
    sys.stderr.write(text + "\\n")
    sys.exit(64)
from modelyard_training.agent.__main__ import main
sys.exit(main())
"""


def build(target: Path) -> None:
    """Writes the file. Its bytes depend on the sources alone."""
    files = {f"modelyard_training/agent/{file.name}": file.read_text("utf-8") for file in sorted(_HERE.glob("*.py"))}
    files["modelyard_training/__init__.py"] = ""
    files["__main__.py"] = _MAIN
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    target.chmod(0o755)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
