"""The commands where no Loopai is needed: help, usage, bad files, nobody at the URL."""

import json

import pytest

from loopai.cli import main, output, showcase

NOBODY = ["--url", "http://127.0.0.1:9"]  # the discard port, where nothing listens

LONG = "z" * (showcase.BODY_BYTES_MAX // 10)
HUGE = "z" * showcase.INPUT_BYTES_MAX


def run(capsys, *arguments):
    """Exit code, stdout and stderr of one command."""
    with pytest.raises(SystemExit) as ended:
        main.main(list(arguments))
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


COMMANDS = [
    ("dev",), ("demo",), ("run",), ("task", "create"), ("task", "list"), ("task", "show"),
    ("task", "generate"), ("audit", "tail"), ("audit", "get"), ("sandbox", "doctor"),
    ("rollout", "show"), ("rollout", "activate"), ("rollout", "canary"), ("rollout", "shadow"),
    ("rollout", "promote"), ("rollout", "rollback"), ("key", "create"), ("key", "list"),
    ("key", "revoke"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(capsys, command):
    """`--help` says how to call it."""
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert f"Example: loopai {' '.join(command)}" in " ".join(out.split())


def test_version(capsys):
    """The version stands alone on stdout, after the name."""
    assert run(capsys, "--version") == (0, "loopai 0.1.0\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("task", "create"),
        ("task", "create", "x", "--input-schema", "{}"),
        ("task", "create", "x", "--from", "task.json"),
        ("audit", "tail", "--since", "soon"),
        ("key", "create", "ci"),
        ("key", "create", "ci", "--scope", "all"),
        ("key", "create", "ci", "--scope", "admin", "--expires", "soon"),
        ("demo", "--examples", "0"),
        ("dev", "--workers", "0"),
        ("dev", "--ingress", "0"),
        ("dev", "--ingress", "65"),
        ("dev", "--sync", "never"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments):
    """Usage errors go to stderr, with a code of their own."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    "arguments",
    [
        ("task", "list"),
        ("task", "show", "x"),
        ("task", "generate", "x"),
        ("task", "create", "x", "--input-schema", "{}", "--output-schema", "{}"),
        ("run", "x", "{}"),
        ("audit", "get", "x"),
    ],
)
def test_nobody_at_the_url_is_said_with_what_to_do(capsys, arguments):
    """A refused connection is no traceback."""
    assert run(capsys, *arguments, *NOBODY) == (
        1,
        "",
        "error: no Loopai at http://127.0.0.1:9; start one with `loopai dev` or set LOOPAI_URL\n",
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://x:y", "is not a URL"),
        ("http://127.0.0.1:65536", "is not a URL"),
        ("http://", "is not a URL"),
        ("ftp://x", "'ftp://x' is not a URL such as http://"),
        ("x", "'x' is not a URL such as http://"),
    ],
)
def test_what_is_no_url_is_said(capsys, url, message):
    """Odd values of --url end in a line too."""
    code, _, err = run(capsys, "task", "list", "--url", url)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("command", [("task", "upload", "x"), ("sandbox", "run")])
@pytest.mark.parametrize(
    ("file", "message"),
    [
        (("gone.py", None), "gone.py: No such file or directory"),
        (
            ("half.txt", b""),
            "half.txt: unknown suffix '.txt'; say --language python, javascript or",
        ),
        (("binary.py", b"\xff\xfe"), "binary.py: not UTF-8 text: invalid start byte at byte 0"),
    ],
)
def test_a_program_that_cannot_be_read_is_wrong_usage(capsys, tmp_path, command, file, message):
    """In the same words wherever a program is given."""
    name, content = file
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    code, out, err = run(capsys, *command, str(path))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path}/{message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [("task", "upload", "x"), ("sandbox", "run")])
def test_a_language_that_nothing_runs_is_not_offered(capsys, command):
    """`csharp` has its place on the bus, and no runtime."""
    assert "csharp" not in run(capsys, *command, "--help")[1]
    code, _, err = run(capsys, *command, "x.py", "--language", "csharp")
    assert code == 2
    assert "csharp" in err


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nope://x"])
def test_proxies_are_not_asked_for_this_machine(capsys, monkeypatch, proxy):
    """What is set for the rest of the world does not matter on the loopback."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    code, _, err = run(capsys, "task", "list", *NOBODY)
    assert code == 1
    assert "no Loopai at http://127.0.0.1:9;" in err


def test_a_proxy_that_cannot_be_used_is_said(capsys, monkeypatch):
    """For other machines it is asked, and what is wrong with it is one line."""
    monkeypatch.setenv("ALL_PROXY", "nope://x")
    code, _, err = run(capsys, "task", "list", "--url", "http://example.invalid")
    assert code == 1
    assert err.startswith("error: the proxy or the certificates set in the environment cannot be ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "x", "\udcff"), "no Loopai at"),
        (("run", "\udcff", "1"), "no Loopai at"),
        (("audit", "get", "\udcff"), "no Loopai at"),
        (("task", "create", "\udcff", "--input-schema", "{}", "--output-schema", "{}"), "NAME is"),
        (("task", "create", "x", "--input-schema", "{\udcff", "--output-schema", "{}"), "--input"),
    ],
)
def test_arguments_need_not_be_utf8(capsys, arguments, message):
    """A shell hands over any bytes; they are a name that nobody has, or no JSON."""
    code, _, err = run(capsys, *arguments, *NOBODY)
    assert code == 1
    assert err.startswith(f"error: {message}")


@pytest.mark.parametrize("command", ["input", "schema", "task", "examples"])
def test_json_that_is_nested_too_deeply_is_said(capsys, tmp_path, command):
    """Wherever JSON is read from."""
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    new = ("task", "create", "x", "--output-schema", "{}", "--input-schema")
    examples = tmp_path / "examples.json"
    examples.write_text('[{"input":' + "[" * 100_000)
    arguments = {
        "input": ("run", "x", f"@{deep}"),
        "schema": (*new, str(deep)),
        "task": ("task", "create", "--from", str(deep)),
        "examples": (*new, "{}", "--examples", str(examples)),
    }
    code, _, err = run(capsys, *arguments[command], *NOBODY)
    assert code == 1
    assert err.endswith("the JSON is nested too deeply\n")


def test_no_broker_is_said(capsys):
    """`audit tail` reads the bus itself, and says where it looked."""
    code, out, err = run(capsys, "audit", "tail", "--nats-url", "nats://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert "nats://127.0.0.1:9" in err


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "No such file"),
        ("", (), "is empty"),
        ("a,b\n1,x\n", (), "1 rows with a value in 'b', the label; 21 are the least"),
        ("a,b\n" + "1,x\n" * 30, (), "every row has b 'x'"),
        ("a,b\n" + "1,x\n2,y\n" * 30, ("--label", "c"), "no column 'c'; it has a, b"),
        ("a,b\n" + "1,x\n2,y\n" * 30, ("--text", "c"), "no column 'c'; it has a, b"),
        ("a,b\n" + "1,x\n2,y\n" * 30, ("--examples", "60"), "leaves none to try"),
        ("a,b\n" + f"{LONG},x\n2,y\n" * 30, (), "are the most; take fewer with --examples"),
        ("a,b\n" + "1,x\n2,y\n" * 30 + f"{HUGE},x", (), "data.csv: one row has"),
    ],
)
def test_demo_refuses_a_bad_file_before_it_starts_anything(
    capsys, tmp_path, content, options, message
):
    """One line on stderr, nothing on stdout, exit code 1."""
    path = tmp_path / "data.csv"
    if content is not None:
        path.write_text(content)
    code, out, err = run(capsys, "demo", "--json", "--data", str(path), *options)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("examples.json", "{", "expected examples of the form"),
        ("examples.json", "[]", "holds no examples"),
        ("examples.jsonl", '{"input": 1}\n', "expected examples of the form"),
        ("examples.csv", "a,b\n", "no rows below"),
        ("examples.csv", "a,b\n1,\n", "no row has a value in 'b'"),
        ("examples.json", None, "No such file"),
    ],
)
def test_task_create_refuses_bad_examples(capsys, tmp_path, name, content, message):
    """Before the server is asked anything."""
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    schemas = ("--input-schema", "{}", "--output-schema", "{}")
    code, _, err = run(capsys, "task", "create", "x", *schemas, "--examples", str(path), *NOBODY)
    assert code == 1
    assert message in err


def test_schema_that_is_no_json_is_named(capsys, tmp_path):
    """Given as text it is named by its option, from a file by the file."""
    (tmp_path / "in.json").write_text("nope")
    for value, name in (("{nope", "--input-schema"), (str(tmp_path / "in.json"), "in.json")):
        arguments = ("task", "create", "x", "--input-schema", value, "--output-schema", "{}")
        code, _, err = run(capsys, *arguments, *NOBODY)
        assert code == 1
        assert f"{name} is not JSON" in err


def test_help_does_not_load_what_only_commands_need():
    """`loopai --help` stays quick: no HTTP client, bus client or scikit-learn."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    program = (
        "import json, sys\n"
        "import loopai.cli.main\n"
        "heavy = ('httpx', 'nats', 'sklearn', 'numpy', 'uvloop', 'starlette')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", program])
    assert json.loads(loaded) == []


def test_tables_lose_nothing_on_a_narrow_screen(capsys, monkeypatch):
    """Ids are folded, not cut."""
    monkeypatch.setenv("COLUMNS", "20")
    output.stdout().print(output.grid(("name", "id"), [("x" * 30, "0123456789" * 3)]))
    out = "".join(capsys.readouterr().out.split())
    assert "…" not in out
    assert sum(map(out.count, "0123456789")) == 30
