#!/bin/sh
# Runs the tests of control groups under a kernel that has version 2 alone, for machines that mount
# version 1: Debian's kernel, emulated by qemu and thus in a few minutes, with a Debian in its memory.
# Needs root and the packages qemu-system-x86, debootstrap and cpio, on Debian 12.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
packages=${LOOPAI_TEST_PACKAGES:-$root/.venv/lib/python3.11/site-packages}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
system=$work/system

debootstrap --variant=minbase --include=python3,bubblewrap,util-linux bookworm "$system" >"$work/log" 2>&1 ||
    { tail -20 "$work/log"; exit 1; }
kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -1)
(cd "$work" && apt-get download -q "$kernel" >"$work/log" 2>&1 && dpkg -x "$kernel"_*.deb kernel) ||
    { cat "$work/log"; exit 1; }

# All of it stays in the machine's memory: without what these tests do not import.
rm -rf "$system"/var/cache/apt "$system"/var/lib/apt/lists "$system"/usr/share/doc "$system"/usr/share/locale
mkdir "$system/loopai" "$system/packages"
for each in loopai streams workers tests pyproject.toml; do cp -r "$root/$each" "$system/loopai/"; done
tar -C "$packages" -cf - --exclude='scipy*' --exclude='sklearn*' --exclude='numpy*' --exclude='*mypy*' . |
    tar -C "$system/packages" -xf -

cat >"$system/init" <<'INIT'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
export PYTHONPATH=/loopai:/packages PYTHONDONTWRITEBYTECODE=1
# The kernel's first file system cannot be pivoted away from, which bubblewrap does; a mount of it can.
if [ "${1-}" != mounted ]; then
    mkdir /mounted && mount --bind / /mounted && cd /mounted && mount --move . / && exec chroot . /init mounted
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 1 >/proc/sys/kernel/printk
cd /loopai

failed=0
check() {
    echo "== $*"
    "$@" || failed=1
}
nothing_below() {
    test -z "$(find "$1" -mindepth 1 -type d)"
}
checks() {
    # A skipped test passes, so this says first that there is something to test.
    check "$@" python3 -c 'from loopai.sandbox import cgroups
found = cgroups.find(); found.close(); print(found); assert found.version == 2'
    check "$@" python3 -m pytest --color=no -rs tests/sandbox/test_cgroups.py
    check "$@" python3 -m loopai.cli.main sandbox doctor
}
# As a service manager does it: a group that belongs to the user, and one process that starts in it.
service=/sys/fs/cgroup/service
in_service() {
    sh -c 'echo $$ >"$0/cgroup.procs" && exec setpriv --reuid 10001 --regid 10001 --clear-groups "$@"' "$service" "$@"
}

uname -sr
checks env
check nothing_below /sys/fs/cgroup
echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$service"
chown 10001 "$service" "$service/cgroup.procs" "$service/cgroup.threads" "$service/cgroup.subtree_control"
checks in_service
check nothing_below "$service"
[ "$failed" = 1 ] || echo "everything passed"
echo o >/proc/sysrq-trigger
sleep 60
INIT
chmod 755 "$system/init"
(cd "$system" && find . -print0 | cpio -0 -o -H newc --quiet) >"$work/memory.cpio"

timeout 1200 qemu-system-x86_64 -accel tcg -m 2048 -nographic -no-reboot -kernel "$work"/kernel/boot/vmlinuz-* \
    -initrd "$work/memory.cpio" -append "console=ttyS0 panic=-1 quiet" </dev/null | tee "$work/log"
grep -q "^everything passed" "$work/log"
