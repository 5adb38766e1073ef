"""`/api/v1/webhooks` without a notifier: what is taken, kept, told and refused."""

from datetime import UTC, datetime

import msgspec
import pytest

from loopai.webhooks import subscriptions
from streams import codec, ids, store, subjects, topology
from streams.messages import Webhook
from tests.integration.ingress.problems import paths, problem
from tests.system import System

PATH = "/api/v1/webhooks"
BODY = {"url": "https://example.com/hook", "events": ["execution.failed"]}
SECRET = "whsec_" + "A" * 32
NOW = datetime.now(UTC)


def other_tenants() -> Webhook:
    return Webhook(
        id=ids.new(),
        tenant="other",
        url="https://example.com/theirs",
        events=("execution.failed",),
        secret=SECRET,
        since=NOW,
        created_at=NOW,
        updated_at=NOW,
    )


async def test_a_webhook_is_made_read_changed_and_deleted(front: System) -> None:
    """Its secret is told once; the rest comes back as it was given."""
    await front.create()
    asked = {**BODY, "task": "upper", "description": "pages the team"}
    answer = await front.http.post(PATH, json=asked)
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['id']}"
    assert made.pop("secret").startswith("whsec_")
    assert {name: made[name] for name in asked} == asked
    assert made["enabled"] is True
    url = answer.headers["location"]
    read = await front.http.get(url)
    assert read.json() == made
    assert (await front.http.get(PATH)).json() == {"webhooks": [made]}
    changed = await front.http.patch(
        url,
        json={"events": ["operation.finished", "operation.finished"], "task": None},
        headers={"If-Match": read.headers["etag"]},
    )
    assert changed.json()["events"] == ["operation.finished"]
    assert changed.json()["task"] is None
    assert changed.json()["url"] == BODY["url"]
    assert "secret" not in changed.json()
    problem(
        await front.http.delete(url, headers={"If-Match": read.headers["etag"]}),
        "PRECONDITION_FAILED",
    )
    assert (await front.http.delete(url)).status_code == 204
    problem(await front.http.get(url), "WEBHOOK_NOT_FOUND")
    assert (await front.http.get(PATH)).json() == {"webhooks": []}


async def test_a_secret_of_ones_own_is_taken(front: System) -> None:
    """In the form of Standard Webhooks; camelCase is as good."""
    made = await front.http.post(PATH, json={**BODY, "secret": SECRET})
    assert made.json()["secret"] == SECRET
    url = made.headers["location"]
    rotated = (await front.http.patch(url, json={"rotateSecret": True})).json()
    assert rotated["secret"] != SECRET
    assert rotated["former_secret_until"] is not None
    own = (await front.http.patch(url, json={"secret": SECRET})).json()
    assert own["secret"] == SECRET


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"url": "http://127.0.0.1/"}, "/url"),
        ({"url": "http://169.254.169.254/"}, "/url"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "/url"),
        ({"url": "http://2130706433/"}, "/url"),
        ({"url": "https://user:word@example.com/"}, "/url"),
        ({"url": "ftp://example.com/"}, "/url"),
        ({"url": "https://example.com:22/"}, "/url"),
        ({"url": "https://example.com/" + "a" * 2048}, "/url"),
        ({"url": 7}, "/url"),
        ({"events": []}, "/events"),
        ({"events": ["execution.exploded"]}, "/events/0"),
        ({"events": ["execution.failed"] * 33}, "/events"),
        ({"secret": "hunter2"}, "/secret"),
        ({"description": "a" * 1001}, "/description"),
        ({"surprise": 1}, ""),
    ],
)
async def test_what_cannot_be_is_refused_by_its_field(
    front: System, fields: dict[str, object], path: str
) -> None:
    """At creation and in a change alike."""
    made = await front.http.post(PATH, json=BODY)
    for answer in (
        await front.http.post(PATH, json={**BODY, **fields}),
        await front.http.patch(made.headers["location"], json=fields),
    ):
        assert paths(problem(answer, "INVALID_REQUEST")) == [path]
    assert len((await front.http.get(PATH)).json()["webhooks"]) == 1


async def test_a_task_that_is_not_there_is_refused(front: System) -> None:
    """Rather than a webhook that is never told anything."""
    problem(await front.http.post(PATH, json={**BODY, "task": "nothing"}), "TASK_NOT_FOUND")


async def test_what_is_not_there_is_a_404_everywhere(front: System) -> None:
    """Also for what can be no id at all."""
    for name in (ids.new(), "nothing", "a.b", "*", ">", "a" * 300, "%00"):
        url = f"{PATH}/{name}"
        for answer in (
            await front.http.get(url),
            await front.http.patch(url, json={}),
            await front.http.delete(url),
            await front.http.post(f"{url}/ping"),
            await front.http.get(f"{url}/deliveries"),
            await front.http.post(f"{url}/deliveries/x/redeliver"),
        ):
            problem(answer, "WEBHOOK_NOT_FOUND")


async def test_another_tenants_webhook_is_not_there(front: System) -> None:
    """Neither in the list nor by its id."""
    theirs = other_tenants()
    await subscriptions.Subscriptions(front.bus).create(theirs)
    url = f"{PATH}/{theirs.id}"
    assert (await front.http.get(PATH)).json() == {"webhooks": []}
    for answer in (
        await front.http.get(url),
        await front.http.patch(url, json={"enabled": False}),
        await front.http.delete(url),
        await front.http.post(f"{url}/ping"),
        await front.http.get(f"{url}/deliveries"),
    ):
        problem(answer, "WEBHOOK_NOT_FOUND")
    kept = await subscriptions.Subscriptions(front.bus).get("other", theirs.id)
    assert kept.value == theirs


async def test_a_tenant_has_as_many_webhooks_as_it_may(front: System) -> None:
    """The 501st is refused; another tenant's do not count."""
    bucket = store.Bucket(front.bus, topology.SUBSCRIPTIONS, codec.WEBHOOK)
    first = other_tenants()
    await bucket.put(subjects.webhook_key("other", first.id), first)
    for _ in range(subscriptions.WEBHOOKS_MAX - 1):
        made = msgspec.structs.replace(first, id=ids.new(), tenant="default")
        await bucket.put(subjects.webhook_key("default", made.id), made)
    assert (await front.http.post(PATH, json=BODY)).status_code == 201
    problem(await front.http.post(PATH, json=BODY), "TOO_MANY_WEBHOOKS")


async def test_a_disabled_webhook_is_not_pinged(front: System) -> None:
    """A 409 that says what to do."""
    made = await front.http.post(PATH, json={**BODY, "enabled": False})
    document = problem(
        await front.http.post(f"{made.headers['location']}/ping"), "WEBHOOK_DISABLED"
    )
    assert '"enabled": true' in document["detail"]


async def test_what_waits_for_a_webhook_goes_with_it(front: System) -> None:
    """Nothing is left in the queue."""
    made = await front.http.post(PATH, json=BODY)
    url = made.headers["location"]
    for _ in range(3):
        assert (await front.http.post(f"{url}/ping")).status_code == 202
    assert (await front.bus.jetstream.stream_info("WEBHOOKS")).state.messages == 3
    await front.http.delete(url)
    assert (await front.bus.jetstream.stream_info("WEBHOOKS")).state.messages == 0
