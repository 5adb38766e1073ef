"""Tokens of an OIDC issuer that really answers: what is taken, what is not, and when it is away."""

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings, strategies

from loopai import errors
from loopai.ingress import tokens
from loopai.settings import Settings
from tests.integration.ingress.problems import problem
from tests.issuer import AUDIENCE, issuing
from tests.system import System
from tests.wait import until

EXECUTE = "/api/v1/tasks/none/execute"


@pytest.fixture
async def issuer():
    async with issuing() as started:
        yield started


def known(issuer, **fields):
    return Settings(jwt_issuer=issuer.url, jwt_audience=AUDIENCE, **fields)


@pytest.fixture
async def checked(issuer):
    """What an ingress checks tokens with; it asks for keys as often as it likes."""
    made = tokens.Issuer(known(issuer), ask_s=0.0)
    yield made
    await made.close()


@pytest.fixture
async def http(broker, bus, tmp_path, issuer):
    """A client of an ingress that takes tokens of *issuer*."""
    async with contextlib.AsyncExitStack() as stack:
        fields = {"jwt_issuer": issuer.url, "jwt_audience": AUDIENCE}
        front = await System.started(stack, broker, bus, tmp_path / "data", pools=(), **fields)
        yield front.http


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_is_a_caller_with_tenant_scopes_and_name(http, issuer):
    """What it makes is its tenant's, bears its subject, and goes as far as its scopes."""
    headers = bearer(issuer.token())
    answer = await http.post("/api/v1/tasks", json={"name": "t"}, headers=headers)
    assert (answer.status_code, answer.json()["tenant"]) == (201, "acme")
    problem(await http.get("/api/v1/queues", headers=headers), "FORBIDDEN")
    problem(await http.post(EXECUTE, json={"input": 1}, headers=headers), "TASK_NOT_FOUND")
    other = bearer(issuer.token(tenant="beta", scope="admin"))
    assert (await http.get("/api/v1/tasks", headers=other)).json() == {"tasks": []}
    answer = await http.post("/api/v1/keys", json={"name": "k", "scopes": ["admin"]}, headers=other)
    assert answer.json()["created_by"] == "oidc:alice"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "RS512", "ES256"])
async def test_asymmetric_algorithms_are_taken(checked, issuer, algorithm):
    """RSA with either padding, and elliptic curves."""
    issuer.rotate(algorithm, algorithm)
    found = await checked.identify(issuer.token(algorithm, algorithm).encode())
    assert found is not None
    assert (found.tenant, found.name, found.scopes) == ("acme", "oidc:alice", {"author", "execute"})


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
@pytest.mark.parametrize("claimed", list(itertools.chain.from_iterable(tokens.ALGORITHMS.values())))
async def test_a_head_may_name_an_algorithm_that_its_key_is_not_for(checked, issuer, kind, claimed):
    """Anybody can write one, without any key: it is as invalid as all that nobody signed."""
    issuer.rotate(kind, kind)
    head = json.dumps({"alg": claimed, "kid": kind}).encode()
    _, claims, signature = issuer.token(kind, kind).split(".")
    named = base64.urlsafe_b64encode(head).decode().rstrip("=")
    assert await checked.identify(f"{named}.{claims}.{signature}".encode()) is None


@pytest.mark.parametrize("scope", [["author", "execute"], "execute author"])
async def test_scopes_are_a_text_or_a_list_in_the_claim_that_is_set(issuer, scope):
    """Issuers differ: the two claims have names that can be set."""
    fields = {"jwt_tenant_claim": "org", "jwt_scopes_claim": "https://loopai/roles"}
    made = tokens.Issuer(known(issuer, **fields))
    token = issuer.token(tenant=None, scope=None, org="beta", **{"https://loopai/roles": scope})
    found = await made.identify(token.encode())
    assert found is not None
    assert (found.tenant, found.scopes) == ("beta", {"author", "execute"})
    await made.close()


def none(issuer):
    """A token that says that nobody signed it."""
    return jwt.encode(issuer.claims(), None, "none", {"kid": "first"})


def confused(issuer):
    """A token that is signed with the public key as the secret of HS256."""
    public = issuer.private["first"].public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # By hand: PyJWT refuses to make it.
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT", "kid": "first"}, issuer.claims())
    ]
    signature = hmac.new(pem, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def forged(issuer):
    """A token with claims that its signature is not of."""
    head, _, signature = issuer.token().split(".")
    claims = json.dumps(issuer.claims(tenant="default", scope="admin")).encode()
    return f"{head}.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{signature}"


def stolen_name(issuer):
    """A token of somebody else's key under the name of the issuer's."""
    published = issuer.published
    issuer.rotate("theirs")
    issuer.published = published
    return jwt.encode(issuer.claims(), issuer.private["theirs"], "RS256", {"kid": "first"})


INVALID = {
    "wrong issuer": lambda issuer: issuer.token(iss="https://other.example"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "wrong audience": lambda issuer: issuer.token(aud="another"),
    "no audience": lambda issuer: issuer.token(aud=None),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - tokens.LEEWAY_S - 1),
    "never expires": lambda issuer: issuer.token(exp=None),
    "not yet": lambda issuer: issuer.token(nbf=int(time.time()) + tokens.LEEWAY_S + 5),
    "nobody": lambda issuer: issuer.token(sub=None),
    "odd subject": lambda issuer: jwt.encode(
        issuer.claims() | {"sub": 7}, issuer.private["first"], "RS256", {"kid": "first"}
    ),
    "no tenant": lambda issuer: issuer.token(tenant=None),
    "odd tenant": lambda issuer: issuer.token(tenant="*.>"),
    "odd scopes": lambda issuer: issuer.token(scope=[1]),
    "alg none": none,
    "HS256 with the public key": confused,
    "forged claims": forged,
    "another's key": stolen_name,
    "no kid": lambda issuer: jwt.encode(issuer.claims(), issuer.private["first"], "RS256"),
    "too long": lambda issuer: issuer.token(more="x" * tokens.TOKEN_BYTES_MAX),
}


@pytest.mark.parametrize("made", INVALID.values(), ids=INVALID)
async def test_what_is_not_valid_is_refused(checked, issuer, made):
    """A good token before and after it: it is this one that is refused."""
    assert await checked.identify(issuer.token().encode()) is not None
    assert await checked.identify(made(issuer).encode()) is None
    assert await checked.identify(issuer.token().encode()) is not None


async def test_clocks_may_differ_by_the_leeway(checked, issuer):
    """Not by a second more, as the cases above show."""
    now = int(time.time())
    assert await checked.identify(issuer.token(exp=now - tokens.LEEWAY_S + 5).encode()) is not None
    assert await checked.identify(issuer.token(nbf=now + tokens.LEEWAY_S - 5).encode()) is not None


async def test_what_was_checked_is_known_at_once_until_it_ends(checked, issuer):
    """The hot path looks into memory only; the end of a token is no later for that."""
    token = issuer.token(exp=int(time.time()) - tokens.LEEWAY_S + 2).encode()
    assert checked.known(token) is None
    found = await checked.identify(token)
    assert checked.known(token) is found is not None
    await until(lambda: checked.known(token) is None, within_s=5)
    assert await checked.identify(token) is None


async def test_the_memory_of_checked_tokens_is_bounded(checked, issuer):
    """The least recently checked goes first."""
    found = await checked.identify(issuer.token().encode())
    assert found is not None
    for number in range(tokens.CHECKED_MAX):
        checked._remember(f"{number}".encode(), found)
    assert len(checked._checked) == tokens.CHECKED_MAX
    assert checked.known(issuer.token().encode()) is None
    assert checked.known(b"0") is found


async def test_a_new_key_of_the_issuer_is_found_when_a_token_names_it(checked, issuer):
    """Rotation needs no restart; what the old key signed is refused once it is gone."""
    old = issuer.token()
    assert await checked.identify(old.encode()) is not None
    issuer.rotate("second")
    assert await checked.identify(issuer.token("second").encode()) is not None
    assert await checked.identify(old.encode()) is None


async def test_strangers_cannot_have_the_issuer_asked_at_will(issuer):
    """However many keys they name: it is asked once in so many seconds."""
    made = tokens.Issuer(known(issuer), ask_s=3600)
    for number in range(20):
        token = jwt.encode(issuer.claims(), issuer.private["first"], "RS256", {"kid": f"{number}"})
        assert await made.identify(token.encode()) is None
    assert issuer.asked == 1
    assert await made.identify(issuer.token().encode()) is not None
    assert issuer.asked == 1
    await made.close()


async def test_without_the_issuer_known_keys_go_on_serving(checked, issuer):
    """It is asked about keys that are not known, and then the caller is told to come back."""
    assert await checked.identify(issuer.token().encode()) is not None
    issuer.answers = False
    assert await checked.identify(issuer.token(sub="bob").encode()) is not None
    issuer.rotate("second")
    with pytest.raises(errors.ApiError) as caught:
        await checked.identify(issuer.token("second").encode())
    assert (caught.value.code, caught.value.retry_after_s) == ("ISSUER_UNAVAILABLE", 10)
    issuer.answers = True
    assert await checked.identify(issuer.token("second").encode()) is not None


async def test_an_issuer_that_was_never_there_stops_only_tokens(broker, bus, tmp_path):
    """The ingress starts, keys work, and a token is a 503 with the time to wait."""
    async with contextlib.AsyncExitStack() as stack:
        fields = {"jwt_issuer": "http://127.0.0.1:9", "jwt_audience": AUDIENCE}
        front = await System.started(stack, broker, bus, tmp_path / "data", pools=(), **fields)
        token = jwt.encode({}, "x" * 32, "HS256", {"kid": "first"})
        answer = await front.http.post(EXECUTE, json={"input": 1}, headers=bearer(token))
        problem(answer, "ISSUER_UNAVAILABLE")
        assert answer.headers["retry-after"] == "10"
        problem(await front.http.get("/api/v1/tasks", headers=bearer("lpk_x")), "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"issuer": "https://other.example"}, "of another issuer"),
        ({"jwks_uri": "http://other.example/keys"}, "not https"),
        ({"jwks_uri": 7}, "jwks_uri"),
    ],
)
async def test_a_discovery_that_leads_elsewhere_is_not_followed(
    checked, issuer, changed, reason, capfd
):
    """What is not the issuer's own, or comes by a way that others can write on, counts nothing."""
    issuer.discovered = changed
    with pytest.raises(errors.ApiError, match="cannot be had"):
        await checked.identify(issuer.token().encode())
    assert reason in capfd.readouterr().out


@given(text=strategies.binary(max_size=300) | strategies.text(max_size=300).map(str.encode))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_bytes_are_a_token_by_chance(text):
    """Whatever comes as a credential is refused and breaks nothing."""
    made = tokens.Issuer(Settings(jwt_issuer="http://127.0.0.1:9", jwt_audience="x"))
    for token in (text, b".".join([base64.urlsafe_b64encode(text).rstrip(b"=")] * 3)):
        with contextlib.suppress(errors.ApiError):
            assert await made.identify(token) is None
    await made.close()
