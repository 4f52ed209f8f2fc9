"""How the services log: one line each to stderr, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message"}` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record. Exceptions are not printed: their text is nobody's to log."""
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            },
            ensure_ascii=False,
        )


def set_up_logging(log_format: Literal["text", "json"], level: str) -> None:
    """Logs from `level` up go to stderr; those of libraries from WARNING up."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("modelyard").setLevel(level)


def where(error: BaseException) -> str:
    """`module.py:12` of the frame that raised: says where to look without saying what was in it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"


def stack(error: BaseException) -> str:
    """The frames of an exception, without its text."""
    return "".join(traceback.format_tb(error.__traceback__))
