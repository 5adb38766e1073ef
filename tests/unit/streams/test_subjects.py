"""Names become subject tokens and back; anything else never becomes a subject."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import subjects

NAMES = st.from_regex(subjects.NAME, fullmatch=True)


def stored(tenant: str, task: str) -> str:
    """As the broker stores an execution."""
    group, place = subjects.queue(tenant, task)
    queued = subjects.queued("bulk", group, place).removesuffix(".*.*")
    return f"{queued}.{subjects.token(tenant)}.{subjects.token(task)}"


@given(NAMES, NAMES)
def test_owner_finds_the_names_that_went_in(tenant: str, task: str) -> None:
    """Whatever a tenant and a task are called, each subject gives both back."""
    for subject in (
        subjects.execute("bulk", tenant, task),
        stored(tenant, task),
        subjects.routed("deno", stored(tenant, task)),
        subjects.generate(tenant, task),
        subjects.record(tenant, task),
        subjects.event("execution", tenant, task),
        subjects.dead("EXECUTE", tenant, task),
    ):
        assert subjects.owner(subject) == (tenant, task)


@given(NAMES)
def test_a_name_is_one_token(name: str) -> None:
    """No name widens a subject or a key: no dot, no wildcard, no space is left in it."""
    for text in (subjects.token(name), subjects.task_key("t", name)[2:]):
        assert not set(text) & set(".*> \t\r\n")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "*",
        ">",
        "a.*",
        "-a",
        ".a",
        "_a",
        "ä",
        "a/b",
        "a%2Eb",
        "a\n",
        "x" * 129,
        "a\x00",
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    """Nothing but a name is ever put into a subject."""
    assert not subjects.is_name(name)
    with pytest.raises(ValueError, match="not a name"):
        subjects.execute("interactive", "default", name)


@pytest.mark.parametrize(
    "subject",
    ["", "loopai.v1.execute.bulk", "loopai.v1.execute.bulk.a", "loopai.v1.record.a.b.c",
     "other.v1.execute.bulk.a.b", "loopai.v1.execute.bulk.a.b.c",
     "loopai.v1.execute.bulk.a.%", "loopai.v1.execute.bulk.ä.b",
     "loopai.v1.routed.deno.bulk.a", "loopai.v1.routed.bulk.a.b", "loopai.v1.routed.deno.b.a.b.c"],
)  # fmt: skip
def test_foreign_subjects_have_no_owner(subject: str) -> None:
    """A subject of another form is an error, never a wrong tenant."""
    with pytest.raises(ValueError, match=r"not a name|expected loopai"):
        subjects.owner(subject)


@pytest.mark.parametrize(
    ("subject", "tenant", "expected"),
    [
        ("_INBOX.abc", "acme", True),
        ("_INBOX.tenant.acme.abc", "acme", True),
        ("_INBOX.tenant.acme.abc", "beta", False),
        ("_INBOX.tenant.acme", "acme", False),
        ("_INBOX.tenant.a%2Eb.abc", "a.b", True),
        ("_INBOX.tenant.acmes.abc", "acme", False),
        ("loopai.v1.reply.ingress.1", "acme", True),
        ("loopai.v1.call.acme.x", "acme", False),
        ("$JS.API.INFO", "acme", False),
        ("mine.>", "acme", False),
        ("", "acme", False),
    ],
)
def test_answers_go_to_no_subject_of_others(subject: str, tenant: str, *, expected: bool) -> None:
    """Not to the broker, to us, to many, or into the inbox of another tenant."""
    assert subjects.is_answerable(subject, tenant) is expected


def test_inboxes_of_roles_and_tenants_are_apart() -> None:
    """Nobody's begin with anybody else's."""
    assert subjects.inbox("") == "_INBOX"
    assert subjects.inbox("executor") == "_INBOX.executor"
    assert subjects.tenant_inbox("a.b") == "_INBOX.tenant.a%2Eb"
