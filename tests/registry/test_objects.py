"""The object store: what every implementation must hold, and what files must hold besides."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from obstore.store import LocalStore, MemoryStore, S3Store

from canonical_model.errors import ConfigError, Defect, Unavailable
from registry.objects import BucketObjectStore, FileObjectStore, ObjectStore, open_object_store
from registry.settings import HubSettings

KEY = "message/2026-11/0193-abc"


class Bucket:
    """As much of the S3 protocol as put, get, head, delete and list need; path-style, one bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fail: int | None = None
        self.stall: asyncio.Event | None = None
        self.signed = True
        self.page = 4

    async def handle(self, request: web.Request) -> web.Response:
        if self.stall is not None:
            await self.stall.wait()
        self.signed &= request.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256")
        if self.fail:
            return web.Response(status=self.fail, text="<Error><Code>AccessDenied</Code></Error>")
        key = request.path
        if request.method == "POST" and "delete" in request.query:
            names = re.findall("<Key>(.*?)</Key>", await request.text())
            for name in names:
                self.objects.pop(f"{key.rstrip('/')}/{name}", None)
            gone = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            return web.Response(text=f"<DeleteResult>{gone}</DeleteResult>", content_type="application/xml")
        if request.method == "PUT":
            self.objects[key] = await request.read()
            return web.Response(headers={"ETag": '"1"'})
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if request.query.get("list-type") == "2":
            return self.listed(request.query)
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        return web.Response(
            body=self.objects[key], headers={"ETag": '"1"', "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"}
        )

    def listed(self, query: Mapping[str, str]) -> web.Response:
        names = sorted(key.removeprefix("/bodies/") for key in self.objects)
        last = query.get("continuation-token", query.get("start-after", ""))
        names = [name for name in names if name.startswith(query["prefix"]) and name > last]
        page = names[: self.page]
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if names[self.page :] else ""
        found = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-11-01T00:00:00.000Z</LastModified><Size>6</Size></Contents>"
            for name in page
        )
        text = f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{found}{more}</ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


@pytest.fixture
async def bucket() -> AsyncIterator[tuple[Bucket, S3Store]]:
    held = Bucket()
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", held.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield (
        held,
        S3Store(
            "bodies",
            prefix="hub",
            endpoint=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="key-id",
            secret_access_key="planted-secret",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        ),
    )
    if held.stall is not None:
        held.stall.set()
    await runner.cleanup()


@pytest.fixture(params=["file", "memory", "local", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Any) -> AsyncIterator[ObjectStore]:
    made: ObjectStore = {
        "file": lambda: FileObjectStore(tmp_path / "deep" / "objects"),
        "memory": lambda: BucketObjectStore(MemoryStore()),
        "local": lambda: BucketObjectStore(LocalStore(tmp_path)),
        "s3": lambda: BucketObjectStore(bucket[1]),
    }[request.param]()
    yield made
    await made.close()
    await made.close()


async def test_what_was_put_is_got_and_deleted_for_good(store: ObjectStore) -> None:
    assert not await store.exists(KEY)
    await store.put(KEY, b"sealed")
    await store.put(KEY, b"sealed again")
    assert await store.exists(KEY)
    assert await store.get(KEY) == b"sealed again"
    await store.delete(KEY)
    await store.delete(KEY)
    assert not await store.exists(KEY)
    await store.probe()


async def test_an_absent_object_is_a_defect_that_says_so(store: ObjectStore) -> None:
    with pytest.raises(Defect) as caught:
        await store.get(KEY)
    assert caught.value.code == "object-missing"


async def test_no_more_than_the_bound_is_read(store: ObjectStore) -> None:
    await store.put(KEY, b"x" * 101)
    assert len(await store.get(KEY, 101)) == 101
    with pytest.raises(Defect) as caught:
        await store.get(KEY, 100)
    assert caught.value.code == "object-too-large"


async def test_pages_lead_through_everything_below_a_folder_and_nothing_else(
    store: ObjectStore, request: pytest.FixtureRequest
) -> None:
    assert await store.listing("message") == []
    wanted = {f"message/{number:02}" for number in range(23)} | {KEY}
    for key in (*wanted, "messages/1", "probe/message/1", "message-1"):
        await store.put(key, b"sealed")
    # The library's own store of files, used in tests alone, has no order to page by.
    size = 100 if "local" in request.node.name else 5
    seen: list[str] = []
    while page := await store.listing("message", seen[-1] if seen else "", size):
        assert len(page) <= size
        assert all(one.written_at <= datetime.now(UTC) for one in page)
        seen += [one.key for one in page]
        await store.delete(page[-1].key)
        if len(page) < size:
            break
    assert (len(seen), set(seen)) == (len(wanted), wanted)


async def test_an_unfinished_file_is_not_listed_and_goes_after_a_day(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    await store.put(KEY, b"sealed")
    folder = next(path for path in tmp_path.rglob("0193-abc")).parent
    fresh, old = folder / ".new-fresh", folder / ".new-old"
    for file in (fresh, old):
        file.write_bytes(b"sea")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert [one.key for one in await store.listing("message")] == [KEY]
    assert sorted(path.name for path in folder.iterdir()) == [".new-fresh", "0193-abc"]
    await store.close()


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "a/../b",
        "/etc/x",
        "",
        "a//b",
        "a/",
        ".new-x",
        "a/.hidden",
        "a\\..\\b",
        "a\nb",
        "a\0b",
        "é",
        "a" * 129,
    ],
)
async def test_a_key_cannot_leave_the_folder(store: ObjectStore, key: str) -> None:
    for call in (
        store.get(key), store.put(key, b""), store.delete(key), store.exists(key), store.listing(key),
    ):  # fmt: skip
        with pytest.raises(Defect) as caught:
            await call
        assert caught.value.code == "object-key-invalid"


async def test_files_and_folders_are_for_the_owner_alone(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path / "objects")
    await store.put(KEY, b"sealed")
    for path in [tmp_path / "objects", *(tmp_path / "objects").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    await store.close()


async def test_file_and_folders_are_flushed_before_a_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store = FileObjectStore(tmp_path / "objects")
    await store.put(KEY, b"sealed")
    assert Path(flushed[0]).name.startswith(".new-")
    file = next(path for path in (tmp_path / "objects").rglob("*") if path.is_file())
    wanted = [str(each) for each in file.parents if each.is_relative_to(tmp_path)]
    assert flushed[1:] == wanted[: len(flushed) - 1]
    assert str(tmp_path) in flushed
    await store.close()


async def test_a_failed_write_leaves_the_old_object_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileObjectStore(tmp_path)
    await store.put(KEY, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Unavailable) as caught:
            await store.put(KEY, b"new")
    assert "No space left" in caught.value.detail
    assert await store.get(KEY) == b"old"
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [b"old"]
    await store.close()


async def test_a_disk_that_hangs_ends_at_the_deadline(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path, deadline=0.1)
    await store.put("pipe", b"")
    path = next(path for path in tmp_path.rglob("pipe"))
    path.unlink()
    os.mkfifo(path)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await store.get("pipe")
    assert time.monotonic() - began < 5
    os.close(os.open(path, os.O_WRONLY))
    await store.close()


async def test_a_bucket_that_hangs_or_refuses_is_unavailable_and_tells_no_secret(
    bucket: tuple[Bucket, S3Store],
) -> None:
    held, raw = bucket
    store = BucketObjectStore(raw, deadline=0.3)
    await store.put(KEY, b"sealed")
    assert held.signed
    held.fail = 403
    for call in (
        store.get(KEY),
        store.put(KEY, b"x"),
        store.exists(KEY),
        store.listing("message"),
        store.probe(),
    ):
        with pytest.raises(Unavailable) as caught:
            await call
        assert "planted-secret" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
    held.fail, held.stall = None, asyncio.Event()
    with pytest.raises(Unavailable) as caught:
        await store.get(KEY)
    assert "0.3 seconds" in caught.value.detail


def settings(tmp_path: Path, url: str | None) -> HubSettings:
    return HubSettings(data_dir=tmp_path, object_store=url)


def test_no_setting_and_a_file_url_mean_files(tmp_path: Path) -> None:
    for url in (None, f"file://{tmp_path}/with%20space"):
        assert isinstance(open_object_store(settings(tmp_path, url)), FileObjectStore)


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "gs://bucket", "az://container/folder"])
def test_a_bucket_url_means_a_bucket(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert isinstance(open_object_store(settings(tmp_path, url)), BucketObjectStore)


@pytest.mark.parametrize(
    "url", ["memory:///", "s3://", "https://x/y", "nonsense", "file://host/x", "s3://a:planted@b/c"]
)
def test_a_url_of_no_durable_store_is_refused_without_being_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_object_store(settings(tmp_path, url))
    assert caught.value.code == "object-store-invalid"
    assert "planted" not in str(caught.value)
