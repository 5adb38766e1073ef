import pathlib

import pytest

from loopai import errors, settings
from streams import topology

NUMBERS = [
    name
    for name in settings.Settings.__struct_fields__
    if type(getattr(settings.Settings(), name)) is int
]


def test_an_empty_environment_gives_the_defaults():
    """Nothing must be set; what the environment holds besides is not ours."""
    assert settings.read({"PATH": "/bin", "LOOPAI_UNKNOWN": "x"}) == settings.Settings()


def test_the_defaults_are_those_of_the_documentation():
    """Users rely on them: 1 MiB bodies, 30 s, port 8080 of the loopback."""
    known = settings.Settings()
    assert known.http_address == ("127.0.0.1", 8080)
    assert known.body_bytes_max == 1024 * 1024
    assert known.timeout_ms == 30_000
    assert known.execute_backlog_max == 10_000


def test_every_field_is_read_from_its_variable():
    """LOOPAI_ and the field's name in capitals."""
    known = settings.read({"LOOPAI_HTTP": "[::1]:9000", "LOOPAI_TIMEOUT_MS": "1000"})
    assert known.http_address == ("::1", 9000)
    assert known.timeout_ms == 1000


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["", "ten", "1.5", "0", "-1", "٣", "9" * 5000])
def test_a_bad_number_stops_by_the_name_of_its_variable(name, value):
    """An operator reads which variable is wrong, not a traceback."""
    with pytest.raises(errors.StartupError, match=f"LOOPAI_{name.upper()}"):
        settings.read({f"LOOPAI_{name.upper()}": value})


@pytest.mark.parametrize(
    "value",
    ["", "8080", ":8080", "localhost", "localhost:", "a:http", "a:65536", "a:-1", "a:²", "a:٣"],
)
def test_a_bad_address_stops_by_the_name_of_its_variable(value):
    """HOST:PORT is said with an example."""
    with pytest.raises(errors.StartupError, match=r"LOOPAI_HTTP=.*such as 127\.0\.0\.1:8080"):
        settings.read({"LOOPAI_HTTP": value})


@pytest.mark.parametrize("value", ["9464", ":9464", "localhost:", "a:65536"])
def test_a_bad_address_of_the_metrics_stops_by_the_name_of_its_variable(value):
    """Found at the start, not by a Prometheus that finds nothing."""
    with pytest.raises(errors.StartupError, match=r"LOOPAI_METRICS=.*expected HOST:PORT"):
        settings.read({"LOOPAI_METRICS": value})


@pytest.mark.parametrize("value", ["", "deno", "python,ruby", "python;deno", "auto,python"])
def test_bad_runtimes_stop_by_the_name_of_their_variable(value):
    """What may be said is said: every executor runs python."""
    with pytest.raises(errors.StartupError, match=r"LOOPAI_RUNTIMES=.*expected auto, python, or"):
        settings.read({"LOOPAI_RUNTIMES": value})


def test_runtimes_are_those_that_are_named_or_all_that_are_there():
    """None stands for whatever is installed."""
    assert settings.Settings().runtimes_wanted is None
    assert settings.read({"LOOPAI_RUNTIMES": "python"}).runtimes_wanted == {"python"}
    both = settings.read({"LOOPAI_RUNTIMES": "deno, python"}).runtimes_wanted
    assert both == {"python", "deno"}


def test_metrics_are_shown_only_where_they_are_asked_for():
    """No port is opened that nobody wanted."""
    assert settings.Settings().metrics_address is None
    assert settings.read({"LOOPAI_METRICS": ""}).metrics_address is None
    assert settings.read({"LOOPAI_METRICS": "[::]:9464"}).metrics_address == ("::", 9464)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"LOOPAI_TIMEOUT_MS": "300001"}, "LOOPAI_TIMEOUT_MS"),
        ({"LOOPAI_RUN_MS_MAX": "300001"}, "LOOPAI_RUN_MS_MAX"),
        ({"LOOPAI_TIMEOUT_MS_MAX": "3540001"}, "LOOPAI_TIMEOUT_MS_MAX"),
        ({"LOOPAI_CELL_MEMORY_BYTES_MAX": str(2**26 - 1)}, "LOOPAI_CELL_MEMORY_BYTES_MAX"),
        ({"LOOPAI_LOG_LEVEL": "loud"}, "LOOPAI_LOG_LEVEL"),
        ({"LOOPAI_CACHE_TTL_S": "31622401"}, "LOOPAI_CACHE_TTL_S"),
        ({"LOOPAI_BODY_BYTES_MAX": str(topology.MESSAGE_BYTES_MAX)}, "LOOPAI_BODY_BYTES_MAX"),
    ],
)
def test_limits_that_contradict_each_other_stop(environment, named):
    """Relations between limits are checked at the start, not found out under load."""
    with pytest.raises(errors.StartupError, match=named):
        settings.read(environment)


@pytest.mark.parametrize(
    "value",
    [
        "redis://localhost",
        "redis://user:p%40ss%2Fw@h:6379/3",
        "rediss://cache.example:6380/0",
        "redis://[::1]:6379",
        "unix:///run/redis.sock",
        "",
    ],
)
def test_the_url_of_a_redis_is_taken_as_it_is(value):
    """With a user, a port, a database, over TLS or by a socket; empty is none."""
    assert settings.read({"LOOPAI_REDIS_URL": value}).redis_url == value


@pytest.mark.parametrize(
    ("value", "shown", "reason"),
    [
        ("localhost:6379", "localhost:6379", "does not begin with"),
        ("http://u:secret@localhost", "http://***@localhost", "does not begin with"),
        ("u:secret@localhost", "***@localhost", "does not begin with"),
        ("redis://u:se@cret@h:port", "redis://***@h:port", "no number up to 65535"),
        ("redis://:secret@h:65536", "redis://***@h:65536", "no number up to 65535"),
        ("redis://u:secret@", "redis://***@", "no host"),
        ("redis://h:0", "redis://h:0", "port 0"),
        ("redis://", "redis://", "no host"),
        ("redis://u:secret@[::1", "redis://***@[::1", "no URL"),
        ("redis://h/first", "redis://h/first", "no number of a database"),
        ("redis://h/٣", "redis://h/٣", "no number of a database"),
        ("redis://u:p/secret@h:6379", "redis://***@h:6379", "no number up to 65535"),
        ("redis://u:1/secret@h:6379", "redis://***@h:6379", "no number of a database"),
        ("redis://h?password=secret", "redis://h?***", "a query"),
        ("unix://", "unix://", "no socket"),
    ],
)
def test_a_url_that_is_none_stops_without_its_password(value, shown, reason):
    """The variable, what it is set to, what is wrong, and what was expected."""
    with pytest.raises(errors.StartupError) as caught:
        settings.read({"LOOPAI_REDIS_URL": value})
    said = str(caught.value)
    assert said.startswith(f"LOOPAI_REDIS_URL={shown!r}: ")
    assert reason in said
    assert "expected redis://" in said
    assert "cret" not in said.partition("; expected")[0]


@pytest.mark.parametrize("value", ["", "a:b", "-a", "a b", "a" * 129])
def test_a_bad_namespace_stops_by_the_name_of_its_variable(value):
    """It is a part of keys that others may have to read."""
    with pytest.raises(errors.StartupError, match="LOOPAI_CACHE_NAMESPACE"):
        settings.read({"LOOPAI_CACHE_NAMESPACE": value})


@pytest.mark.parametrize("value", ["", "maybe", "2", "on"])
def test_a_bad_switch_stops_by_the_name_of_its_variable(value):
    """Only true and false, in words or as 1 and 0."""
    with pytest.raises(errors.StartupError, match="LOOPAI_HTTP_SHARED"):
        settings.read({"LOOPAI_HTTP_SHARED": value})


def test_a_port_is_shared_only_where_it_is_said_and_named():
    """Each process would take a free port of its own, and nobody would know which."""
    assert not settings.Settings().http_shared
    assert not settings.read({"LOOPAI_HTTP_SHARED": "false"}).http_shared
    assert settings.read({"LOOPAI_HTTP_SHARED": "true"}).http_shared
    with pytest.raises(errors.StartupError, match="names no port to share"):
        settings.read({"LOOPAI_HTTP_SHARED": "1", "LOOPAI_HTTP": "127.0.0.1:0"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "[::1]", "localhost"])
def test_nobody_is_asked_on_a_loopback_unless_it_is_said(host):
    """Who starts it on a laptop needs no key."""
    where = {"LOOPAI_HTTP": f"{host}:8080"}
    assert not settings.read(where).auth_required
    assert settings.read({**where, "LOOPAI_AUTH": "required"}).auth_required


@pytest.mark.parametrize("host", ["[::]", "192.0.2.1", "localhost.example", "*"])
def test_anything_that_others_can_reach_is_open_only_if_it_is_said(host):
    """Both ways out are named; workers, which listen to nobody, read the same settings."""
    where = {"LOOPAI_HTTP": f"{host}:8080"}
    known = settings.read(where)
    with pytest.raises(errors.StartupError, match=r"LOOPAI_AUTH=required.*LOOPAI_AUTH=none"):
        _ = known.auth_required
    assert settings.read({**where, "LOOPAI_AUTH": "required"}).auth_required
    assert not settings.read({**where, "LOOPAI_AUTH": "none"}).auth_required


@pytest.mark.parametrize("value", ["", "on", "true", "Required"])
def test_a_bad_choice_of_authentication_stops_by_the_name_of_its_variable(value):
    """A misspelt `required` must not leave anything open."""
    with pytest.raises(
        errors.StartupError, match=r"LOOPAI_AUTH=.*expected auto or none or required"
    ):
        settings.read({"LOOPAI_AUTH": value})


TOKENS = {"LOOPAI_JWT_ISSUER": "https://issuer.example", "LOOPAI_JWT_AUDIENCE": "loopai"}


def test_an_issuer_asks_everybody_even_on_a_loopback():
    """Whoever names one means its tokens to count: behind a proxy, for example."""
    assert settings.read(TOKENS).auth_required


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"LOOPAI_JWT_AUDIENCE": ""}, "LOOPAI_JWT_AUDIENCE is empty"),
        ({"LOOPAI_JWT_TENANT_CLAIM": ""}, "LOOPAI_JWT_TENANT_CLAIM is empty"),
        ({"LOOPAI_JWT_SCOPES_CLAIM": ""}, "LOOPAI_JWT_SCOPES_CLAIM is empty"),
        ({"LOOPAI_AUTH": "none"}, "LOOPAI_AUTH=none"),
        ({"LOOPAI_JWT_ISSUER": "http://issuer.example"}, "LOOPAI_JWT_ISSUER=.*https"),
        ({"LOOPAI_JWT_ISSUER": "issuer.example"}, "LOOPAI_JWT_ISSUER=.*https"),
        ({"LOOPAI_JWT_JWKS_URL": "file:///etc/keys"}, "LOOPAI_JWT_JWKS_URL=.*https"),
        ({"LOOPAI_JWT_JWKS_URL": "https://["}, "LOOPAI_JWT_JWKS_URL=.*https"),
    ],
)
def test_an_issuer_that_cannot_be_trusted_stops_by_the_name_of_its_variable(changed, named):
    """Before anybody is let in by a token that anybody could have made."""
    with pytest.raises(errors.StartupError, match=named):
        settings.read({**TOKENS, **changed})


def test_artifacts_lie_below_the_data_directory(tmp_path):
    """One folder holds all that a process keeps; a relative one is made absolute at once."""
    known = settings.read({"LOOPAI_DATA_DIR": str(tmp_path)})
    assert known.store == f"file://{tmp_path}/artifacts"
    assert settings.Settings().store == pathlib.Path(".loopai/artifacts").resolve().as_uri()
    odd = settings.read({"LOOPAI_DATA_DIR": "/some where/#1"})
    assert odd.store == "file:///some%20where/%231/artifacts"


def test_the_store_may_be_elsewhere():
    """Its URL goes before the data directory."""
    known = settings.read({"LOOPAI_STORE_URL": "s3://bucket", "LOOPAI_DATA_DIR": "/data"})
    assert known.store == "s3://bucket"


@pytest.mark.parametrize("name", ["RATE_LIMIT", "EXECUTION_QUOTA"])
@pytest.mark.parametrize("value", ["ten", "10", "0/second", "10/fortnight", "2000000000/day"])
def test_a_bad_rate_stops_by_the_name_of_its_variable(name, value):
    """With an example of a good one."""
    with pytest.raises(errors.StartupError, match=rf"LOOPAI_{name}=.*such as 1000/second"):
        settings.read({f"LOOPAI_{name}": value})


def test_a_rate_is_taken_as_it_is_written():
    """And an empty one is none."""
    known = settings.read({"LOOPAI_RATE_LIMIT": "10/minute", "LOOPAI_EXECUTION_QUOTA": ""})
    assert (known.rate_limit, known.execution_quota) == ("10/minute", "")


@pytest.mark.parametrize(
    ("text", "count"), [("refused", 0), ("allowed", 2), ("10.1.0.0/16, fd00::/8", 2), ("::1", 1)]
)
def test_networks_that_webhooks_may_call_are_read(text, count):
    """None, all, or a list."""
    known = settings.read({"LOOPAI_WEBHOOK_PRIVATE": text})
    assert len(known.webhook_networks) == count


@pytest.mark.parametrize("text", ["", "yes", "10.1.0.0/33", "10.1.0.1/16", "example.com", "a,,b"])
def test_what_is_no_network_stops_the_start(text):
    """A misspelt one must not leave a hole, nor close one that is needed."""
    with pytest.raises(errors.StartupError, match=r"LOOPAI_WEBHOOK_PRIVATE.*expected refused"):
        settings.read({"LOOPAI_WEBHOOK_PRIVATE": text})


def test_a_process_is_one_user_of_the_broker():
    """Of a creds file and an nkey one would be ignored in silence."""
    both = {"LOOPAI_NATS_CREDS": "/a", "LOOPAI_NATS_NKEY": "/b"}
    with pytest.raises(errors.StartupError, match="give one of them"):
        settings.read(both)
    known = settings.read({"LOOPAI_NATS_NKEY": "/b", "LOOPAI_NATS_CA": "/c"})
    assert (known.nats_proof.nkey, known.nats_proof.ca) == ("/b", "/c")


def test_an_address_for_grpc_is_one_or_nothing() -> None:
    """Off unless it is set; what is no address is told by its name."""
    assert settings.read({}).grpc_address is None
    assert settings.read({"LOOPAI_GRPC": "[::1]:50051"}).grpc_address == ("::1", 50051)
    with pytest.raises(errors.StartupError, match="LOOPAI_GRPC='nowhere'"):
        settings.read({"LOOPAI_GRPC": "nowhere"})
    with pytest.raises(errors.StartupError, match=r"LOOPAI_GRPC=.* no port to share"):
        settings.read({"LOOPAI_HTTP_SHARED": "true", "LOOPAI_GRPC": "127.0.0.1:0"})


def test_grpc_is_open_to_others_by_decision_only() -> None:
    """As HTTP is, whichever of the two is open."""
    opened = {"LOOPAI_GRPC": "0.0.0.0:50051"}
    with pytest.raises(errors.StartupError, match=r"LOOPAI_GRPC=.* is open to others"):
        _ = settings.read(opened).auth_required
    assert settings.read({**opened, "LOOPAI_AUTH": "required"}).auth_required
    assert not settings.read({"LOOPAI_GRPC": "127.0.0.1:50051"}).auth_required


@pytest.mark.parametrize(
    "value",
    [
        *("app.example.com", "https://app.example.com/", "https://App.example.com"),
        *("ftp://a", "https://", "https://a:port", "https://*.example.com", "null", "https://a b"),
    ],
)
def test_what_is_no_origin_stops_by_the_name_of_its_variable(value):
    """It would match nothing, and somebody would look for hours why."""
    with pytest.raises(errors.StartupError, match=r"LOOPAI_CORS_ORIGINS=.*https://app\.example"):
        settings.read({"LOOPAI_CORS_ORIGINS": f"https://fine.example.com,{value}"})


def test_origins_are_read_with_blanks_around_them():
    """And nobody's where nothing is set."""
    known = settings.read({"LOOPAI_CORS_ORIGINS": " https://a.example.com , http://[::1]:3000,"})
    assert known.origins == ("https://a.example.com", "http://[::1]:3000")
    assert settings.Settings().origins == ()


@pytest.mark.parametrize("auth", ["none", "auto"])
def test_any_origin_is_only_for_who_asks_for_keys(auth):
    """Else whatever page somebody looks at could execute, and delete, as an admin."""
    star = {"LOOPAI_CORS_ORIGINS": "*"}
    with pytest.raises(errors.StartupError, match="LOOPAI_AUTH=required"):
        settings.read({**star, "LOOPAI_AUTH": auth})
    assert settings.read({**star, "LOOPAI_AUTH": "required"}).origins == ("*",)
