"""S3 against a real server process (moto's), set up by Amazon's own client."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from support.loading import Loader, Run, hashes, tree, until
from support.ports import free_port

FILES = {
    "config.json": b'{"a": 1}\n',
    "empty.txt": b"",
    "deep/er/ü b&c+d %25.txt": b"umlauts, blanks, signs\n",
    "weights.bin": random.Random(6).randbytes(6 << 20),
}
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}],
}
ADMIN = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin", "region_name": "us-east-1"}


class S3Server:
    """A server process with two buckets, a user and its key."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "log"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with open(self._log, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        until(lambda: self.process.poll() is not None or _listens(port), "the server's port")
        plain = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
        self.s3 = self.client("s3", config=plain)
        iam = self.client("iam")
        iam.create_user(UserName="reader")
        iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=json.dumps(ALLOW))
        self.key = _key(iam, "reader")
        iam.create_user(UserName="nobody")
        self.powerless = _key(iam, "nobody")
        self.s3.create_bucket(Bucket="models")
        self.put("models", {f"team/m/{path}": content for path, content in FILES.items()})
        self.s3.put_object(Bucket="models", Key="team/m/deep/", Body=b"")
        self.s3.put_object(Bucket="models", Key="team/m2/other.txt", Body=b"not below the folder")

    def client(self, service: str, **more: Any) -> Any:
        return boto3.client(service, endpoint_url=self.url, **ADMIN, **more)

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        for key, content in files.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def guard(self, open_requests: str) -> None:
        """After so many requests keys and rights are checked; before, any signed request is good."""
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", open_requests.encode(), {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request).close()

    def log(self) -> str:
        return self._log.read_text()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _key(iam: Any, user: str) -> dict[str, str]:
    made = iam.create_access_key(UserName=user)["AccessKey"]
    return {"access_key": made["AccessKeyId"], "secret_key": made["SecretAccessKey"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def guarded(server: S3Server) -> Iterator[S3Server]:
    server.guard("0")
    yield server
    server.guard("inf")


@pytest.fixture
def loader(tmp_path: Path, server: S3Server) -> Loader:
    """With a good key: the server opens nothing to strangers that its owner did not."""
    loader = Loader(tmp_path)
    loader.secret(**server.key)
    return loader


def load(loader: Loader, server: S3Server, uri: str, *arguments: str, **options: str) -> Run:
    return loader.run("S3", uri, *arguments, provider="MINIO", endpoint=server.url, **options)


def refused(run: Run, reason: str, *words: str) -> None:
    assert (run.code, run.said.get("reason")) == (64, reason), run.output
    for word in words:
        assert word in run.said["message"]


def test_a_folder(loader: Loader, server: S3Server) -> None:
    run = load(loader, server, "s3://models/team/m")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes(FILES)
    assert run.said["resolvedRevision"].startswith("sha256:")
    assert run.peak < 256 << 20
    fetched = server.log().count("GET /models/team/m/weights.bin")
    again = load(loader, server, "s3://models/team/m")
    assert (again.said, fetched) == (run.said, 1)
    assert server.log().count("GET /models/team/m/weights.bin") == fetched


def test_a_whole_bucket_and_a_single_object(loader: Loader, server: S3Server) -> None:
    server.s3.create_bucket(Bucket="small")
    server.put("small", {"a.txt": b"a", "b/c.txt": b"c"})
    assert load(loader, server, "s3://small").code == 0
    assert tree(loader.data) == hashes({"a.txt": b"a", "b/c.txt": b"c"})
    run = load(loader, server, "s3://small/b/c.txt")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"c.txt": b"c"})


def test_more_objects_than_a_page(loader: Loader, server: S3Server) -> None:
    server.s3.create_bucket(Bucket="many")
    server.put("many", {f"{number % 9}/{number}": b"%d" % number for number in range(1010)})
    run = load(loader, server, "s3://many", include="8/*")
    assert run.code == 0, run.output
    assert len(tree(loader.data)) == 112


def test_patterns(loader: Loader, server: S3Server) -> None:
    assert load(loader, server, "s3://models/team/m", include="*.json,*.txt", exclude="deep/").code == 0
    assert set(tree(loader.data)) == {"config.json", "empty.txt"}
    refused(load(loader, server, "s3://models/team/m", include="*.gguf"), "NoMatch", "*.gguf")


def test_a_name_that_no_file_can_have_is_refused_unless_it_is_excluded(loader: Loader, server: S3Server) -> None:
    server.s3.create_bucket(Bucket="odd")
    server.put("odd", {"a.txt": b"a", "x" * 256: b"x"})
    refused(load(loader, server, "s3://odd"), "BadInput", "Exclude it")
    assert load(loader, server, "s3://odd", exclude="x*").code == 0
    assert tree(loader.data) == hashes({"a.txt": b"a"})


def test_what_changed_is_taken_as_it_is_now(loader: Loader, server: S3Server) -> None:
    server.s3.create_bucket(Bucket="moving")
    server.put("moving", {"a.txt": b"old", "gone.txt": b"gone"})
    before = load(loader, server, "s3://moving")
    server.put("moving", {"a.txt": b"new"})
    server.s3.delete_object(Bucket="moving", Key="gone.txt")
    after = load(loader, server, "s3://moving")
    assert after.code == 0, after.output
    assert after.said["resolvedRevision"] != before.said["resolvedRevision"]
    assert tree(loader.data) == hashes({"a.txt": b"new"})


def test_an_object_in_parts_and_its_checksum(loader: Loader, server: S3Server) -> None:
    content = random.Random(7).randbytes(11 << 20)
    server.s3.create_bucket(Bucket="parts")
    upload = server.s3.create_multipart_upload(Bucket="parts", Key="big.bin")["UploadId"]
    parts = []
    for number, start in enumerate((0, 6 << 20), 1):
        body = content[start : start + (6 << 20)]
        answer = server.s3.upload_part(Bucket="parts", Key="big.bin", UploadId=upload, PartNumber=number, Body=body)
        parts.append({"ETag": answer["ETag"], "PartNumber": number})
    server.s3.complete_multipart_upload(
        Bucket="parts", Key="big.bin", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    server.s3.put_object(Bucket="parts", Key="sums.bin", Body=b"sums", ChecksumAlgorithm="SHA256")
    run = load(loader, server, "s3://parts")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"big.bin": content, "sums.bin": b"sums"})


def test_a_killed_run_is_gone_on_with(loader: Loader, server: S3Server) -> None:
    content = random.Random(8).randbytes(64 << 20)
    server.s3.create_bucket(Bucket="large")
    server.put("large", {"large.bin": content})
    for _ in range(20):  # it may be done before it is seen in the middle
        process = loader.start("S3", "s3://large", provider="MINIO", endpoint=server.url)
        until(lambda p=process: p.poll() is not None or loader.staged() >= 8 << 20, "some bytes")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL and 8 << 20 <= loader.staged() < len(content):
            break
        for path in (loader.data, loader.volume / ".modelyard"):
            shutil.rmtree(path, ignore_errors=True)
    assert 8 << 20 <= loader.staged() < len(content)
    run = load(loader, server, "s3://large")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"large.bin": content})
    assert '" 206 ' in server.log()
    assert run.peak < 256 << 20
    server.s3.delete_object(Bucket="large", Key="large.bin")


def test_keys(loader: Loader, guarded: S3Server) -> None:
    loader.secret(**{**guarded.key, "secret_key": "canary-wrong"})
    refused(load(loader, guarded, "s3://models/team/m"), "Unauthorized", "Check the Secret")
    loader.secret(access_key="AKIACANARYNOTTHERE00", secret_key="canary-wrong")
    refused(load(loader, guarded, "s3://models/team/m"), "Unauthorized", "Check the Secret")
    loader.secret(**guarded.powerless)
    refused(load(loader, guarded, "s3://models/team/m"), "Forbidden", "these keys")
    loader.secret(**guarded.key)
    run = load(loader, guarded, "s3://models/team/m")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes(FILES)
    kept = (loader.volume / ".modelyard/manifest.json").read_text()
    for value in guarded.key.values():
        assert value not in run.output + json.dumps(run.said) + kept


def test_a_public_bucket_needs_no_keys(loader: Loader, server: S3Server) -> None:
    server.s3.create_bucket(Bucket="public")
    server.put("public", {"a.txt": b"a"})
    server.s3.put_bucket_policy(Bucket="public", Policy=json.dumps(PUBLIC))
    for path in loader.secrets.iterdir():
        path.unlink()
    refused(load(loader, server, "s3://models/team/m"), "Unauthorized", "not public", "access-key")
    run = load(loader, server, "s3://public")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"a.txt": b"a"})


def test_what_is_not_there(loader: Loader, server: S3Server) -> None:
    refused(load(loader, server, "s3://no-such-bucket/a"), "NotFound", "no-such-bucket")
    refused(load(loader, server, "s3://models/team/none"), "NotFound", "models/team/none")


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("s3://abc/b", {"provider": "GOOGLE"}, "AWS or MINIO"),
        ("s3://abc/b", {"provider": "MINIO"}, "endpoint"),
        ("s3://key:word@bucket/b", {}, "s3://bucket/folder"),
        ("s3://abc/../b", {}, ".."),
        ("s3://abc/b", {"endpoint": "http://h/path"}, "without a path"),
        ("s3://abc/b", {"endpoint": "http://me:pass@h"}, "belong into the Secret"),
        ("s3://abc/b", {"syncMode": "copy"}, "syncMode"),
        ("s3://abc/b", {"revision": "v1"}, "no option revision"),
    ],
)
def test_a_request_that_is_wrong(loader: Loader, uri: str, options: dict[str, str], words: str) -> None:
    run = loader.run("S3", uri, **options)
    refused(run, "BadInput", words)
    assert "word@" not in run.output
    assert "pass@" not in run.output


def test_half_a_pair_of_keys_is_refused(loader: Loader, server: S3Server) -> None:
    (loader.secrets / "secret-key").unlink()
    refused(load(loader, server, "s3://models/team/m"), "BadInput", "lacks the key secret-key")


def test_nobody_there(loader: Loader) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    run = loader.run("S3", "s3://abc/b", "--retry-seconds=1", endpoint=url)
    assert (run.code, run.said["reason"]) == (75, "Unreachable"), run.output
    assert "refuses connections" in run.said["message"]


def test_a_server_that_does_not_speak_the_protocol(loader: Loader, hub: Any) -> None:
    run = loader.run("S3", "s3://abc/b", "--retry-seconds=1", endpoint=hub.url)
    refused(run, "BadInput", "does not answer as an S3 service does")
    assert os.listdir(loader.volume / ".modelyard") == ["lock"]
