"""How the services log: one line each to stderr, as text or as JSON. No exception's text is ever in it."""

from __future__ import annotations

import copy
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


class TextFormatter(logging.Formatter):
    """Time, level, logger and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record, without the exception that came with it."""
        bare = copy.copy(record)
        bare.exc_info = bare.exc_text = bare.stack_info = None
        return super().format(bare)


def in_our_words(record: logging.LogRecord) -> bool:
    """What asyncio says of a task or callback that broke repeats its exception: here it says which one, and where."""
    if record.exc_info and (error := record.exc_info[1]) is not None:
        record.msg, record.args = "Something in the background ended: %s at %s.", (type(error).__name__, where(error))
    return True


def set_up_logging(log_format: Literal["text", "json"], level: str) -> None:
    """Logs from `level` up go to stderr; those of libraries from WARNING up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(in_our_words)
    logging.getLogger("modelyard").setLevel(level)


def where(error: BaseException) -> str:
    """`module.py:12` of the frame that raised: says where to look without saying what was in it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"


def stack(error: BaseException) -> str:
    """The frames of an exception, without its text."""
    return "".join(traceback.format_tb(error.__traceback__))
