"""Servers that fail, connections that break, bytes that are wrong, volumes that are full, runs that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from hub.store import Store
from support.loading import TOKEN, Loader, Run, Server, children, tree, until
from support.ports import free_port
from support.tls_sink import Sink, certificates, never_accepting

WEIGHTS = "resolve/.*model.safetensors"


def load(loader: Loader, hub: Server, repo: str = "org/public", *arguments: str, **options: str) -> Run:
    return loader.run("HUGGING_FACE", f"huggingface://{repo}", *arguments, endpoint=hub.url, **options)


def expected(repositories: Path, name: str) -> dict[str, str]:
    repo = Store(repositories).get("models", name)
    assert repo is not None
    return {path: blob.sha256 for path, blob in repo.commits[repo.branches["main"]].files.items()}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_trouble_is_waited_for(loader: Loader, hub: Server, status: int) -> None:
    fault = {"status": status, "times": 2, "headers": {"Retry-After": "1"}}
    hub.order({"match": WEIGHTS, **fault}, {"match": "^/api/.*/revision/", **fault})
    run = load(loader, hub)
    assert run.code == 0, run.output
    assert "Trying again" in run.output


@pytest.mark.parametrize(("status", "reason"), [(429, "RateLimited"), (503, "ServerError")])
def test_a_lasting_trouble_ends_in_another_run(loader: Loader, hub: Server, status: int, reason: str) -> None:
    hub.order({"match": WEIGHTS, "status": status, "times": None})
    run = load(loader, hub, "org/public", "--retry-seconds=2")
    assert (run.code, run.said["reason"], run.said["retryable"]) == (75, reason, True)
    hub.order()
    assert load(loader, hub).code == 0


def test_a_wait_beyond_our_patience_is_not_begun(loader: Loader, hub: Server) -> None:
    hub.order({"match": WEIGHTS, "status": 429, "times": None, "headers": {"Retry-After": "3600"}})
    run = load(loader, hub)
    assert (run.code, run.said["reason"]) == (75, "RateLimited")
    counts = [count for path, count in hub.counts().items() if path.endswith("model.safetensors")]
    assert [count["requests"] for count in counts] == [{"GET": 1}]


def test_nobody_there(loader: Loader) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    run = loader.run("HUGGING_FACE", "huggingface://a/b", "--retry-seconds=1", endpoint=url)
    assert (run.code, run.said["reason"]) == (75, "Unreachable")
    assert "refuses connections" in run.said["message"]
    run = loader.run("HTTP", "http://no-such-host.invalid/f", "--retry-seconds=1")
    assert (run.code, run.said["reason"]) == (75, "Unreachable")
    assert "does not resolve" in run.said["message"]


def test_a_cut_connection_is_gone_on_with(loader: Loader, hub: Server, repositories: Path) -> None:
    hub.order({"match": WEIGHTS, "cut_after": 5_000_000, "times": 3})
    run = load(loader, hub, "org/large")
    assert run.code == 0, run.output
    assert tree(loader.data) == expected(repositories, "org/large")
    (count,) = (count for path, count in hub.counts().items() if path.endswith("model.safetensors"))
    assert count["requests"] == {"GET": 4}
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in count["ranges"]]
    assert starts == sorted(starts)
    assert starts[-1] > 10_000_000


def test_a_server_without_ranges_starts_again(loader: Loader, hub: Server, repositories: Path) -> None:
    hub.order({"match": WEIGHTS, "cut_after": 100_000}, {"match": WEIGHTS, "ignore_range": True})
    assert load(loader, hub).code == 0
    assert tree(loader.data) == expected(repositories, "org/public")


def test_wrong_bytes_are_fetched_once_more(loader: Loader, hub: Server, repositories: Path) -> None:
    for path in (WEIGHTS, "resolve/.*config.json"):
        hub.order({"match": path, "flip_at": 3})
        run = load(loader, hub, "org/public", mount_path="/data")
        assert run.code == 0, run.output
        assert "arrived damaged" in run.output
        assert tree(loader.data) == expected(repositories, "org/public")
        subprocess.run(["rm", "-rf", loader.data, loader.volume / ".modelyard"], check=True)


def test_bytes_that_stay_wrong_are_refused(loader: Loader, hub: Server) -> None:
    hub.order({"match": WEIGHTS, "flip_at": 3, "times": None})
    run = load(loader, hub)
    assert (run.code, run.said["reason"], run.said["retryable"]) == (64, "HashMismatch", False)
    assert "model.safetensors" in run.said["message"]
    assert not loader.data.exists()
    (count,) = (count for path, count in hub.counts().items() if path.endswith("model.safetensors"))
    assert count["requests"] == {"GET": 2}


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_byte_and_gone_on_with(loader: Loader, hub: Server, repositories: Path, seed: int) -> None:
    chance = random.Random(seed)
    hub.order({"match": "resolve", "bytes_per_second": 6 << 20, "times": None})
    total = sum(blob.stat().st_size for blob in _blobs(repositories, "org/large"))
    points = sorted(chance.randrange(total) for _ in range(4))
    for point in points:
        loader.kill_at(loader.start("HUGGING_FACE", "huggingface://org/large", endpoint=hub.url), point)
    run = load(loader, hub, "org/large")
    assert run.code == 0, run.output
    assert tree(loader.data) == expected(repositories, "org/large")
    twice = hub.sent() - total
    assert twice <= len(points) * 7 * (64 << 10), "at most what was in flight of each of the seven files"


def _blobs(repositories: Path, name: str) -> list[Path]:
    return [Store(repositories).blob(sha256) for sha256 in expected(repositories, name).values()]


def test_one_of_its_processes_is_killed(loader: Loader, hub: Server, repositories: Path) -> None:
    hub.order({"match": WEIGHTS, "bytes_per_second": 1 << 20, "times": None})
    process = loader.start("HUGGING_FACE", "huggingface://org/large", endpoint=hub.url)
    until(lambda: loader.staged() > 2 << 20, "some bytes")
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    run = loader.wait(process)
    assert (run.code, run.said["reason"], run.said["retryable"]) == (75, "Interrupted", True)
    hub.order()
    assert load(loader, hub, "org/large").code == 0
    assert tree(loader.data) == expected(repositories, "org/large")


def test_none_of_its_processes_outlives_it(loader: Loader, hub: Server) -> None:
    hub.order({"match": WEIGHTS, "bytes_per_second": 1 << 20, "times": None})
    process = loader.start("HUGGING_FACE", "huggingface://org/large", endpoint=hub.url)
    until(lambda: loader.staged() > 1 << 20, "some bytes")
    started = children(process.pid)
    assert started
    process.kill()
    process.wait()
    until(lambda: not any(_runs(child) for child in started), "all to be gone")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # nobody may have waited for it yet
    except OSError:
        return False


def test_sigterm_stops_at_once_and_keeps_what_is_there(loader: Loader, hub: Server, repositories: Path) -> None:
    hub.order({"match": WEIGHTS, "bytes_per_second": 1 << 20, "times": None})
    process = loader.start("HUGGING_FACE", "huggingface://org/large", endpoint=hub.url)
    until(lambda: loader.staged() > 2 << 20, "some bytes")
    process.send_signal(signal.SIGTERM)
    run = loader.wait(process)
    assert (run.code, run.said["reason"], run.said["retryable"]) == (75, "Interrupted", True)
    kept = loader.staged()
    assert kept > 2 << 20
    hub.order()
    assert load(loader, hub, "org/large").code == 0
    assert tree(loader.data) == expected(repositories, "org/large")


def test_two_runs_do_not_meet(loader: Loader, hub: Server) -> None:
    hub.order({"match": WEIGHTS, "bytes_per_second": 1 << 20, "times": None})
    first = loader.start("HUGGING_FACE", "huggingface://org/large", endpoint=hub.url)
    until(lambda: loader.staged() > 1 << 20, "some bytes")
    second = load(loader, hub, "org/public", "--retry-seconds=1")
    assert (second.code, second.said["reason"]) == (75, "Interrupted")
    assert "Another download" in second.said["message"]
    first.kill()
    first.wait()


def test_what_is_not_ours_is_never_replaced(loader: Loader, hub: Server) -> None:
    loader.data.mkdir()
    (loader.data / "thesis.txt").write_text("mine")
    run = load(loader, hub)
    assert (run.code, run.said["reason"]) == (64, "BadInput")
    assert "did not put there" in run.said["message"]
    assert tree(loader.data).keys() == {"thesis.txt"}


def test_a_way_out_of_the_volume_is_refused(loader: Loader, hub: Server, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (loader.volume / "way").symlink_to(tmp_path / "elsewhere")
    run = loader.run("HUGGING_FACE", "huggingface://org/public", mount_path="/way/data", endpoint=hub.url)
    assert (run.code, run.said["reason"]) == (64, "BadInput")
    assert not list((tmp_path / "elsewhere").iterdir())


def small_volume(loader: Loader, megabytes: int, before: str = "true") -> None:
    """Gives the loader a volume of this size: a tmpfs in a mount namespace of its own, as root or as a mapped user.

    `before` is a shell's command, with the volume as $0 and the loader's command as $@.
    """
    flags = ["--mount"] if os.getuid() == 0 else ["--mount", "--map-root-user"]
    mount = f'mount -t tmpfs -o size={megabytes}m,mode=1777 tmpfs "$0" && {before} && exec "$@"'
    loader.prefix = ["unshare", *flags, "--", "sh", "-c", mount, str(loader.volume)]


def test_a_volume_that_is_too_small_is_seen_before(loader: Loader, hub: Server) -> None:
    small_volume(loader, 8)
    run = load(loader, hub, "org/large")
    assert (run.code, run.said["reason"], run.said["retryable"]) == (64, "DiskFull", False)
    assert "MiB" in run.said["message"]
    assert hub.sent() == 0


def test_room_that_a_killed_run_set_aside_is_not_asked_for_again(loader: Loader, hub: Server) -> None:
    hub.order({"match": "resolve", "bytes_per_second": 2 << 20, "times": 4})
    half = '"$@" & until [ $(du -sk "$0" | cut -f 1) -gt 24000 ]; do sleep 0.1; done; kill -9 $!; ! wait $!'
    small_volume(loader, 32, f"{{ {half}; }}")
    run = load(loader, hub, "org/large")
    assert run.code == 0, run.output


def test_what_another_download_left_makes_room(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    for number in range(100):
        (tmp_path / f"www/{number}.bin").write_bytes(random.Random(number).randbytes(40 << 10))
    files = Server("hub.files", "--root", tmp_path / "www")
    left = '"$0/.modelyard/staging-left/parts"'
    try:
        small_volume(loader, 8, f"mkdir -p {left} && head -c 6000000 /dev/zero >{left}/one")
        run = loader.run("HTTP", f"{files.url}/")
        assert (run.code, run.said.get("files")) == (0, 100), run.output
    finally:
        files.stop()


def test_a_volume_that_fills_up_is_seen_during(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/large.bin").write_bytes(random.Random(1).randbytes(12 << 20))
    files = Server("hub.files", "--root", tmp_path / "www")
    try:
        files.order({"match": "large", "no_length": True, "times": None})
        small_volume(loader, 8)
        run = loader.run("HTTP", f"{files.url}/large.bin")
        assert (run.code, run.said["reason"]) == (64, "DiskFull")
        assert "free" in run.said["message"]
    finally:
        files.stop()


def test_a_volume_that_nobody_may_write(loader: Loader, hub: Server) -> None:
    loader.prefix = _ordinary_user()
    loader.volume.chmod(0o555)
    run = load(loader, hub)
    assert (run.code, run.said["reason"]) == (64, "BadInput")
    assert "fsGroup" in run.said["message"]


def _ordinary_user() -> list[str]:
    """As in a restricted pod: user and group 1000, no capability but to read (this Python may be in root's home)."""
    if os.getuid() != 0:
        return []
    read = "-all,+dac_read_search"
    capabilities = [f"--{kind}={read}" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    return ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *capabilities]


def test_as_an_ordinary_user_in_a_volume_of_its_group(loader: Loader, hub: Server, repositories: Path) -> None:
    loader.prefix = _ordinary_user()
    if os.getuid() == 0:
        os.chown(loader.volume, 0, 1000)
    loader.volume.chmod(0o2775)
    run = load(loader, hub, "org/public", "--mount-uid=1000", "--mount-gid=1000")
    assert run.code == 0, run.output
    assert tree(loader.data) == expected(repositories, "org/public")
    assert "could not be set" not in run.output or os.getuid() not in (0, 1000)
    assert (loader.data / "deep").stat().st_mode & 0o7777 == 0o2755


def test_progress_goes_to_the_collector(loader: Loader, hub: Server, tmp_path: Path) -> None:
    made = certificates(tmp_path)
    sink = Sink(made)
    (tmp_path / "token").write_text("projected\n")
    loader.environment = {
        "MODELYARD_COLLECTOR_URL": sink.url,
        "MODELYARD_CA_PEM": made.ca_pem,
        "MODELYARD_TOKEN_FILE": str(tmp_path / "token"),
        "MODELYARD_NAMESPACE": "team",
        "MODELYARD_MODEL": "minilm",
        "MODELYARD_VERSION": "v2",
        "MODELYARD_VOLUME": "mdl-minilm-v2",
    }
    try:
        hub.order({"match": WEIGHTS, "bytes_per_second": 10 << 20})
        assert load(loader, hub, "org/large").code == 0
        until(
            lambda: sink.requests and sink.requests[-1]["bytes"] == sink.requests[-1]["totalBytes"], "the last reading"
        )
        assert set(sink.paths) == {"/v1/namespaces/team/models/minilm/downloads"}
        assert set(sink.tokens) == {"Bearer projected"}
        assert [request["seq"] for request in sink.requests] == list(range(1, len(sink.requests) + 1))
        last = sink.requests[-1]
        assert (last["version"], last["volume"], last["files"]) == ("v2", "mdl-minilm-v2", last["totalFiles"])
    finally:
        sink.close()


def test_progress_of_a_dataset_is_told_under_its_name(loader: Loader, hub: Server, tmp_path: Path) -> None:
    made = certificates(tmp_path)
    sink = Sink(made)
    loader.environment = {
        "MODELYARD_COLLECTOR_URL": sink.url,
        "MODELYARD_CA_PEM": made.ca_pem,
        "MODELYARD_NAMESPACE": "team",
        "MODELYARD_DATASET_JOB": "dataset-mdl-minilm-v2-round-3",
    }
    try:
        assert load(loader, hub).code == 0
        assert set(sink.paths) == {"/v1/namespaces/team/datasets/mdl-minilm-v2/downloads"}
    finally:
        sink.close()


def test_a_dead_collector_holds_nothing_up(loader: Loader, hub: Server) -> None:
    url, close = never_accepting()
    loader.environment = {"MODELYARD_COLLECTOR_URL": url, "MODELYARD_NAMESPACE": "n", "MODELYARD_MODEL": "m"}
    try:
        hub.order({"match": WEIGHTS, "bytes_per_second": 6 << 20})
        run = load(loader, hub, "org/large")
        assert run.code == 0, run.output
    finally:
        close()


def test_redirects_do_not_carry_credentials(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/a.bin").write_bytes(b"content")
    other = Server("hub.files", "--root", tmp_path / "www")
    front = Server("hub.files", "--root", tmp_path / "www", "--credential-env", "EXPECTED", EXPECTED=f"Bearer {TOKEN}")
    try:
        loader.secret(token=TOKEN)
        front.order({"match": "a.bin", "times": None, "status": 302, "headers": {"Location": f"{other.url}/a.bin"}})
        run = loader.run("HTTP", f"{front.url}/a.bin")
        assert run.code == 0, run.output
        assert other.counts()["/a.bin"]["credentials"] == 0
        assert front.counts()["/a.bin"]["credentials"] > 0
    finally:
        front.stop()
        other.stop()
