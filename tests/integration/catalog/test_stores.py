"""Every kind of store, on its real place: what one promises the others do too."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from loopai.catalog import catalog
from loopai.catalog.stores import store
from streams import connection, ids, messages
from tests.stores import Place

CODE = "def run(input):\n    return 'ü'\n"
NAME = store.digest(CODE)
OTHER = "def run(input):\n    return 1\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def there(place: Place) -> AsyncIterator[store.Store]:
    async with store.opened(place.url) as opened:
        yield opened


def _artifact(version: int = 1, code: str = CODE, **fields: object) -> messages.ProgramArtifact:
    made = catalog.new_artifact("t", language="python", created_by="test", now=NOW)
    return msgspec.structs.replace(
        made, id="a", version=version, digest=store.digest(code), status="validated", **fields
    )


async def test_what_was_put_is_got(there: store.Store, place: Place) -> None:
    """A text comes back as it was, by its sha256; the URL says where it is."""
    assert there.url == place.url
    with pytest.raises(store.Missing):
        await there.get(NAME)
    assert await there.put(CODE) == NAME
    assert await there.get(NAME) == CODE
    assert await place.read(f"by-digest/{NAME[:2]}/{NAME}") == CODE.encode()


async def test_a_missing_text_is_named(there: store.Store) -> None:
    """An operator reads which one is gone, and from where."""
    with pytest.raises(store.Missing, match=f"cannot read .*/by-digest/.*{NAME}: "):
        await there.get(NAME)


async def test_a_flipped_byte_is_noticed_and_mended(there: store.Store, place: Place) -> None:
    """A text that changed is refused rather than run, until the right one is put again."""
    await there.put(CODE)
    flipped = bytearray(CODE.encode())
    flipped[5] ^= 1
    await place.damage(NAME, bytes(flipped))
    with pytest.raises(store.DigestMismatch, match=NAME):
        await there.get(NAME)
    await there.put(CODE)
    assert await there.get(NAME) == CODE


async def test_no_more_is_read_than_a_text_may_have(there: store.Store, place: Place) -> None:
    """What is too large is not stored; and what grew too large is not the right one."""
    largest = "#" * store.TEXT_BYTES_MAX
    assert await there.get(await there.put(largest)) == largest
    with pytest.raises(store.StoreError, match=f"the most is {store.TEXT_BYTES_MAX}"):
        await there.put(largest + "#")
    await there.put(CODE)
    await place.damage(NAME, (largest + "##").encode())
    with pytest.raises(store.DigestMismatch):
        await there.get(NAME)


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"]
)
async def test_what_is_no_digest_leads_nowhere(there: store.Store, name: str) -> None:
    """Digests come from the bus, where anybody may have written one."""
    with pytest.raises(store.Missing, match="no sha256"):
        await there.get(name)
    with pytest.raises(store.Missing, match="no sha256"):
        await there.shelve("default", "upper", msgspec.structs.replace(_artifact(), digest=name))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".writing-x", "a\0", "a" * 129])
async def test_what_is_no_name_leads_nowhere(there: store.Store, name: str) -> None:
    """No tenant or task reaches what is beside its own folder."""
    await there.put(CODE)
    for tenant, task in ((name, "upper"), ("default", name)):
        with pytest.raises(store.StoreError, match="not a name"):
            await there.shelve(tenant, task, _artifact())
        with pytest.raises(store.StoreError, match="not a name"):
            await there.point(tenant, task, 1)
    for version in (0, -1):
        with pytest.raises(store.StoreError, match="versions begin with 1"):
            await there.point("default", "upper", version)


async def test_versions_are_shown_for_people(there: store.Store, place: Place) -> None:
    """Program, metadata and the active version, by tenant, task and number."""
    await there.put(CODE)
    shown = _artifact(3, language="typescript")
    await there.shelve("default", "upper", shown)
    assert await place.read("default/upper/v3/program.ts") == CODE.encode()
    described = await place.read("default/upper/v3/metadata.json")
    assert described is not None
    assert described.startswith(b'{\n  "id": "a",\n')
    assert msgspec.json.decode(described, type=messages.ProgramArtifact) == shown
    for version, name in ((3, "v3"), (4, "v4"), (4, "v4"), (None, None), (None, None)):
        await there.point("default", "upper", version)
        assert await place.active("default/upper") == name


async def test_showing_a_version_again_changes_nothing_but_a_successor_does(
    there: store.Store, place: Place
) -> None:
    """A task that was deleted leaves its versions to the next one of its name."""
    await there.put(CODE)
    await there.put(OTHER)
    for _ in range(2):
        await there.shelve("default", "upper", _artifact())
    assert await place.read("default/upper/v1/program.py") == CODE.encode()
    await there.shelve("default", "upper", _artifact(code=OTHER, task_id="successor"))
    assert await place.read("default/upper/v1/program.py") == OTHER.encode()
    assert b"successor" in (await place.read("default/upper/v1/metadata.json") or b"")


async def test_a_version_without_its_text_is_not_shown(there: store.Store, place: Place) -> None:
    """What is missing or damaged is said, not laid out."""
    with pytest.raises(store.Missing):
        await there.shelve("default", "upper", _artifact())
    await there.put(CODE)
    await place.damage(NAME, b"another")
    with pytest.raises(store.DigestMismatch):
        await there.shelve("default", "upper", _artifact())
    assert await place.read("default/upper/v1/program.py") is None


async def test_a_tenant_that_is_called_like_our_folder_is_in_nobodys_way(
    there: store.Store, place: Place
) -> None:
    """Texts and versions lie beside each other, whatever tenants and tasks are called."""
    for tenant, task in (("by-digest", NAME[:2]), (NAME[:2], NAME)):
        await there.put(CODE)
        await there.shelve(tenant, task, _artifact())
        await there.point(tenant, task, 1)
        assert await place.active(f"{tenant}/{task}") == "v1"
    assert await there.get(NAME) == CODE


async def test_fifty_writers_at_once_lose_nothing(place: Place) -> None:
    """The same text and a text of its own by each, through several stores of one place."""
    async with (
        store.opened(place.url) as one,
        store.opened(place.url) as two,
        store.opened(place.url) as three,
    ):
        stores = [one, two, three]
        texts = [f"text {number}" for number in range(50)]
        names = await asyncio.gather(
            *(stores[n % 3].put(text) for n, text in enumerate(texts)),
            *(stores[n % 3].put(CODE) for n in range(50)),
        )
        assert set(names[50:]) == {NAME}
        await asyncio.gather(
            *(stores[n % 3].shelve("default", "upper", _artifact()) for n in range(12))
        )
        assert await asyncio.gather(*(three.get(name) for name in names[:50])) == texts
        assert await place.read("default/upper/v1/program.py") == CODE.encode()


# --- behind a catalogue -----------------------------------------------------------------------


@pytest.fixture
async def known(bus: connection.Connection, there: store.Store) -> AsyncIterator[catalog.Catalog]:
    async with catalog.Catalog(bus, there).opened() as opened:
        yield opened


async def _task(known: catalog.Catalog, name: str = "upper") -> messages.TaskSpecification:
    return await known.create_task(
        messages.TaskSpecification(
            id=ids.new(), tenant="default", name=name, created_at=NOW, updated_at=NOW
        )
    )


async def _version(known: catalog.Catalog, task_id: str, code: str) -> messages.ProgramArtifact:
    made = catalog.new_artifact(task_id, language="python", created_by="test", now=NOW)
    return await known.create_artifact(msgspec.structs.replace(made, status="validated"), code)


async def test_the_store_shows_what_the_catalogue_has(known: catalog.Catalog, place: Place) -> None:
    """A version when it is made, the active one when it changes, none when the task is gone."""
    task = await _task(known)
    for version, code in enumerate((CODE, OTHER), 1):
        made = await _version(known, task.id, code)
        assert await place.read(f"default/upper/v{version}/program.py") == code.encode()
        described = await place.read(f"default/upper/v{version}/metadata.json")
        assert msgspec.json.decode(described or b"", type=messages.ProgramArtifact) == made
        await known.activate(made, by="test", now=NOW)
        assert await place.active("default/upper") == f"v{version}"
    await known.delete_task("default", "upper", revision=None)
    assert await place.active("default/upper") is None
    successor = await _task(known)
    await _version(known, successor.id, OTHER)
    assert await place.read("default/upper/v1/program.py") == OTHER.encode()


async def test_activations_at_once_leave_the_right_one_shown(
    bus: connection.Connection, known: catalog.Catalog, place: Place
) -> None:
    """Two processes, twenty activations: what is shown in the end is what answers."""
    task = await _task(known)
    versions = [await _version(known, task.id, f"text {n}") for n in range(4)]
    async with (
        store.opened(place.url) as texts,
        catalog.Catalog(bus, texts).opened() as elsewhere,
    ):
        await asyncio.gather(
            *(
                (known, elsewhere)[n % 2].activate(versions[n % 4], by="test", now=NOW)
                for n in range(20)
            )
        )
        answers = (await known.require_rollout(task.id)).active
        assert await place.active("default/upper") == f"v{answers}"


async def test_a_damaged_text_is_an_error_of_its_own(known: catalog.Catalog, place: Place) -> None:
    """Who reads the program of a version gets the right one or none."""
    task = await _task(known)
    made = await _version(known, task.id, CODE)
    await place.damage(NAME, CODE.replace("ü", "u").encode())
    with pytest.raises(store.DigestMismatch) as caught:
        await known.code(made)
    assert store.problem(caught.value).code == "PROGRAM_DAMAGED"


async def test_versions_made_at_once_are_all_shown(known: catalog.Catalog, place: Place) -> None:
    """None is lost and none stands under another's number."""
    task = await _task(known)
    made = await asyncio.gather(*(_version(known, task.id, f"text {n}") for n in range(12)))
    assert sorted(each.version for each in made) == list(range(1, 13))
    for each in made:
        text = await place.read(f"default/upper/v{each.version}/program.py")
        assert text is not None
        assert store.matches(text, each.digest)
