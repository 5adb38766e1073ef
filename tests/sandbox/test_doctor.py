"""The machine that runs these tests can keep programs in; one that cannot is told why."""

import sys

import pytest

from loopai.sandbox import bubblewrap, doctor, limits
from loopai.sandbox.inside import seccomp


async def test_machine_is_fit():
    report = await doctor.require()
    assert report.landlock_abi >= 1
    assert report.bubblewrap
    assert report.cold_ms > 0


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


def test_machine_without_a_filter_is_named():
    with pytest.raises(seccomp.UnsupportedError, match="riscv64"):
        seccomp.compile_filter("riscv64")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_is_whole_instructions_within_the_kernel_s_bound(machine):
    lines = seccomp.compile_filter(machine)
    assert len(lines) % 8 == 0
    assert len(lines) // 8 < 256


@pytest.mark.parametrize("as_root", [True, False])
def test_cell_sees_no_more_than_it_needs(as_root):
    interpreter = bubblewrap.Interpreter(
        executable="/opt/python/bin/python3", stdlib="/opt/python/lib/python3.11", libraries=()
    )
    argv = list(
        bubblewrap.command("bwrap", interpreter, limits.Limits(), as_root=as_root, control_fd=9)
    )
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
