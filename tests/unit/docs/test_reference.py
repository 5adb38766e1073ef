"""The reference pages name everything that there is, and links lead somewhere."""

import re
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from loopai import errors, settings
from loopai.catalog.cache import cache, memory
from loopai.catalog.stores import filesystem
from loopai.cli import main
from loopai.ingress import (
    artifacts,
    batch,
    deliveries,
    execute,
    executions,
    generate,
    health,
    keys,
    rollouts,
    tasks,
    webhooks,
)
from loopai.observe import metrics as observed
from loopai.sandbox import limits, modules, outcome, pool, statistics
from streams import messages, topology
from tools import reference
from workers import metrics, syncer

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("clients/*/README.md")]
)

STATE = messages.SiteState(
    site="main",
    store="file:///",
    versions=0,
    missing=0,
    lag_s=0.0,
    conflicts=0,
    updated_at=datetime.now(UTC),
)

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_SCHEME = re.compile(r"[a-z]+:")


@pytest.mark.parametrize("page", [*reference.PAGES, *reference.SECTIONS])
def test_what_the_code_says_is_what_the_page_says(page: str) -> None:
    """A page that was not made again since the code changed is found: `make docs` makes it."""
    assert (REFERENCE / page).read_text() == reference.rendered()[page], "run `make docs`"


def row(page: str, name: str) -> list[str]:
    """The cells of the row that begins with `name` in a table of *page*."""
    text = (REFERENCE / page).read_text()
    line = re.search(rf"^\| *`{re.escape(name)}` *\|(.*)\|$", text, re.MULTILINE)
    assert line is not None, f"docs/reference/{page} has no row for {name}"
    return [cell.strip() for cell in line[1].split(" | ")]


@pytest.mark.parametrize("field", settings.Settings.__struct_fields__)
def test_every_setting_is_documented_with_its_default(field: str) -> None:
    """A variable that the page leaves out, or gives another default, is found."""
    default = getattr(settings.Settings(), field)
    shown = {"": "none", False: "`false`"}.get(default, f"`{default}`")
    assert row("settings.md", f"LOOPAI_{field.upper()}")[0].startswith(shown)


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """A variable that was taken away leaves the page as well."""
    named = set(
        re.findall(r"^\| `LOOPAI_([A-Z_]+)`", (REFERENCE / "settings.md").read_text(), re.MULTILINE)
    )
    assert {name.lower() for name in named} == set(settings.Settings.__struct_fields__)


@pytest.mark.parametrize("code", errors.CODES)
def test_every_error_code_is_documented_with_its_status(code: str) -> None:
    """A code that the page leaves out, or gives another status, is found."""
    assert row("errors.md", code)[0] == str(errors.CODES[code].status)


def test_no_error_code_is_documented_that_does_not_exist() -> None:
    """A code that was taken away leaves the page as well."""
    text = (REFERENCE / "errors.md").read_text()
    assert set(re.findall(r"^\| `([A-Z_]+)` \| \d{3} ", text, re.MULTILINE)) == set(errors.CODES)


@pytest.mark.parametrize(
    "route",
    [
        f"{method} {re.sub(r':[a-z]+}', '}', route.path)}"
        for resource in (
            *(tasks, artifacts, rollouts, generate, execute, executions, batch, keys, health),
            *(webhooks, deliveries),
        )
        for route in resource.routes
        for method in sorted((route.methods or set()) - {"HEAD"})
    ],
)
def test_every_route_is_documented(route: str) -> None:
    """A route that the page leaves out is found."""
    text = (REFERENCE / "http.md").read_text()
    method, path = route.split(" ")
    spelled = re.sub(r"{(execution|operation|key)}", "{id}", path)
    assert re.search(rf"`([A-Z]+/)*{method}(/[A-Z]+)* {re.escape(spelled)}`", text), route


@pytest.mark.parametrize("name", [each.name for each in topology.BUCKETS])
def test_every_bucket_is_documented(name: str) -> None:
    """A bucket whose keys the page of the bus does not explain is found."""
    assert f"`{name}`" in (REFERENCE / "bus.md").read_text()


@pytest.mark.parametrize(
    "command",
    [each.name or each.callback.__name__ for each in main.app.registered_commands if each.callback]
    + [group.name for group in main.app.registered_groups],
)
def test_every_command_is_documented(command: str) -> None:
    """A command that the page leaves out is found."""
    assert f"`loopai {command}" in (REFERENCE / "cli.md").read_text()


def shown(registry: CollectorRegistry) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every sample's family, by the name that a query uses."""
    found = {}
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, labels)
    return found


async def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    """A figure that the page leaves out, or that was taken away, is found."""
    ingress = observed.IngressMetrics()
    ingress.requests.labels("route", "GET", "200").inc()
    ingress.request_seconds.labels("route").observe(1)
    ingress.dispatch.executions.labels("success").inc()
    workers = CollectorRegistry()
    texts = cache.ProgramCache(filesystem.FilesystemStore(Path()), memory.Memory(1))
    workers.register(texts.collector())
    workers.register(syncer.SyncCollector(STATE))
    workers.register(metrics.WorkerCollector("executor", "executor-1", 1, int, int))
    cells = pool.CellPool(limits.Limits(), cells_max=1)
    workers.register(metrics.CellCollector(cells))
    workers.register(metrics.ShadowCollector(metrics.ShadowCounts()))
    workers.register(metrics.WebhookCollector(metrics.WebhookCounts()))
    wanted = shown(ingress.registry) | shown(workers)

    text = (REFERENCE / "metrics.md").read_text()
    rows = re.findall(r"^\| `(loopai_\w+)` \| (\w+) \| (.*?) ?\| ", text, re.MULTILINE)
    assert {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    } == wanted


def test_every_cause_of_a_kill_is_documented() -> None:
    """A cause that the page leaves out, or that was taken away, is found."""
    table = (REFERENCE / "metrics.md").read_text().partition("| cause | when |")[2]
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert named == set(get_args(statistics.Cause))


def test_the_modules_that_a_program_may_import_are_listed() -> None:
    """Who writes a program reads there what it may import: no more and no less."""
    text = (ROOT / "docs" / "explanation" / "sandbox.md").read_text()
    section = text.partition("## What Python programs may import")[2].partition("\n## ")[0]
    listed = section.split("\n\n")[2]
    assert set(re.findall(r"`([\w.]+)`", listed)) == modules.ALLOWED


def test_every_outcome_is_explained() -> None:
    """An outcome that the page leaves out, or that was taken away, is found."""
    text = (ROOT / "docs" / "explanation" / "sandbox.md").read_text()
    table = text.partition("| outcome | when |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(
        get_args(outcome.OutcomeKind)
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_resolves(page: Path) -> None:
    """Links lead to files that exist, and to headings that exist in them."""
    broken = [link for link in _LINK.findall(_prose(page)) if not _resolves(page, link)]
    assert broken == []


def test_the_index_leads_to_every_page() -> None:
    """A page that nobody finds might as well not be there."""
    index = ROOT / "docs" / "index.md"
    links = {(index.parent / link).resolve() for link in _LINK.findall(_prose(index))}
    assert set((ROOT / "docs").rglob("*.md")) - links == {index}


def _resolves(page: Path, link: str) -> bool:
    if _SCHEME.match(link):
        return True
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in {_anchor(found) for found in _HEADING.findall(_prose(target))}


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def _anchor(heading: str) -> str:
    """The fragment that GitHub gives *heading*."""
    kept = (c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")
