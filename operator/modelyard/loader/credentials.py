"""Credentials from the mounted Secret: one file per key, as the kubelet writes them."""

from __future__ import annotations

from pathlib import Path

from modelyard.loader.failure import bad_input


class Credentials:
    """Reads keys by name. It has no representation that shows a value."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return "Credentials()"

    def get(self, key: str) -> str | None:
        """The value without surrounding white space, or None when the key is absent or empty.

        Raises:
            LoadError: BadInput when the file can't be read or holds control characters.
        """
        text = self.lines(key) or ""
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise bad_input(f"The Secret's key {key} has a line break or control character inside.")
        return text or None

    def lines(self, key: str) -> str | None:
        """A value that may have several lines, such as a private key, without surrounding white space.

        Raises:
            LoadError: BadInput when the file can't be read as text.
        """
        try:
            value = (self._folder / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            raise bad_input(f"The Secret's key {key} can't be read by this container's user.") from None
        try:
            return value.decode("utf-8").replace("\r\n", "\n").strip() or None
        except UnicodeDecodeError:
            raise bad_input(f"The Secret's key {key} is not text.") from None
