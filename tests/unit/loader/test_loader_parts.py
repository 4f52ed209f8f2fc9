"""The loader's parts that need no server: patterns, indexes, the command line, safe names, words, counts."""

from __future__ import annotations

import pickle
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.loader.content import RemoteFile, checked
from modelyard.loader.failure import LoadError
from modelyard.loader.gather import tasks_of
from modelyard.loader.manifest import Entry, digest
from modelyard.loader.patterns import Patterns
from modelyard.loader.progress import Progress
from modelyard.loader.request import Request, parse
from modelyard.loader.sources.index import children
from modelyard.loader.sources.s3 import digests
from modelyard.loader.transport import host, origin, refused, retry_after, shown, unreachable

BASE = ("HTTP", "http://h/p", "--mount-path=/data")


def file(path: str) -> RemoteFile:
    return RemoteFile(path, "http://h/" + path, 1, None)


@pytest.mark.parametrize(
    ("include", "exclude", "path", "wanted"),
    [
        ("", "", "any/thing", True),
        ("*.json", "", "deep/er/a.json", True),
        ("*.json", "", "a.JSON", False),
        ("a/", "", "a/b/c", True),
        ("a/", "", "ab", False),
        ("*", "*.bin", "x.bin", False),
        ("*.json , *.txt", "", "x.txt", True),
        (" , ", "", "x", True),
    ],
)
def test_patterns(include: str, exclude: str, path: str, wanted: bool) -> None:
    assert Patterns.of({"include": include, "exclude": exclude}).wants(path) is wanted


def test_an_index_gives_direct_children_of_the_same_origin_only() -> None:
    page = """
      <a href="../">up</a> <a href="./">here</a> <a href="a.bin">a</a> <A HREF='b%20c.txt'>b</A> <a href="sub/">s</a>
      <a href="/dir/abs.txt">d</a> <a href="http://h:80/dir/full.txt">e</a> <a href="?C=M;O=A">sort</a>
      <a href="http://other/dir/x">x</a> <a href="https://h/dir/x">x</a> <a href="/elsewhere/y">y</a>
      <a href="#top">t</a> <a href="a.bin">again</a> <a href="sub/below.txt">z</a>
      <a href="..%2f..%2fetc">evil</a> <a href="mailto:me">m</a>
    """
    names = [name for name, _ in children("http://h/dir/", page)]
    assert names == ["a.bin", "abs.txt", "b c.txt", "full.txt", "sub/"]


@pytest.mark.parametrize(
    "path", ["../x", "a/../b", "/abs", "a//b", "a/", "", ".", "a\nb", "x" * 256, ".modelyard/x", "\ud800"]
)
def test_names_that_could_do_harm_are_refused(path: str) -> None:
    with pytest.raises(LoadError, match="safely"):
        checked([file(path)])


def test_names_that_clash_are_refused() -> None:
    with pytest.raises(LoadError, match="both a file and a folder"):
        checked([file("a"), file("a/b/c")])
    with pytest.raises(LoadError, match="twice"):
        checked([file("a"), file("a")])
    assert [one.path for one in checked([file("b"), file("a/c"), file("a.b")])] == ["a.b", "a/c", "b"]


@given(st.lists(st.sampled_from([None, 0, 1, 1 << 16, (1 << 16) + 1, 1 << 30]), max_size=300))
def test_every_missing_file_is_in_one_task(sizes: list[int | None]) -> None:
    missing = [RemoteFile(f"{number:03}", "", size, "1") for number, size in enumerate(sizes)]
    tasks = list(tasks_of(missing))
    assert sorted(file.path for task in tasks for file in task) == [file.path for file in missing]
    assert all(tasks)


def test_a_failure_is_the_same_behind_a_pipe() -> None:
    error = LoadError("RateLimited", "Slower.", retryable=True, here=False, retry_after=7)
    again = pickle.loads(pickle.dumps(error))
    assert vars(again) == vars(error)
    assert str(again) == "Slower."


def test_a_request_is_read() -> None:
    request = parse(
        [*BASE, "--options=include=a=b,c", "--options", "sha256=x", "--mount-mode", "0775", "--mount-uid=7"]
    )
    assert (dict(request.options), request.target, request.mode, request.uid, request.root) == (
        {"include": "a=b,c", "sha256": "x"},
        "data",
        0o775,
        7,
        Path("."),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--options=novalue"], "key=value"),
        (["--options=a-b=c"], "key=value"),
        (["--options=a=1", "--options=a=2"], "twice"),
        (["--mount-mode=abc"], "octal"),
        (["--mount-mode=0400"], "owner 7"),
        (["--mount-mode=4755"], "special"),
        (["--mount-gid=-1"], "--mount-gid"),
        (["--mount-path=/a/../b"], "within the volume"),
        (["--mount-path=.modelyard/x"], ".modelyard"),
        (["--what"], "not understood"),
    ],
)
def test_a_request_that_is_wrong(arguments: list[str], words: str) -> None:
    with pytest.raises(LoadError) as caught:
        parse([*BASE, *arguments])
    assert (caught.value.reason, caught.value.exit_code) == ("BadInput", 64)
    assert words in caught.value.message


def test_the_key_names_the_content_and_not_its_place() -> None:
    def key(*arguments: str) -> str:
        request: Request = parse([*BASE, *arguments])
        return request.key

    assert key("--options=a=1", "--options=b=2") == key("--options=b=2", "--options=a=1", "--mount-uid=5")
    assert key("--options=a=1") != key("--options=a=2")


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (401, "Unauthorized", 64),
        (403, "Forbidden", 64),
        (404, "NotFound", 64),
        (400, "BadInput", 64),
        (408, "ServerError", 75),
        (416, "ServerError", 75),
        (429, "RateLimited", 75),
        (500, "ServerError", 75),
        (503, "ServerError", 75),
    ],
)
def test_statuses(status: int, reason: str, code: int) -> None:
    error = refused(status, {}, "h")
    assert (error.reason, error.exit_code) == (reason, code)


def test_what_the_server_wishes() -> None:
    assert retry_after({"retry-after": "12"}) == 12
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_no_secret_of_a_url_is_shown() -> None:
    url = "https://me:pass@h:8443/a/b?sig=abc#frag"
    assert (shown(url), host(url), origin(url)) == ("https://h:8443/a/b", "h:8443", ("https", "h", 8443))
    assert origin("https://h/") == ("https", "h", 443)


def test_a_certificate_that_is_not_trusted_is_said() -> None:
    error = RuntimeError("outer")
    error.__cause__ = ssl.SSLCertVerificationError("text of the library")
    told = unreachable(error, "https://h/x")
    assert "certificate" in told.message
    assert "text of the library" not in told.message


MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    ("etag", "headers", "told"),
    [
        (MD5, {}, [("md5", MD5)]),
        (MD5, {"x-amz-server-side-encryption": "AES256"}, [("md5", MD5)]),
        (MD5, {"x-amz-server-side-encryption": "aws:kms"}, []),
        (MD5, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, []),
        (MD5 + "-3", {}, []),
        (None, {"x-amz-checksum-crc32": "AAAAAQ=="}, [("crc32", "00000001")]),
        (None, {"x-amz-checksum-sha256": "A" * 43 + "="}, [("sha256", "00" * 32)]),
        (None, {"x-amz-checksum-sha256": "A" * 43 + "=-3"}, []),
        (None, {"x-amz-checksum-crc32": "AAAAAQ==", "x-amz-checksum-type": "COMPOSITE"}, []),
    ],
)
def test_what_an_object_must_hash_to(etag: str | None, headers: dict[str, str], told: list[tuple[str, str]]) -> None:
    assert list(digests(etag, headers)) == told


def test_progress_counts_and_estimates() -> None:
    now = [0.0]
    progress = Progress(lambda: now[0])
    progress.expect(1000, 2)
    progress.kept(200)
    for second in range(1, 5):
        now[0] = float(second)
        progress.fetched(100)
        reading = progress.read()
    progress.whole()
    assert (reading.bytes, reading.bytes_per_second, reading.eta_seconds) == (600, 100.0, 4.0)
    assert "60.0%" in reading.line()
    assert progress.read().files == 1


def test_what_comes_with_the_answers_is_told_and_not_counted_twice() -> None:
    progress = Progress()
    assert progress.read().line() == "Asking the source what there is."
    progress.fetched(3000)
    progress.whole(2)
    assert "2.9 KiB in 2 files" in progress.read().line()
    progress.expect(8000, 4)
    progress.there(2000, 2)
    assert (progress.read().bytes, progress.read().files) == (2000, 2)


def test_the_digest_is_of_the_content_alone() -> None:
    one, two = Entry("a", 1, "0" * 64), Entry("b", 2, "1" * 64)
    assert digest([one, two]) == digest([two, one])
    assert digest([one]) != digest([two])
    assert digest([]).startswith("sha256:")
