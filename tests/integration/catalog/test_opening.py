"""What a process is told that cannot use its store; and endpoints that do not answer."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopai import errors
from loopai.catalog.stores import store
from tests import stores

CODE = "def run(input):\n    return 1\n"
FAILS_S_MAX = 10.0


async def _refused(url: str, *, writes: bool = True) -> str:
    with pytest.raises(errors.StartupError) as caught:
        async with store.opened(url, writes=writes):
            pass
    said = str(caught.value)
    assert said.startswith("LOOPAI_STORE_URL=")
    return said


async def test_a_folder_is_made_where_it_is_not_there(tmp_path: Path) -> None:
    """As a data directory is."""
    folder = tmp_path / "some" / "where"
    async with store.opened(folder.as_uri()) as opened:
        assert opened.url == folder.as_uri()
        assert folder.is_dir()


async def test_a_folder_that_is_a_file_ends_the_start(tmp_path: Path) -> None:
    """The place and the reason are said, whether or not the process would write."""
    file = tmp_path / "file"
    file.write_text("")
    for writes in (True, False):
        said = await _refused(file.as_uri(), writes=writes)
        assert f"cannot use {file}: File exists" in said
        assert "Not a directory" in await _refused((file / "below").as_uri(), writes=writes)


async def test_a_folder_that_cannot_be_written_does_for_readers(tmp_path: Path) -> None:
    """An executor reads; an ingress that could not store anything does not start."""
    with stores.mounted(tmp_path / "volume", "size=1m") as folder:
        async with store.opened(folder.as_uri()) as there:
            name = await there.put(CODE)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)  # noqa: ASYNC221 (it ends at once)
        said = await _refused(folder.as_uri())
        assert f"cannot use {folder}: Read-only file system" in said
        async with store.opened(folder.as_uri(), writes=False) as there:
            assert await there.get(name) == CODE


async def test_a_full_disk_is_told_and_recovered_from(tmp_path: Path) -> None:
    """Nothing half written is left, what was there is read, and with room it goes on."""
    with stores.mounted(tmp_path / "volume", "size=256k") as folder:
        async with store.opened(folder.as_uri()) as there:
            name = await there.put(CODE)
            with stores.filled(folder), pytest.raises(store.StoreError, match="No space left"):
                await there.put("#" * 10_000)
            assert await there.get(name) == CODE
            assert not any(each.name.startswith(".writing-") for each in folder.iterdir())
            assert await there.get(await there.put("#" * 10_000)) == "#" * 10_000


async def test_a_bucket_that_is_not_there_ends_the_start(endpoint: stores.Endpoint) -> None:
    """Its name is said."""
    url = endpoint.store_url().replace(stores.BUCKET, "elsewhere")
    assert "there is no bucket 'elsewhere'" in await _refused(url)


async def test_refused_credentials_end_the_start(
    endpoint: stores.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the endpoint does not take, what is half given, and what is not given at all."""
    stores.credentials(monkeypatch, secret="another-secret")  # noqa: S106 (a wrong one)
    said = await _refused(endpoint.store_url())
    assert "refused (403)" in said
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "another-secret" not in said
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "missing: AWS_SECRET_ACCESS_KEY" in await _refused(endpoint.store_url())
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "no credentials; set AWS_ACCESS_KEY_ID and" in await _refused(endpoint.store_url())
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in await _refused(endpoint.store_url())


async def test_without_its_library_s3_ends_the_start_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is optional, since it is large."""
    monkeypatch.setitem(sys.modules, "aioboto3", None)
    monkeypatch.delitem(sys.modules, "loopai.catalog.stores.s3", raising=False)
    import loopai.catalog.stores as package  # noqa: PLC0415 (what is to forget its module)

    monkeypatch.delattr(package, "s3", raising=False)
    assert "pip install 'loopai[s3]'" in await _refused("s3://bucket")


async def test_a_folder_does_not_bring_the_library_of_s3(tmp_path: Path) -> None:
    """Half a second at the start and 30 MB of memory, for nothing."""
    script = (
        "import asyncio, sys\n"
        "from loopai.catalog.stores import store\n"
        "async def main():\n"
        "    async with store.opened(sys.argv[1]) as there:\n"
        "        await there.put('x')\n"
        "asyncio.run(main())\n"
        "print({'aioboto3', 'botocore', 'aiohttp'} & set(sys.modules))\n"
    )
    asked = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, tmp_path.as_uri(), stdout=asyncio.subprocess.PIPE
    )
    assert (await asked.communicate())[0] == b"set()\n"


async def test_an_endpoint_that_stops_is_an_error_in_time_and_comes_back(
    endpoint: stores.Endpoint,
) -> None:
    """Every call fails within ten seconds, and none does once it is there again."""
    async with store.opened(endpoint.store_url()) as there:
        name = await there.put(CODE)
        await endpoint.stop()
        for call in (
            there.put("another"),
            there.get(name),
            there.shown("a", "b", 1),
            there.point("a", "b", 1),
        ):
            began = time.monotonic()
            with pytest.raises(store.StoreError, match="Could not connect"):
                await call
            assert time.monotonic() - began < FAILS_S_MAX
        assert f"127.0.0.1:{endpoint.port}" in await _refused(endpoint.store_url())
        await endpoint.start()
        assert await there.get(name) == CODE
        assert await there.get(await there.put("another")) == "another"


async def test_an_endpoint_that_never_answers_is_an_error_in_time(
    endpoint: stores.Endpoint,
) -> None:
    """It accepts and is silent; meanwhile the loop does everything else."""
    async with store.opened(endpoint.store_url()) as there:
        name = await there.put(CODE)
        await endpoint.stop()
        longest = 0.0

        async def beat() -> None:
            nonlocal longest
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - began)

        with stores.silent_port(endpoint.port):
            beating = asyncio.create_task(beat())
            began = time.monotonic()
            with pytest.raises(store.StoreError, match="no answer within 8 s"):
                await there.get(name)
            assert time.monotonic() - began < FAILS_S_MAX
            beating.cancel()
            # Less than the 8 s by far, on a busy machine too.
            assert 0 < longest < 2
        await endpoint.start()
        assert await there.get(name) == CODE


async def test_an_endpoint_that_is_silent_at_the_start_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A start is not put off for ever."""
    stores.credentials(monkeypatch)
    began = time.monotonic()
    with stores.silent_port() as port:
        said = await _refused(f"s3://bucket?endpoint=http://127.0.0.1:{port}&region=x")
    assert "no answer within 8 s" in said
    assert time.monotonic() - began < FAILS_S_MAX
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in said
