#!/bin/sh
# Called by `make setup` when `loopai sandbox doctor` has failed: installs bubblewrap if that is
# what is missing, else prints the doctor's reason. Exit 0 only when the doctor is content.
set -u

python=${PYTHON_BIN:-.venv/bin/python}

if command -v bwrap >/dev/null 2>&1; then
    exec "$python" -m loopai.cli.main sandbox doctor
fi

wanted='the sandbox needs bubblewrap: install the package "bubblewrap" (Debian, Ubuntu: sudo apt-get install bubblewrap) and run make again'
command -v apt-get >/dev/null 2>&1 || { echo "$wanted" >&2; exit 1; }

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "$wanted" >&2
    exit 1
fi

echo 'installing bubblewrap with apt-get' >&2
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null
}
install 2>/dev/null || { $as_root apt-get update -qq >/dev/null && install; } || { echo "$wanted" >&2; exit 1; }

exec "$python" -m loopai.cli.main sandbox doctor
