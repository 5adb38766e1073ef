#!/bin/sh
# Drives the sandbox's attacks in a container, by podman and without Docker: sandbox-in-container.sh WAY
# with the names of attacks as a JSON list on standard input (tests/sandbox/drive.py). The image, made
# once by debootstrap, has Python and bubblewrap; the tree, its packages and Deno are mounted, read-only.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
image=localhost/loopai-sandbox-drive
packages=${LOOPAI_TEST_PACKAGES:-$root/.venv/lib/python3.11/site-packages}
deno=${LOOPAI_TEST_DENO:-$root/.venv/bin/deno}

build() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    debootstrap --variant=minbase --include=python3,bubblewrap,util-linux bookworm "$work/system" >"$work/log" 2>&1 ||
        { tail -20 "$work/log"; exit 1; }
    rm -rf "$work/system/var/cache/apt" "$work/system/var/lib/apt/lists"
    tar -C "$work/system" -cf "$work/system.tar" .
    printf 'FROM scratch\nADD system.tar /\nUSER 10001:10001\n' >"$work/Containerfile"
    podman build -q --isolation chroot -t "$image" -f "$work/Containerfile" "$work"
}

podman image exists "$image" || build >&2

# No capability, an ordinary user, no network, a read-only root: what compose.yaml and the Helm chart
# give the pools that make cells. The filter leaves bubblewrap its namespaces; without unmask=ALL,
# /proc is partly covered, and the kernel refuses to mount another.
exec podman --runtime runc run --rm -i --network none --read-only --pull never \
    --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
    --cap-drop ALL --security-opt no-new-privileges \
    --security-opt "seccomp=$root/deploy/seccomp.json" --security-opt unmask=ALL \
    --tmpfs /tmp:mode=1777 -v "$root:/loopai:ro" -v "$packages:/packages:ro" \
    -v "$deno:/usr/local/bin/deno:ro" \
    -e PYTHONPATH=/loopai:/packages -e PYTHONDONTWRITEBYTECODE=1 -e HOME=/tmp \
    "$image" sh -c 'mkdir /tmp/drive && exec python3 -m tests.sandbox.drive "$0" /tmp/drive' "$1"
