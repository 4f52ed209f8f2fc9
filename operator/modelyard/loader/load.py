"""One download from start to end, in order: what is there, what is wanted, fetch, make valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modelyard.loader.console import files as told
from modelyard.loader.console import say, size
from modelyard.loader.content import Builder, Prober, RemoteFile, Source
from modelyard.loader.crew import Crew
from modelyard.loader.disk import Access
from modelyard.loader.fetch import Fetcher
from modelyard.loader.gather import HANDS, Hand, gather
from modelyard.loader.manifest import Entry, Manifest, digest, entries
from modelyard.loader.progress import Progress
from modelyard.loader.publish import Publisher
from modelyard.loader.request import Request
from modelyard.loader.retry import Patience
from modelyard.loader.staging import Staging, discard, locked
from modelyard.loader.unpack import unpack, wanted


@dataclass(frozen=True)
class Outcome:
    """What a good run leaves in the volume. `revision` is a commit or an entity tag, empty when nothing is copied."""

    revision: str
    bytes: int
    files: int
    digest: str


def load(request: Request, source: Source | Builder | None, crew: Crew | None, progress: Progress) -> Outcome:
    """Brings the request's content into its volume, or finds that it is there already.

    `source` is what the request names, None when there is nothing to copy; without a `crew` this process fetches.

    Raises:
        LoadError: the reason why not; everything fetched so far is kept for the next run.
    """
    if source is None:
        say(f"Type {request.type} is mounted where it is: nothing to copy.")
        return Outcome("", 0, 0, digest([]))
    packed = wanted(request)
    access = Access(request.mode, request.uid, request.gid, programs=isinstance(source, Builder))
    with locked(request) as lock:
        if crew is not None:
            crew.hold(lock)
        publisher = Publisher(request.root, request.state, access)
        there = publisher.current()
        if there is not None and (there.key, there.target) != (request.key, request.target):
            there = None
        if there is not None and source.pinned() == there.revision:
            return _already(there, request.state, progress)
        held = None if there is None else there.revision
        staging = Staging(request.state, request.key)
        if crew is not None and isinstance(source, Prober):
            source.probe_by(crew.probe if there is not None else partial(_ask, crew, staging, request.state, progress))
        snapshot = Patience(request.patience).keep(lambda: source.snapshot(held))
        if there is not None and snapshot.revision == there.revision:
            return _already(there, request.state, progress)
        counted = f": {told(len(snapshot.files))}" if snapshot.files else ""
        say(f"{snapshot.origin} is at revision {snapshot.revision}{counted}.")
        if isinstance(source, Builder):
            files = _built(source, staging, progress, request.patience)
        else:
            if crew is None:
                hands: Sequence[Hand] = [Fetcher(source, staging, progress, access, request.patience).fetch] * HANDS
            else:
                hands = crew.hands(progress)
            files = gather(snapshot.files, staging, progress, hands, crew.whole if crew is not None else ())
            if packed:
                files = unpack(staging.tree, files)
        manifest = Manifest(
            key=request.key,
            type=request.type,
            origin=snapshot.origin,
            options=request.options,
            revision=snapshot.revision,
            target=request.target,
            inode=staging.tree.stat().st_ino,
            files=files,
        )
        staging.written()
        if crew is not None:
            crew.end()
        publisher.publish(manifest, staging)
        if access.foreign:
            say(f"The owner {request.uid}:{request.gid} could not be set everywhere: this user may not change owners.")
        say(f"Done: {told(len(files))}, {size(manifest.bytes)}, verified.")
        return _outcome(manifest)


def _ask(
    crew: Crew, staging: Staging, state: Path, progress: Progress, files: Sequence[RemoteFile]
) -> Sequence[RemoteFile]:
    """Asks what files are: by fetching their beginnings, where nothing is there that may be whole already."""
    if staging.begun():
        return crew.probe(files)
    discard(state)  # of other downloads: their room may be needed
    return crew.begin(files, progress)


def _built(source: Builder, staging: Staging, progress: Progress, patience: float) -> list[Entry]:
    def once() -> None:
        staging.clear()
        source.build(staging.tree, progress)

    Patience(patience).keep(once)
    return entries(staging.tree)


def _already(manifest: Manifest, state: Path, progress: Progress) -> Outcome:
    discard(state)
    say(f"Done: revision {manifest.revision} is in the volume already.")
    progress.expect(manifest.bytes, len(manifest.files))
    progress.kept(manifest.bytes)
    for _ in manifest.files:
        progress.whole()
    return _outcome(manifest)


def _outcome(manifest: Manifest) -> Outcome:
    return Outcome(manifest.revision, manifest.bytes, len(manifest.files), digest(manifest.files))
