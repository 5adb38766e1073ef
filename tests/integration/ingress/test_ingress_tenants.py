"""Two tenants on one installation: neither sees, changes or guesses anything of the other's."""

import contextlib
import re
from datetime import UTC, datetime

import httpx
import pytest

from loopai.ingress import access
from streams import codec, ids, store, topology
from streams.messages import DigestConflict, SiteState
from tests.integration.ingress.routes import every_route
from tests.receiver import Receiver
from tests.system import UPPER, System
from tests.wait import until
from workers import executor, generator, notifier

MARK = "of-beta-only"
"""Stands in all that beta has: no answer to acme may hold it."""
TEXT = {"type": "string"}
EVENTS = ["execution.succeeded", "artifact.created", "artifact.activated", "operation.finished"]


@pytest.fixture
async def closed(broker, bus, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        fields = {"auth": "required", "webhook_private": "allowed"}
        pools = (executor, generator, notifier)
        yield await System.started(stack, broker, bus, tmp_path / "data", pools=pools, **fields)


@pytest.fixture
async def receiver():
    async with Receiver() as opened:
        yield opened


@pytest.fixture
async def clients(closed):
    """A client of each tenant, with an admin's key of it."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for tenant in ("acme", "beta"):
            _, secret = await closed.services.keys.create(
                tenant=tenant,
                name=f"{tenant}-admin",
                scopes=("admin",),
                created_by="test",
                now=datetime.now(UTC),
            )
            found[tenant] = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=closed.http.base_url, headers={"X-Api-Key": secret}, timeout=60
                )
            )
        yield found


async def fill(client, receiver, name, description, word):
    """Everything that a tenant can have; what its routes are asked with, by placeholder."""
    hook = {"url": f"{receiver.url}/{name}", "events": EVENTS, "description": description}
    hook = (await client.post("/api/v1/webhooks", json=hook)).raise_for_status().json()
    body = {"name": name, "description": description, "input_schema": TEXT}
    body["examples"] = [{"input": f"{word}{n}", "output": f"{word}{n}".upper()} for n in range(40)]
    task = (await client.post("/api/v1/tasks", json=body)).raise_for_status().json()
    path = f"/api/v1/tasks/{task['id']}"
    for number in range(2):
        code = f"{UPPER}\n# {description} {number}\n"
        answer = await client.post(f"{path}/artifacts", json={"code": code, "activate": True})
        answer.raise_for_status()
    ran = (await client.post(f"{path}/execute", json={"input": word})).json()
    assert ran["output"] == word.upper(), ran
    answer = await client.post(f"{path}/generate", json={"activate": False})
    operation = answer.raise_for_status().json()
    key = {"name": "another", "scopes": ["observe"]}
    key = (await client.post("/api/v1/keys", json=key)).raise_for_status().json()
    deliveries = []

    async def delivered():
        listed = await client.get(f"/api/v1/webhooks/{hook['id']}/deliveries")
        deliveries[:] = listed.raise_for_status().json()["deliveries"]
        return {each["type"] for each in deliveries} == set(EVENTS)

    await until(delivered, within_s=60)
    return {
        "webhook": hook["id"],
        "delivery": deliveries[0]["id"],
        "task": task["id"],
        "execution": ran["id"],
        "operation": operation["id"],
        "key": key["id"],
        "version": "1",
    }


UNKNOWN = {
    "webhook": ids.new(),
    "delivery": ids.new(),
    "task": ids.new(),
    "execution": ids.new(),
    "operation": ids.new(),
    "key": ids.new(),
    "version": "1",
}
BODIES = {
    "tasks.create": {"name": "made-by-acme"},
    "tasks.patch": {"description": "taken over"},
    "artifacts.upload": {"code": UPPER, "activate": True},
    "artifacts.activate": {"force": True},
    "rollouts.put": {"active": 1},
    "generate.generate": {},
    "execute.execute": {"input": "a"},
    "execute.execute_named": {"input": "a", "task_id": "{task}"},
    "batch.execute_batch": {"task_id": "{task}", "items": [{"input": "a"}]},
    "keys.create": {"name": "k", "scopes": ["observe"]},
    "webhooks.create": {"url": "https://example.com", "events": EVENTS, "task": "{task}"},
    "webhooks.patch": {"enabled": False},
}
"""What each route takes: without it a refusal would say nothing about tenants."""
HERE = access.PUBLIC | {"health.metrics"}
"""Of the process, or of the API, not of anybody."""


def filled(value, names):
    """*value* with every placeholder replaced."""
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    return re.sub(r"{(\w+)}", lambda m: names[m[1]], value) if isinstance(value, str) else value


def said(answer, names):
    """What *answer* says, but for what differs from call to call and the name that was asked."""
    document = {k: v for k, v in answer.json().items() if k != "trace_id"}
    text = repr((answer.status_code, sorted(document.items())))
    for name in names.values():
        text = text.replace(name, "…") if len(name) > 1 else text
    return text


async def all_of(client, names):
    """Everything that its tenant can read about what is in *names*, as bytes."""
    found = []
    for path in (
        "/tasks/{task}", "/tasks/{task}/artifacts", "/tasks/{task}/artifacts/1",
        "/tasks/{task}/rollout", "/executions/{execution}", "/keys", "/tasks", "/webhooks",
        "/webhooks/{webhook}", "/webhooks/{webhook}/deliveries",
    ):  # fmt: skip
        answer = await client.get("/api/v1" + filled(path, names))
        assert answer.status_code == 200, (path, answer.text)
        found.append(answer.content)
    return found


async def test_no_route_shows_or_changes_what_is_another_tenants(closed, clients, receiver):
    """Every route, asked by acme with the ids of beta, answers as for what never was."""
    acme, beta = clients["acme"], clients["beta"]
    theirs = await fill(beta, receiver, "theirs", MARK, MARK)
    await fill(acme, receiver, "ours", "ours", "ours")
    ways = [theirs, theirs | {"task": "theirs"}, UNKNOWN, UNKNOWN | {"task": "nobodys"}]
    await until(lambda: ended(beta, theirs))
    before = await all_of(beta, theirs)
    asked = set()
    for route, path in every_route(closed.app):
        name = access.name(route)
        if name in HERE:
            continue
        for method in sorted(route.methods - {"HEAD"}):
            answers = []
            for names in ways:
                body = BODIES.get(name)
                content = None if body is None else filled(body, names)
                answer = await acme.request(method, filled(path, names), json=content)
                assert MARK not in answer.text, (method, path)
                answers.append(answer)
            asked.add(name)
            if "{" in path or "{task}" in str(BODIES.get(name)):
                assert answers[0].status_code == 404, (method, path, answers[0].text)
                by_id, by_name, *unknown = map(said, answers, ways)
                assert [by_id, by_name] == unknown, (method, path)
    assert asked == access.NEEDS.keys() - HERE
    assert await all_of(beta, theirs) == before
    assert {(post.path, post.json["data"]["task"]) for post in receiver.posts} == {
        ("/ours", "ours"),
        ("/theirs", "theirs"),
    }
    for query in ("/queues?task={task}", "/batch/execute?task_id={task}"):
        method = "GET" if "queues" in query else "POST"
        headers = {} if method == "GET" else {"Content-Type": "application/x-ndjson"}
        answers = [
            await acme.request(method, filled(f"/api/v1{query}", names), headers=headers)
            for names in ways
        ]
        assert answers[0].status_code == 404
        by_id, by_name, *unknown = map(said, answers, ways)
        assert [by_id, by_name] == unknown


async def ended(client, names):
    operation = (await client.get(f"/api/v1/operations/{names['operation']}?wait=60")).json()
    return operation["status"] in ("succeeded", "failed")


async def test_a_name_is_each_tenants_own(clients):
    """Two tasks of one name: each tenant has its own program, executions, list and rollout."""
    answers = {}
    for tenant, client in clients.items():
        body = {"name": "same", "description": tenant, "input_schema": {}}
        (await client.post("/api/v1/tasks", json=body)).raise_for_status()
        code = f"def run(input):\n    return {tenant!r}\n"
        upload = {"code": code, "activate": True}
        answer = await client.post("/api/v1/tasks/same/artifacts", json=upload)
        answer.raise_for_status()
    for tenant, client in clients.items():
        for _ in range(3):
            answer = await client.post("/api/v1/tasks/same/execute", json={"input": 1})
            assert answer.json()["output"] == tenant
        answers[tenant] = answer.json()
        batch = {"task_id": "same", "items": [{"input": 1}, {"input": 2}]}
        results = (await client.post("/api/v1/batch/execute", json=batch)).json()["results"]
        assert [each["output"] for each in results] == [tenant, tenant]
        listed = (await client.get("/api/v1/tasks")).json()["tasks"]
        assert [each["description"] for each in listed] == [tenant]
        history = (await client.get("/api/v1/tasks/same/rollout")).json()["history"]
        assert [each["by"] for each in history] == [f"{tenant}-admin"]
    (await clients["beta"].delete("/api/v1/tasks/same")).raise_for_status()
    answer = await clients["acme"].post("/api/v1/tasks/same/execute", json={"input": 1})
    assert answer.json()["output"] == "acme"


async def test_an_idempotency_key_is_each_tenants_own(clients):
    """The same key with the same request, or another: nobody hears of another's."""
    key = {"Idempotency-Key": "k"}
    made = {}
    for tenant, client in clients.items():
        for path, body in (
            ("/api/v1/tasks", {"name": "t", "input_schema": TEXT}),
            ("/api/v1/webhooks", {"url": "https://example.com", "events": EVENTS}),
            ("/api/v1/tasks/t/artifacts", {"code": UPPER, "activate": True}),
            ("/api/v1/tasks/t/execute", {"input": "a"}),
            ("/api/v1/tasks/t/execute", {"input": "b", "idempotency_key": "in-the-body"}),
        ):
            named = {} if "idempotency_key" in body else {"Idempotency-Key": path}
            answer = await client.post(path, json=body, headers=named)
            assert answer.is_success, answer.text
            assert "idempotent-replayed" not in answer.headers, (tenant, path)
            made.setdefault(path, []).append(answer.json()["id"])
    assert all(len(set(each)) == len(each) for each in made.values())
    beta, acme = clients["beta"], clients["acme"]
    assert (await beta.post("/api/v1/tasks", json={"name": "of-beta"}, headers=key)).is_success
    answer = await acme.post("/api/v1/tasks", json={"name": "of-acme"}, headers=key)
    assert answer.status_code == 201


async def test_a_limit_is_each_keys_own(closed, clients):
    """What one tenant takes, another has still; nobody is told of more than their own count."""
    left = {}
    for tenant in clients:
        _, secret = await closed.services.keys.create(
            tenant=tenant, name="limited", scopes=("observe",), created_by="test",
            now=datetime.now(UTC), rate="3/day",
        )  # fmt: skip
        headers = {"X-Api-Key": secret}
        async with httpx.AsyncClient(base_url=closed.http.base_url, headers=headers) as limited:
            answers = [await limited.get("/api/v1/tasks") for _ in range(4)]
        left[tenant] = [int(each.headers["ratelimit-remaining"]) for each in answers]
        assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert left == {tenant: [2, 1, 0, 0] for tenant in clients}


async def test_an_execution_is_cancelled_by_its_own_tenant_only(closed, clients):
    """While it waits: acme is told that there is none, and it runs on."""
    beta = clients["beta"]
    await closed.stop_pool(executor)
    task = await beta.post("/api/v1/tasks", json={"name": "t", "input_schema": TEXT})
    await closed.store(task.json()["id"], UPPER)
    queued = (await beta.post("/api/v1/tasks/t/execute?wait=0", json={"input": "a"})).json()
    path = f"/api/v1/executions/{queued['id']}"
    for method in ("GET", "DELETE"):
        answer = await clients["acme"].request(method, path)
        assert answer.json()["code"] == "EXECUTION_NOT_FOUND"

    async def queues(tenant):
        return (await clients[tenant].get("/api/v1/queues")).json()["queues"]

    async def counted():
        return [row["queued"] for row in await queues("beta")] == [1]

    await until(counted)
    assert await queues("acme") == []
    await closed.start_pool(executor)
    assert (await beta.get(f"{path}?wait=30")).json()["output"] == "A"


async def test_conflicts_of_sites_are_shown_to_their_tenant(closed, clients, bus):
    """Of those of others only the count."""
    sites = store.Bucket(bus, topology.SITES, codec.SITE)
    now = datetime.now(UTC)
    conflicts = tuple(
        DigestConflict(
            tenant=tenant, task=f"of-{tenant}", version=1, expected="a", found="b", at=now
        )
        for tenant in ("acme", "beta")
    )
    state = SiteState(
        site="main", store="file:///", versions=2, missing=0, lag_s=0.0, conflicts=2,
        latest=conflicts, updated_at=now,
    )  # fmt: skip
    await sites.put("main", state)

    async def shown():
        return bool((await clients["acme"].get("/api/v1/sync")).json()["sites"])

    await until(shown)
    for tenant, client in clients.items():
        [site] = (await client.get("/api/v1/sync")).json()["sites"]
        assert [each["task"] for each in site["latest_conflicts"]] == [f"of-{tenant}"]


async def test_keys_of_other_tenants_take_an_admin_of_the_home_tenant(closed, clients):
    """An admin's reach is its own tenant; at home it may make keys of any, and end them."""
    acme, beta = clients["acme"], clients["beta"]
    for method, path, body in (
        ("POST", "/api/v1/keys", {"name": "k", "scopes": ["admin"], "tenant": "beta"}),
        ("GET", "/api/v1/keys?tenant=beta", None),
        ("GET", "/api/v1/keys?tenant=nobody", None),
    ):
        answer = await acme.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), path
    _, secret = await closed.services.keys.create(
        tenant="default", name="root", scopes=("admin",), created_by="test", now=datetime.now(UTC)
    )
    home = {"X-Api-Key": secret}
    async with httpx.AsyncClient(base_url=beta.base_url, headers=home) as root:
        new = {"name": "k", "scopes": ["observe"], "tenant": "gamma"}
        made = (await root.post("/api/v1/keys", json=new)).raise_for_status().json()
        assert (made["tenant"], made["created_by"]) == ("gamma", "root")
        [listed] = (await root.get("/api/v1/keys?tenant=gamma")).json()["keys"]
        assert "key" not in listed
        assert listed["id"] == made["id"]
        answer = await root.delete(f"/api/v1/keys/{made['id']}")
        assert answer.json()["revoked_by"] == "root"
    answer = await acme.get("/api/v1/tasks", headers={"X-Api-Key": made["key"]})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"scopes": ["admin"]}, ""),
        ({"name": "", "scopes": ["admin"]}, "/name"),
        ({"name": "a b", "scopes": ["admin"]}, "/name"),
        ({"name": "k" * 129, "scopes": ["admin"]}, "/name"),
        ({"name": "k", "scopes": []}, "/scopes"),
        ({"name": "k", "scopes": ["all"]}, "/scopes/0"),
        ({"name": "k", "scopes": ["admin"], "tenant": "*"}, "/tenant"),
        ({"name": "k", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"name": "k", "scopes": ["admin"], "expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({"name": "k", "scopes": ["admin"], "expires_at": "soon"}, "/expires_at"),
        ({"name": "k", "scopes": ["admin"], "secret": "mine"}, ""),
    ],
)
async def test_a_key_that_cannot_be_is_refused_by_its_field(front, body, path):
    """Nothing is made of it."""
    answer = await front.http.post("/api/v1/keys", json=body)
    assert answer.json()["code"] == "INVALID_REQUEST"
    assert answer.json()["errors"][0]["path"] == path
    assert (await front.http.get("/api/v1/keys")).json() == {"keys": []}


@pytest.mark.parametrize("key", ["x", "*", "01a2097e-5389-72e9-85aa-92d701a3ff12"])
async def test_what_is_no_key_cannot_be_revoked(front, key):
    """Neither an id that never was nor what is none."""
    answer = await front.http.delete(f"/api/v1/keys/{key}")
    assert (answer.status_code, answer.json()["code"]) == (404, "KEY_NOT_FOUND")
