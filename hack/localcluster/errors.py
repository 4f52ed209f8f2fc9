"""The one exception that the launcher shows to its user as a sentence, without a traceback."""

from __future__ import annotations


class LauncherError(Exception):
    """Something that the user can understand and act on; the text is the whole message."""
