"""What is deployed has the names that the code has: pools, settings, addresses of health checks."""

import json
import re
import stat
from pathlib import Path

import pytest

from loopai.ingress import health
from loopai.sandbox import bubblewrap
from loopai.settings import Settings
from streams import permissions, topology
from workers import runtime
from workers.__main__ import POOLS

ROOT = Path(__file__).parents[3]
COMPOSE = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
CHART = ROOT / "helm" / "loopai"
TEMPLATES = {path.name: path.read_text() for path in (CHART / "templates").iterdir()}
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VARIABLES = {f"LOOPAI_{name.upper()}" for name in Settings.__struct_fields__}
SERVICES = {"ingress", *POOLS}
CELLS = {"executor", "generator"}

MIB = 1024 * 1024


def section(text: str, name: str) -> str:
    """The lines of *text* below the key *name* at the start of a line."""
    found = re.search(rf"^{name}:.*\n((?:[ #].*\n|\n)*)", text, re.MULTILINE)
    assert found is not None, f"no {name}"
    return found[1]


def service(name: str) -> str:
    """The lines of a service of compose.yaml."""
    found = re.search(
        rf"^  {name}:\n((?:    .*\n|\n)*)", section(COMPOSE, "services"), re.MULTILINE
    )
    assert found is not None, f"compose.yaml has no service {name}"
    return found[1]


def test_compose_has_a_service_for_every_pool() -> None:
    """One word names a pool everywhere; beside them ingress, broker, provisioning, cache."""
    names = set(re.findall(r"^  (\w+):$", section(COMPOSE, "services"), re.MULTILINE))
    assert names == {*SERVICES, "nats", "provision", "redis"}


def test_the_chart_has_a_deployment_and_values_for_every_pool() -> None:
    """One word names a pool everywhere; each has a template and a key of its own."""
    values = (CHART / "values.yaml").read_text()
    for name in SERVICES:
        assert f"{name}.yaml" in TEMPLATES
        assert re.search(r"^  replicas: \d", section(values, name), re.MULTILINE)
        assert name in SCHEMA["required"]


@pytest.mark.parametrize("pool", POOLS)
def test_services_run_the_pool_that_they_are_named_after(pool: str) -> None:
    """The command of a service ends in its name."""
    assert f'command: ["python", "-m", "workers", "{pool}"]' in service(pool)
    assert f'"pool" "{pool}"' in TEMPLATES[f"{pool}.yaml"]


@pytest.mark.parametrize("pool", sorted(CELLS))
def test_a_pool_that_runs_programs_is_given_longer_than_its_drain(pool: str) -> None:
    """Compose kills after 10 s by itself, and cells take a moment to end."""
    grace = re.search(r"stop_grace_period: (\d+)s", service(pool))
    assert grace is not None
    assert int(grace[1]) >= 2 * runtime.DRAIN_S


@pytest.mark.parametrize("pool", POOLS)
def test_only_the_pools_that_run_programs_may_make_namespaces(pool: str) -> None:
    """Whoever makes no cells keeps the container's whole confinement."""
    kind = "cells" if pool in CELLS else "sealed"
    assert f"*{kind}" in service(pool)
    assert f'"cells" {str(pool in CELLS).lower()}' in TEMPLATES[f"{pool}.yaml"]
    assert "unconfined" not in section(COMPOSE, "x-sealed")


@pytest.mark.parametrize(
    "path",
    [
        ROOT / "compose.yaml",
        ROOT / "Dockerfile",
        *sorted(path for path in CHART.rglob("*") if path.is_file()),
        *sorted((ROOT / "deploy").iterdir()),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_variable_is_a_setting(path: Path) -> None:
    """A misspelt or removed LOOPAI_ variable would be ignored in silence."""
    assert set(re.findall(r"LOOPAI_[A-Z_]+[A-Z]", path.read_text())) <= VARIABLES


def test_the_chart_takes_every_setting_that_it_does_not_make_itself() -> None:
    """`settings:` in the values knows the same names as the code; no pod shares a port."""
    made = {"nats_url", "redis_url", "http", "http_shared", "data_dir", "metrics"}
    known = SCHEMA["properties"]["settings"]["properties"]
    assert set(known) == set(Settings.__struct_fields__) - made
    for name, schema in known.items():
        kind = "integer" if isinstance(getattr(Settings(), name), int) else None
        assert schema.get("type") == kind


def test_those_who_read_programs_are_told_of_the_redis() -> None:
    """In compose it is there; in the chart its URL is a value, or a secret where it is one."""
    assert "LOOPAI_REDIS_URL: redis://redis:6379/0\n" in section(COMPOSE, "x-loopai")
    assert 'include "loopai.redisUrl"' in TEMPLATES["ingress.yaml"]
    assert 'include "loopai.redisUrl"' in TEMPLATES["_helpers.tpl"]
    assert "name: LOOPAI_REDIS_URL" in TEMPLATES["_helpers.tpl"]
    values = section((CHART / "values.yaml").read_text(), "redis")
    assert re.search(r'^  url: ""$', values, re.MULTILINE)


def test_the_broker_takes_our_largest_message() -> None:
    """Otherwise no process would start."""
    configuration = (ROOT / "deploy" / "nats.conf").read_text()
    found = re.search(r"^max_payload: (\d+)MB$", configuration, re.MULTILINE)
    assert found is not None
    assert int(found[1]) * MIB >= topology.MESSAGE_BYTES_MAX
    assert re.search(r"^  sync_interval: always$", configuration, re.MULTILINE)


def test_the_broker_may_reserve_what_the_streams_ask_for() -> None:
    """JetStream refuses a stream whose bytes would exceed its store."""
    configuration = (ROOT / "deploy" / "nats.conf").read_text()
    found = re.search(r"^  max_file_store: (\d+)TB$", configuration, re.MULTILINE)
    assert found is not None
    reserved = sum(each.max_bytes for each in topology.STREAMS + topology.BUCKETS)
    assert int(found[1]) * MIB * MIB > reserved


def test_probes_ask_paths_that_exist() -> None:
    """A probe of a path that is gone would restart the ingress for ever."""
    text = COMPOSE + TEMPLATES["ingress.yaml"]
    asked = set(re.findall(r"/health/\w+", text))
    assert asked == {"/health/live", "/health/ready"}
    assert asked <= {route.path for route in health.routes}


def test_the_pods_have_what_the_page_says_that_cells_need() -> None:
    """Capabilities and the mount of /proc: in the code, the chart, and both pages alike."""
    names = "SYS_ADMIN, NET_ADMIN, SETUID, SETGID, KILL"
    assert set(names.split(", ")) == set(bubblewrap._CAPABILITIES)
    helpers = TEMPLATES["_helpers.tpl"]
    page = (ROOT / "docs" / "explanation" / "sandbox.md").read_text()
    assert f"add: [{names}]" in helpers
    assert f"`add: [{names}]`" in page
    for key in ("procMount: Unmasked", "hostUsers: false", "allowPrivilegeEscalation: false"):
        name, value = key.split(": ")
        assert key in helpers
        row = re.search(rf"^\| `{name}` \| `{value}`", page, re.MULTILINE)
        assert row is not None, f"the page does not say {key}"


def test_the_narrow_filter_leaves_what_cells_are_made_with() -> None:
    """deploy/seccomp.json takes away nothing that bubblewrap, init or an executor calls."""
    profile = json.loads((ROOT / "deploy" / "seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    (rule,) = profile["syscalls"]
    assert rule["action"] == "SCMP_ACT_ERRNO"
    needed = {"clone", "unshare", "setns", "mount", "umount2", "pivot_root", "sethostname", "prctl"}
    needed |= {"seccomp", "landlock_create_ruleset", "landlock_restrict_self", "pidfd_open"}
    needed |= {"pidfd_send_signal", "setresuid", "setgroups", "memfd_create", "close_range"}
    assert needed.isdisjoint(rule["names"])
    assert {"bpf", "io_uring_setup", "keyctl", "ptrace", "userfaultfd"} <= set(rule["names"])


def test_workers_show_their_metrics_on_one_port_everywhere() -> None:
    """A Prometheus that is set up by the documentation finds the workers of any deployment."""
    port = re.search(
        r"^  port: (\d+)$", section((CHART / "values.yaml").read_text(), "metrics"), re.MULTILINE
    )
    assert port is not None
    assert f"LOOPAI_METRICS: 0.0.0.0:{port[1]}\n" in section(COMPOSE, "x-loopai")
    assert re.search(rf"^EXPOSE 8080 {port[1]}$", DOCKERFILE, re.MULTILINE)
    assert "value: 0.0.0.0:{{ $port }}" in TEMPLATES["_helpers.tpl"]


def test_the_image_brings_its_extras_from_the_lock() -> None:
    """JavaScript runs in the image, texts may lie in S3, and what that takes was checked."""
    assert "ARG EXTRAS=[javascript,s3]\n" in DOCKERFILE
    assert '--no-index --find-links /wheels "loopai${EXTRAS}"' in DOCKERFILE
    for name in ("deno", "aioboto3"):
        assert re.search(rf"^{name}==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def test_the_image_brings_what_cells_need_and_no_root() -> None:
    """bubblewrap is in the image, and services run as an ordinary user with a number."""
    assert re.search(r"apt-get install .*\bbubblewrap\b", DOCKERFILE)
    assert re.search(r"^USER \d+:\d+$", DOCKERFILE, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE


def test_the_image_holds_every_package_and_nothing_that_is_ignored() -> None:
    """What is copied into the image exists and passes .dockerignore."""
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for name in line.split()
    }
    assert {"streams", "loopai", "workers"} <= copied == kept
    for name in copied:
        assert (ROOT / name).stat().st_mode & stat.S_IROTH, f"{name} is not readable in the image"


def test_nothing_is_deployed_open_to_others_by_chance() -> None:
    """The ingress would refuse to start: the chart asks for keys, and compose keeps to loopback."""
    assert "LOOPAI_AUTH: required\n" in TEMPLATES["configmap.yaml"]
    assert "LOOPAI_AUTH: ${LOOPAI_AUTH:-none}\n" in service("ingress")
    assert "- 127.0.0.1:8080:8080\n" in service("ingress")


def test_the_secured_broker_has_the_rights_that_the_code_has() -> None:
    """Else an upgrade would lack what new versions need. Mended by printing them again."""
    shipped = (ROOT / "deploy" / "permissions.conf").read_text()
    assert shipped == permissions.configuration(["default"]), (
        "run: python -m streams permissions --tenant default > deploy/permissions.conf"
    )


def test_the_secured_broker_differs_from_the_other_in_nothing_else() -> None:
    """What is said of one configuration holds for both."""
    plain = (ROOT / "deploy" / "nats.conf").read_text().splitlines()[1:]
    secure = (ROOT / "deploy" / "nats-secure.conf").read_text().splitlines()[1:]
    assert secure == [*plain, "", "include ./permissions.conf"]


def test_every_service_has_its_own_user_on_the_secured_bus() -> None:
    """In compose as the name of the service, whose password the broker is given as well."""
    overlay = (ROOT / "deploy" / "compose.secure.yaml").read_text()
    users = dict(re.findall(r"nats://(\w+):\$\{NATS_PASSWORD_(\w+):\?\}@", overlay))
    assert users == {"admin": "ADMIN"} | {name: name.upper() for name in SERVICES}
    given = set(re.findall(r"^      (NATS_PASSWORD_\w+): \$\{\1:\?\}$", overlay, re.MULTILINE))
    wanted = [*permissions.ROLES, permissions.tenant("default")]
    assert given == {permissions.variable(role, "password") for role in wanted}
