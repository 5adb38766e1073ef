"""The machine that runs these tests can keep programs in; one that cannot is told why."""

import json
import os
import subprocess
import sys

import pytest

from loopai.sandbox import bubblewrap, doctor, escapes, limits, outcome
from loopai.sandbox.inside import seccomp
from loopai.sandbox.runtimes import deno, runtime


async def test_machine_is_fit():
    report = await doctor.require()
    assert report.landlock_abi >= 1
    assert report.bubblewrap
    assert report.cold_ms > 0


async def test_a_limit_that_is_too_tight_for_a_cell_is_found_before_any_program():
    """With the worker's own limits: every program would fail in it."""
    tight = limits.Limits(memory_bytes_max=17 * limits.MIB)
    with pytest.raises(doctor.Unavailable, match="a probe cell does not"):
        await doctor.require(tight)


async def test_a_deno_that_does_not_work_is_named_with_how_to_go_without(monkeypatch, tmp_path):
    """It is found, it ends at once: programs in Python need none of it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "deno").symlink_to("/bin/true")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(doctor.Unavailable, match=r"Deno, .* does not work: .*LOOPAI_RUNTIMES=pyth"):
        await doctor.require(languages=("python", "javascript"))
    assert (await doctor.require(languages=("python",))).cold_ms > 0


async def test_a_machine_with_deno_is_fit_for_it():
    assert await doctor.require(languages=("javascript", "typescript"))


@pytest.mark.parametrize("probe", ["python", "javascript"])
async def test_an_attempt_that_a_probe_does_not_know_is_not_refused(cells, probe):
    """A misspelt name would prove nothing."""
    code = escapes.PYTHON_PROBE if probe == "python" else escapes.JAVASCRIPT_PROBE
    ended = await cells.one(code, {"attempt": "nothing"}, language=probe, timeout_ms=5_000)
    assert ended.kind == "error"
    assert escapes.judge(escapes.Escape(name="nothing"), ended).verdict == "unclear"


def test_memory_is_bounded_only_where_it_ends_as_that():
    """A process that ends by itself has not met the bound."""
    (memory,) = (each for each in escapes.JAVASCRIPT if "memory" in each.name)
    assert memory.ends == ("out_of_memory",)


async def test_missing_bubblewrap_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(doctor.Unavailable, match="bubblewrap") as caught:
        await doctor.require()
    assert any("apt-get install bubblewrap" in piece for piece in caught.value.missing)


async def test_broken_bubblewrap_is_quoted(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no permissions to create a namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(doctor.Unavailable, match="no permissions to create a namespace"):
        await doctor.require()


async def test_bubblewrap_that_confines_nothing_is_noticed(monkeypatch, tmp_path):
    """A stand-in that starts init outside of any namespace: init must not work, or be found out."""
    fake = tmp_path / "bwrap"
    fake.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "argv = sys.argv[sys.argv.index('--') + 1:]\n"
        "os.execv(argv[0], argv)\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(doctor.Unavailable):
        await doctor.require()


async def test_inspection_tries_to_get_out_and_cannot():
    found = await doctor.inspect()
    assert found.fit, found.problems
    assert {attempt.verdict for attempt in found.attempts} == {"refused"}
    tried = {(attempt.language, attempt.name) for attempt in found.attempts}
    assert tried == {(each.language, each.name) for each in escapes.PYTHON + escapes.JAVASCRIPT}
    assert {layer.name for layer in found.layers} >= {
        *("kernel", "bubblewrap", "namespaces", "seccomp", "Landlock", "Python", "Deno"),
        "cgroups",
    }


async def test_inspection_names_the_missing_layer_and_tries_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await doctor.inspect()
    assert not found.fit
    assert [layer.name for layer in found.layers if layer.state == "missing"] == ["bubblewrap"]
    assert found.attempts == ()
    assert "apt-get install bubblewrap" in found.problems[0]


async def test_a_cell_that_does_not_start_is_a_problem_and_not_an_exception(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no permissions to create a namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = await doctor.inspect()
    assert not found.fit
    assert "no permissions to create a namespace" in found.problems[0]


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("No permissions to create new namespace", "user.max_user_namespaces above 0"),
        ("cannot open /proc/sys/user/max_user_namespaces: Read-only file system", "procMount"),
        ("Can't set hostname to cell: Operation not permitted", "seccomp=unconfined"),
        ("setting up uid map: Operation not permitted", "run as an ordinary user"),
        ("Failed to make / slave: Permission denied", "apparmor=unconfined"),
    ],
)
async def test_what_bubblewrap_says_is_followed_by_what_to_do(
    monkeypatch, tmp_path, complaint, advice
):
    """The sentences are those of bubblewrap 0.8 in containers that lack something."""
    broken = tmp_path / "bwrap"
    broken.write_text(f'#!/bin/sh\necho "bwrap: {complaint}" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(doctor.Unavailable) as caught:
        await doctor.require()
    assert complaint in str(caught.value)
    assert advice in str(caught.value)


def test_the_attempts_reach_something_outside_of_a_cell():
    """A probe that is refused everywhere proves nothing."""
    # These would leave something behind, end the process, or need a host or more privileges.
    left_out = {"write a file", "mount a file system", "use io_uring", "raise its own limits"}
    left_out |= {"run another program", "forge an answer", "run past its deadline"}
    wanted = [each.name for each in escapes.PYTHON if each.name not in left_out]
    setting = {"file": __file__, "executable": sys.executable, "memory_bytes": 2**20}
    code = f"""
import os
{escapes.PYTHON_PROBE}
for name in {wanted!r}:
    if os.fork() == 0:
        reached = run({{**{setting!r}, "attempt": name}})
        os._exit(0 if reached else 1)
    print(name, os.waitstatus_to_exitcode(os.wait()[1]), sep=": ")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [f"{name}: 0" for name in wanted]


def test_the_attempts_in_javascript_reach_something_outside_of_a_cell(tmp_path):
    """With every permission of Deno's; in a cell the kernel refuses what these would not."""
    left_out = {"write a file", "take more memory than it may", "run past its deadline"}
    wanted = [each.name for each in escapes.JAVASCRIPT if each.name not in left_out]
    setting = json.dumps({"file": __file__, "executable": "/bin/true", "memory_bytes": 2**20})
    probe = tmp_path / "probe.js"
    probe.write_text(
        f"{escapes.JAVASCRIPT_PROBE}\n"
        f"for (const attempt of {json.dumps(wanted)})\n"
        f"  console.log(attempt, await run({{ ...{setting}, attempt }}));\n"
        "Deno.exit(0);\n"
    )
    done = subprocess.run(
        [deno.find(), "run", "--quiet", "--allow-all", "--no-config", str(probe)],
        env={**os.environ, "NO_COLOR": "1", "DENO_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{name} true" for name in wanted]


@pytest.mark.parametrize(
    ("ends", "kind", "output", "verdict"),
    [
        ((), "success", b"false", "refused"),
        ((), "success", b"true", "reached"),
        ((), "success", b"null", "reached"),
        ((), "killed", None, "unclear"),
        ((), "error", None, "unclear"),
        ((), "lost", None, "unclear"),
        (("timeout",), "timeout", None, "refused"),
        (("timeout",), "success", b"true", "reached"),
        (("timeout",), "killed", None, "unclear"),
        (("killed", "out_of_memory"), "out_of_memory", None, "refused"),
        (("killed",), "success", b"false", "reached"),
    ],
)
def test_only_what_was_refused_counts_as_refused(ends, kind, output, verdict):
    ended = outcome.Outcome(kind=kind, output=output)
    assert escapes.judge(escapes.Escape(name="x", ends=ends), ended).verdict == verdict


def test_what_is_tried_at_a_start_is_part_of_the_self_test():
    assert set(escapes.QUICK) < set(escapes.PYTHON)


def doctor_command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "loopai.cli.main", "sandbox", "doctor", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_shows_layers_and_attempts():
    done = doctor_command()
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("Landlock", "namespaces", "map memory that can be executed", "refused"):
        assert word in done.stdout
    assert "reached" not in done.stdout


def test_the_command_in_json_and_in_silence():
    found = json.loads(doctor_command("--json").stdout)
    assert found["fit"] is True
    assert len(found["attempts"]) >= 12
    quiet = doctor_command("--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_the_command_fails_with_how_to_get_what_is_missing(tmp_path, option):
    done = doctor_command(option, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "apt-get install bubblewrap" in done.stderr
    assert (json.loads(done.stdout)["fit"] is False) if option == "--json" else not done.stdout


def test_machine_without_a_filter_is_named():
    with pytest.raises(seccomp.UnsupportedError, match="riscv64"):
        seccomp.compile_filter("riscv64", seccomp.PYTHON)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize(
    ("calls", "starting"),
    [(seccomp.PYTHON, False), (seccomp.DENO, False), (seccomp.DENO_START, True)],
)
def test_filter_is_whole_instructions_within_the_kernel_s_bound(machine, calls, starting):
    lines = seccomp.compile_filter(machine, calls, starting=starting)
    assert len(lines) % 8 == 0
    assert len(lines) // 8 < 256


@pytest.mark.parametrize("as_root", [True, False])
def test_cell_sees_no_more_than_it_needs(as_root):
    python = runtime.Runtime(
        name="python",
        interpreter=("/opt/python/bin/python3",),
        files={"/opt/python/bin/python3": "/opt/python/bin/python3.11"},
        hidden=(),
        environment={},
        forked=True,
        config={},
    )
    argv = list(bubblewrap.command("bwrap", python, limits.Limits(), as_root=as_root, control_fd=9))
    assert "--proc" not in argv
    assert "--dev" not in argv
    assert "--share-net" not in argv
    assert {"--unshare-pid", "--unshare-net", "--unshare-ipc", "--clearenv"} <= set(argv)
    assert ("--disable-userns" in argv) is not as_root


@pytest.mark.parametrize(
    "bounds",
    [
        {"code_bytes_max": 3 * 2**20},
        {"input_bytes_max": 3 * 2**20},
        {"output_bytes_max": 2**20},
        {"memory_bytes_max": 2**20},
        {"grace_ms": 0},
        {"batch_items_max": 0},
    ],
)
def test_limits_that_contradict_each_other_are_refused(bounds):
    with pytest.raises(ValueError, match="must"):
        limits.Limits(**bounds)
