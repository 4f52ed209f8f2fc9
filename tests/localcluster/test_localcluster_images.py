"""Image archives made without an image tool."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from localcluster.oci import write_archive


def test_the_same_folder_gives_the_same_image(tmp_path: Path) -> None:
    indexes = []
    for number in (1, 2):
        tree = tmp_path / f"tree{number}"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin" / "tool").write_text("#!/bin/sh\n")
        (tree / "bin" / "tool").chmod(0o755)
        (tree / "bin" / "link").symlink_to("tool")
        archive = tmp_path / f"{number}.tar"
        write_archive(archive, "localhost/x:1", tree, {"Entrypoint": ["/bin/tool"]})
        with tarfile.open(archive) as read:
            index = read.extractfile("index.json")
            assert index is not None
            indexes.append(json.load(index))
    assert indexes[0] == indexes[1]
    assert indexes[0]["manifests"][0]["annotations"] == {"io.containerd.image.name": "localhost/x:1"}
