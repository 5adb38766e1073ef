#!/bin/sh
# install.sh COMMAND PACKAGE WHO: installs PACKAGE with apt-get where there is no COMMAND, which WHO needs.
# Where it may not, it says what to install. Exit 0 only when COMMAND is there.
set -u

command=$1 package=$2 who=$3
command -v "$command" >/dev/null 2>&1 && exit 0

wanted="$who needs $command: install the package \"$package\" (Debian, Ubuntu: sudo apt-get install $package) and run make again"
command -v apt-get >/dev/null 2>&1 || { echo "$wanted" >&2; exit 1; }

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    echo "$wanted" >&2
    exit 1
fi

echo "installing $package with apt-get" >&2
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
}
install 2>/dev/null || { $as_root apt-get update -qq >/dev/null && install; }
command -v "$command" >/dev/null 2>&1 || { echo "$wanted" >&2; exit 1; }
