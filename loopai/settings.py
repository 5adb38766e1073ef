"""One frozen Settings a process, read once from `LOOPAI_*` variables; each default stands here."""

import ipaddress
import math
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from loopai import choices, errors, rate
from streams import credentials, messages, subjects, topology

KIB = 1024
MIB = 1024 * KIB
CELL_MEMORY_BYTES_LEAST = 64 * MIB
"""Less does not hold an interpreter and the smallest of programs."""
WEIGHT_LEAST, WEIGHT_MOST = 0.01, 100.0
TIMEOUT_MS_MOST = int(topology.CANCELLATIONS.ttl_s * 1000) - 60_000
"""A cancellation outlives what it cancels, by clocks that may differ by a minute."""
BODY_BYTES_MOST = topology.MESSAGE_BYTES_MAX - 64 * KIB
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
"""What a browser says a page is from (RFC 6454), of the schemes that pages have."""
CACHE_TTL_S_MOST = 366 * 86_400
"""Redis takes no more than its clock can count; a year is as good as for ever."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Field `http` is read from LOOPAI_HTTP, and so on."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Of the broker; of a cluster, several with commas between."""
    nats_creds: str = ""
    """File with a JWT and a seed, which `nsc` writes; or a user and password in the URL; or …"""
    nats_nkey: str = ""
    """… a file with the seed of an nkey."""
    nats_ca: str = ""
    """File with certificates to trust the broker's by, where its URL is tls://."""
    http: str = "127.0.0.1:8080"
    """HOST:PORT of the ingress."""
    http_shared: bool = False
    """Whether ingress processes share that port: each listens, and the kernel spreads callers."""
    grpc: str = ""
    """HOST:PORT where the ingress serves the API over gRPC as well; nowhere if empty."""
    auth: Literal["auto", "none", "required"] = "auto"
    """Whether callers of the API say who they are; auto: not on the loopback of this machine."""
    jwt_issuer: str = ""
    """URL of the OIDC issuer whose tokens are taken beside API keys; none if empty."""
    jwt_audience: str = ""
    """What those tokens must be for."""
    jwt_jwks_url: str = ""
    """Where the issuer's keys are; found by discovery if empty."""
    jwt_tenant_claim: str = "tenant"
    """The claim that names the tenant."""
    jwt_scopes_claim: str = "scope"
    """The claim that has the scopes: a text with blanks between, or a list."""
    cors_origins: str = ""
    """Whose pages may call the API from a browser: origins with commas between, or `*`."""
    data_dir: str = "./.loopai"
    """Where artifacts lie (and, for `loopai dev`, the broker's data)."""
    site: str = "main"
    """Those who share one store of programs. Processes of other sites have their own."""
    store_url: str = ""
    """Where program texts lie: file:///folder or s3://bucket/prefix; below `data_dir` if empty."""
    log_level: str = "info"
    """debug, info, warning or error."""
    metrics: str = ""
    """HOST:PORT where a worker shows its metrics; nowhere if empty."""

    receive_s: int = 20
    """How long a request may take to come: its head; its body with a second more for each 4 KiB."""
    body_bytes_max: int = MIB
    batch_bytes_max: int = 16 * MIB
    batch_items_max: int = 10_000
    batch_idle_s: int = 60
    """How long a batch may stand still: no line comes and none is on its way, or no result is read.

    As long as proxies wait for a silent peer, such as nginx with its `proxy_read_timeout`.
    """
    waiting_max: int = 4_096
    """Callers that wait for a result in one ingress process; more are refused with 503."""
    timeout_ms: int = 30_000
    """How long an execute request waits for its result unless it says otherwise."""
    timeout_ms_max: int = 300_000
    admit_ms_max: int = 30_000
    """How long an upload waits for a worker to check its program."""
    tenant_backlog_max: int = 100_000
    """Messages queued for one tenant, as of a second ago; more are refused with 503."""
    rate_limit: str = ""
    """Requests of one caller, as `1000/second`; more are refused with 429. Empty: no limit."""
    execution_quota: str = ""
    """Executions of one caller, as `100000/day`; the same."""
    execute_backlog_max: int = 10_000
    """Messages (of 1 to 256 items) queued per lane and task; more are refused with 503."""

    run_ms_max: int = 5_000
    """Longest run of a program on one input."""
    runtimes: str = "auto"
    """What an executor runs: all that is installed, or `python` and others with commas between."""
    executor_slots: int = 32
    """Deliveries that one executor handles at once."""
    tenant_running_max: int = 16
    """Of one tenant, so that others find slots."""
    task_running_max: int = 8
    """Of one task in one lane: its cell runs one batch while others are prepared or recorded."""
    tenant_weights: str = ""
    """Shares of tenants that compete for an executor, as `acme=3,beta=1`; all others have 1."""
    cells_max: int = 64
    """Warm cells that one executor keeps; the least recently used goes first."""
    cells_bytes_max: int = 2048 * MIB
    """Memory of all cells of one executor: beyond it the least recently used idle one goes."""
    cell_memory_bytes_max: int = 256 * MIB
    generator_slots: int = 1

    redis_url: str = ""
    """Of the Redis that processes share program texts through; none if empty."""
    cache_ttl_s: int = 3_600
    """How long Redis keeps a text that nobody stores again."""
    cache_bytes_max: int = 64 * MIB
    """Memory of the program texts that one process keeps; the least recently used goes first."""
    cache_namespace: str = "loopai"
    """What keys in Redis begin with, for several installations on one."""

    webhook_private: str = "refused"
    """Whether webhooks may call addresses that are not public: refused, allowed, or networks."""

    @property
    def nats_proof(self) -> credentials.Credentials:
        """Who this process is to the broker."""
        return credentials.Credentials(creds=self.nats_creds, nkey=self.nats_nkey, ca=self.nats_ca)

    @property
    def store(self) -> str:
        """The URL of the store of program texts."""
        return self.store_url or (Path(self.data_dir).resolve() / "artifacts").as_uri()

    @property
    def runtimes_wanted(self) -> frozenset[messages.Runtime] | None:
        """The runtimes that an executor is to have; None: those that are installed."""
        if self.runtimes == "auto":
            return None
        return frozenset(_runtimes(self.runtimes))

    @property
    def weights(self) -> dict[str, float]:
        """Of the tenants that have one of their own."""
        return _weights(self.tenant_weights)

    @property
    def auth_required(self) -> bool:
        """Whether callers must say who they are. StartupError where nobody has decided."""
        if self.auth != "auto":
            return self.auth == "required"
        if self.jwt_issuer:
            return True
        if not is_loopback(self.http_address[0]):
            opened = f"LOOPAI_HTTP={self.http!r}"
        elif self.grpc_address is not None and not is_loopback(self.grpc_address[0]):
            opened = f"LOOPAI_GRPC={self.grpc!r}"
        else:
            return False
        raise errors.StartupError(
            f"{opened} is open to others: set LOOPAI_AUTH=required, and make a "
            "key with `loopai key create --bus`; or LOOPAI_AUTH=none, where something else keeps "
            "strangers out"
        )

    @property
    def webhook_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """What webhooks may call although it is not public."""
        return _networks(self.webhook_private)

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose pages may call the API."""
        return tuple(filter(None, (each.strip() for each in self.cors_origins.split(","))))

    @property
    def http_address(self) -> tuple[str, int]:
        return address(self.http, "LOOPAI_HTTP")

    @property
    def grpc_address(self) -> tuple[str, int] | None:
        return address(self.grpc, "LOOPAI_GRPC") if self.grpc else None

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        return address(self.metrics, "LOOPAI_METRICS") if self.metrics else None


def read(environment: Mapping[str, str]) -> Settings:
    """Settings from *environment*. StartupError names the first variable with a bad value."""
    values = {
        name: environment[variable]
        for name in Settings.__struct_fields__
        if (variable := f"LOOPAI_{name.upper()}") in environment
    }
    settings = Settings()
    for name, value in values.items():
        try:
            one = msgspec.convert({name: value}, Settings, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error).split(" - at")[0]
            if words := choices.at(Settings, f"/{name}"):
                reason = f"expected {' or '.join(words)}"
            raise errors.StartupError(f"LOOPAI_{name.upper()}={value!r}: {reason}") from error
        settings = msgspec.structs.replace(settings, **{name: getattr(one, name)})
    _check(settings)
    return settings


def address(text: str, name: str) -> tuple[str, int]:
    """HOST:PORT taken apart. StartupError names *name* when it is neither."""
    host, _, port = text.rpartition(":")
    known = port.isascii() and port.isdecimal() and len(port) <= len("65535")
    if not host or not known or int(port) > 65_535:  # noqa: PLR2004
        raise errors.StartupError(f"{name}={text!r}: expected HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*, as far as its name says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_trustworthy(url: str) -> bool:
    """Whether what comes from *url* comes from who it says: over TLS, or from this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    )


def redacted(url: str) -> str:
    """*url* without the names and passwords in it, and without a query, which may hold some."""
    shown = re.sub(r"^([a-z]+://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", shown, flags=re.DOTALL)


def _runtimes(text: str) -> list[messages.Runtime]:
    names = [name.strip() for name in text.split(",")]
    try:
        found = msgspec.convert(names, list[messages.Runtime])
    except msgspec.ValidationError:
        found = []
    if "python" not in found:
        raise errors.StartupError(
            f"LOOPAI_RUNTIMES={text!r}: expected auto, python, or python,deno; "
            "every executor runs python"
        )
    return found


def _weights(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        tenant, _, weight = pair.partition("=")
        try:
            found[tenant] = float(weight)
        except ValueError:
            found[tenant] = math.nan
        if not subjects.is_name(tenant) or not WEIGHT_LEAST <= found[tenant] <= WEIGHT_MOST:
            raise errors.StartupError(
                f"LOOPAI_TENANT_WEIGHTS={text!r}: expected TENANT=WEIGHT, such as acme=3,beta=1; "
                f"a weight is a number from {WEIGHT_LEAST:g} to {WEIGHT_MOST:g}"
            )
    return found


def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    if text == "refused":
        return ()
    names = ("0.0.0.0/0", "::/0") if text == "allowed" else text.split(",")
    try:
        return tuple(ipaddress.ip_network(name.strip()) for name in names)
    except ValueError as error:
        raise errors.StartupError(
            f"LOOPAI_WEBHOOK_PRIVATE={text!r}: {error}; expected refused, allowed, or networks "
            "with commas between, such as 10.1.0.0/16,fd00::/8"
        ) from error


def _check(settings: Settings) -> None:
    for name in Settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise errors.StartupError(f"LOOPAI_{name.upper()}={value}: must be at least 1")
    if settings.timeout_ms > settings.timeout_ms_max:
        raise errors.StartupError("LOOPAI_TIMEOUT_MS must not exceed LOOPAI_TIMEOUT_MS_MAX")
    if settings.run_ms_max > settings.timeout_ms_max:
        raise errors.StartupError("LOOPAI_RUN_MS_MAX must not exceed LOOPAI_TIMEOUT_MS_MAX")
    if settings.timeout_ms_max > TIMEOUT_MS_MOST:
        raise errors.StartupError(
            f"LOOPAI_TIMEOUT_MS_MAX={settings.timeout_ms_max}: must not exceed {TIMEOUT_MS_MOST}, "
            "so that an execution is not forgotten to be cancelled while it may run"
        )
    if settings.body_bytes_max > BODY_BYTES_MOST:
        raise errors.StartupError(
            f"LOOPAI_BODY_BYTES_MAX={settings.body_bytes_max}: must not exceed {BODY_BYTES_MOST}, "
            "so that a task fits into one message on the bus"
        )
    if settings.cell_memory_bytes_max < CELL_MEMORY_BYTES_LEAST:
        raise errors.StartupError(
            f"LOOPAI_CELL_MEMORY_BYTES_MAX={settings.cell_memory_bytes_max}: must be at least "
            f"{CELL_MEMORY_BYTES_LEAST} (64 MiB): the interpreter takes most of that"
        )
    if settings.runtimes != "auto":
        _runtimes(settings.runtimes)
    _weights(settings.tenant_weights)
    _networks(settings.webhook_private)
    _check_words(settings)
    _check_origins(settings)
    _check_rates(settings)
    _check_addresses(settings)
    _check_cache(settings)
    _check_tokens(settings)


def _check_words(settings: Settings) -> None:
    if settings.log_level not in {"debug", "info", "warning", "error"}:
        raise errors.StartupError(
            f"LOOPAI_LOG_LEVEL={settings.log_level!r}: expected debug, info, warning or error"
        )
    if settings.nats_creds and settings.nats_nkey:
        raise errors.StartupError("LOOPAI_NATS_CREDS and LOOPAI_NATS_NKEY: give one of them")
    if not subjects.is_name(settings.site):
        raise errors.StartupError(
            f"LOOPAI_SITE={settings.site!r}: expected 1 to 128 letters, digits, '.', '_' or '-', "
            "the first a letter or digit"
        )


def _check_origins(settings: Settings) -> None:
    told = f"LOOPAI_CORS_ORIGINS={settings.cors_origins!r}"
    for each in settings.origins:
        # Browsers send an origin in small letters and without a slash: others would match nothing.
        if each != "*" and not _ORIGIN.fullmatch(each):
            raise errors.StartupError(
                f"{told}: {each!r} is no origin; expected some such as https://app.example.com, "
                "with commas between, in small letters and without a path; or *"
            )
    asked = settings.auth == "required" or (settings.auth == "auto" and settings.jwt_issuer)
    if "*" in settings.origins and not asked:
        raise errors.StartupError(
            f"{told}: where nobody is asked for a key, any page that somebody looks at could have "
            "work done; name the origins, or set LOOPAI_AUTH=required"
        )


def _check_rates(settings: Settings) -> None:
    for name in ("rate_limit", "execution_quota"):
        text = getattr(settings, name)
        try:
            if text:
                rate.parse(text)
        except ValueError as error:
            raise errors.StartupError(f"LOOPAI_{name.upper()}={text!r}: {error}") from error


def _check_addresses(settings: Settings) -> None:
    _, port = address(settings.http, "LOOPAI_HTTP")
    if settings.http_shared and port == 0:
        raise errors.StartupError(
            f"LOOPAI_HTTP_SHARED=true: LOOPAI_HTTP={settings.http!r} names no port to share"
        )
    if settings.metrics:
        address(settings.metrics, "LOOPAI_METRICS")
    if settings.grpc_address and settings.http_shared and settings.grpc_address[1] == 0:
        raise errors.StartupError(
            f"LOOPAI_HTTP_SHARED=true: LOOPAI_GRPC={settings.grpc!r} names no port to share"
        )


def _check_tokens(settings: Settings) -> None:
    for name in ("jwt_issuer", "jwt_jwks_url"):
        url = getattr(settings, name)
        if url and not is_trustworthy(url):
            raise errors.StartupError(
                f"LOOPAI_{name.upper()}={redacted(url)!r}: expected a URL of https, or on this "
                "machine of http"
            )
    if not settings.jwt_issuer:
        return
    for name in ("jwt_audience", "jwt_tenant_claim", "jwt_scopes_claim"):
        if not getattr(settings, name):
            raise errors.StartupError(
                f"LOOPAI_{name.upper()} is empty: tokens of LOOPAI_JWT_ISSUER need it"
            )
    if settings.auth == "none":
        raise errors.StartupError(
            "LOOPAI_AUTH=none: nobody would be asked for the tokens of LOOPAI_JWT_ISSUER; take "
            "one of the two away"
        )


def _check_cache(settings: Settings) -> None:
    if settings.redis_url and (reason := _wrong_with_redis(settings.redis_url)):
        raise errors.StartupError(
            f"LOOPAI_REDIS_URL={redacted(settings.redis_url)!r}: {reason}; expected "
            "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss://… for TLS, or unix:///PATH"
        )
    if settings.cache_ttl_s > CACHE_TTL_S_MOST:
        raise errors.StartupError(
            f"LOOPAI_CACHE_TTL_S={settings.cache_ttl_s}: must not exceed {CACHE_TTL_S_MOST}, a year"
        )
    if not subjects.is_name(settings.cache_namespace):
        raise errors.StartupError(
            f"LOOPAI_CACHE_NAMESPACE={settings.cache_namespace!r}: expected 1 to 128 letters, "
            "digits, '.', '_' or '-', the first a letter or digit"
        )


def _wrong_with_redis(url: str) -> str | None:
    """What *url* has that the URL of a Redis has not, without a word of its password."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is no URL, or its port is no number up to 65535"
    if parts.scheme not in {"redis", "rediss", "unix"}:
        return "it does not begin with redis://, rediss:// or unix://"
    if parts.query or parts.fragment:
        return "it has a query or a fragment"
    path = parts.path.strip("/")
    if parts.scheme == "unix":
        return None if path else "it names no socket"
    if not parts.hostname or port == 0:
        return "it names no host, or port 0"
    # Not quoted: an unescaped slash in a password leaves half of it here.
    is_number = path.isascii() and path.isdecimal()
    return None if is_number or not path else "what follows the host is no number of a database"
