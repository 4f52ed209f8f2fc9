from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.store import Store
from support.loading import TOKEN, Loader, Server

SMALL = {
    "config.json": b'{"a": 1}\n',
    "README.md": b"# A model\n",
    "deep/er/notes.txt": b"below\n",
    "empty.txt": b"",
    "model.safetensors": random.Random(1).randbytes(300_000),
}
LARGE_BYTES = 24 << 20


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a public, a private, a gated and a large repository, and one with two revisions."""
    root = tmp_path_factory.mktemp("repositories")
    store = Store(root)
    store.commit("models", "org/public", SMALL)
    store.commit("models", "org/private", SMALL, private=True)
    store.commit("models", "org/gated", SMALL, gated=True)
    store.commit("datasets", "org/rows", {"rows.csv": b"a,b\n1,2\n"})
    store.commit("models", "org/moving", {"a.txt": b"old\n", "gone.txt": b"only in the first\n"}, tag="v1")
    store.commit("models", "org/moving", {"a.txt": b"new\n"})
    large = {
        "model.safetensors": random.Random(2).randbytes(LARGE_BYTES),
        "more.bin": random.Random(3).randbytes(1 << 20),
    }
    store.commit("models", "org/large", {**SMALL, **large})
    store.commit("models", "org/many", {f"{number % 7}/{number}.txt": b"%d\n" % number for number in range(60)})
    return root


@pytest.fixture(scope="session")
def hub_server(repositories: Path) -> Iterator[Server]:
    server = Server("hub", "--root", repositories, "--page-entries", "25", HUB_TOKEN=TOKEN)
    yield server
    server.stop()


@pytest.fixture
def hub(hub_server: Server) -> Server:
    """The hub without faults and with fresh counts."""
    hub_server.order()
    return hub_server


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path)
