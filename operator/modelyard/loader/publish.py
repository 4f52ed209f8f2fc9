"""Makes a finished download valid: one rename puts the staged tree at its target, then the manifest says so.

A reader sees the old content or the new, never a mixture. `manifest.next.json` is the record of intent: when a run is
killed between the rename and the manifest, the next one finds the content in place and only promotes the record.

The volume's root can't be renamed, so for the target `/` the entries are renamed one by one and the manifest is the
only mark of validity.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from modelyard.loader import disk
from modelyard.loader.failure import bad_input
from modelyard.loader.manifest import Manifest
from modelyard.loader.request import STATE_FOLDER
from modelyard.loader.staging import Staging


class Publisher:
    """Knows where a volume's content and its records are."""

    def __init__(self, root: Path, state: Path, access: disk.Access) -> None:
        self._root = root
        self._state = state
        self._access = access
        self._manifest = state / "manifest.json"
        self._next = state / "manifest.next.json"

    def current(self) -> Manifest | None:
        """What the volume holds, files in place; a run that was killed while it made this valid is completed first."""
        intent = Manifest.read(self._next)
        if intent is not None:
            with disk.writing(self._root, None):
                self._complete(intent)
                self._next.unlink(missing_ok=True)  # from here on the staged tree may change
        manifest = Manifest.read(self._manifest)
        return manifest if manifest is not None and manifest.intact(self._root) else None

    def _complete(self, intent: Manifest) -> None:
        target = self._root / intent.target
        tree = Staging.tree_of(self._state, intent.key)
        if not intent.target and tree.is_dir():
            self._spread(tree, intent)
        elif not target.is_dir() or target.stat().st_ino != intent.inode:
            return  # killed before the rename: the tree is still staged
        if intent.intact(self._root):
            os.replace(self._next, self._manifest)

    def publish(self, manifest: Manifest, staging: Staging) -> None:
        """Puts the staged tree in place.

        Raises:
            LoadError: BadInput when something that is not ours is at the target; DiskFull.
        """
        with disk.writing(self._root, None):
            self._dress(staging.tree)
            target = self._root / manifest.target
            ours = self._ours(manifest.target)
            if manifest.target:
                self._refuse_foreign(target, manifest.target, ours)
            manifest.write(self._next)
            disk.sync(self._state)
            if manifest.target:
                self._swap(staging, target)
            else:
                self._spread(staging.tree, manifest)
            disk.sync(self._state)
            os.replace(self._next, self._manifest)
            shutil.rmtree(staging.folder, ignore_errors=True)

    def _ours(self, target: str) -> bool:
        return any(
            record is not None and record.target == target
            for record in (Manifest.read(self._manifest), Manifest.read(self._next))
        )

    def _dress(self, tree: Path) -> None:
        folders = [str(tree)]  # not by os.walk, which would have each file looked at twice, to leave links out
        while folders:
            self._access.apply(folder := folders.pop())
            with os.scandir(folder) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_symlink():
                        self._access.apply(entry.path)

    def _refuse_foreign(self, target: Path, name: str, ours: bool) -> None:
        resolved = Path(os.path.realpath(target.parent))
        if not resolved.is_relative_to(os.path.realpath(self._root)):
            raise bad_input(f"/{name} leads out of the volume by a symbolic link.")
        if ours or not os.path.lexists(target):
            return
        if target.is_symlink() or not target.is_dir() or any(target.iterdir()):
            raise bad_input(
                f"/{name} in the volume holds something that this loader did not put there."
                " Empty it, or choose another path or volume."
            )

    def _swap(self, staging: Staging, target: Path) -> None:
        for parent in reversed(target.relative_to(self._root).parents[:-1]):
            folder = self._root / parent
            if not folder.is_dir():
                folder.mkdir()
                self._access.apply(folder)
        if not target.is_dir() or not any(target.iterdir()):
            os.rename(staging.tree, target)
            return
        if disk.exchange(staging.tree, target):
            return
        aside = staging.folder / "old"
        os.rename(target, aside)
        os.rename(staging.tree, target)

    def _spread(self, tree: Path, manifest: Manifest) -> None:
        before = Manifest.read(self._manifest)
        with contextlib.suppress(FileNotFoundError):
            self._manifest.unlink()  # from here to the new manifest the root is not valid
        wanted = {entry.path for entry in manifest.files}
        if before is not None and not before.target:
            for entry in before.files:
                if entry.path not in wanted:
                    with contextlib.suppress(OSError):
                        (self._root / entry.path).unlink()
                        os.removedirs((self._root / entry.path).parent)
        for folder, names, files in os.walk(tree):
            place = self._root / Path(folder).relative_to(tree)
            for name in names:
                if name != STATE_FOLDER and not (place / name).is_dir():
                    (place / name).mkdir()
                    self._access.apply(place / name)
            for name in files:
                os.replace(Path(folder, name), place / name)
