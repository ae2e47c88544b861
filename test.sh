#!/bin/sh
# Run the tests, after installing what they need.
#   ./test.sh            everything: lint, unit, sh, root, vm
#   ./test.sh --fast     lint, unit and sh only: seconds, no root, no QEMU
#   ./test.sh [pytest options]   are handed to pytest
set -eu
cd "$(dirname "$0")"

# Debian packages that the tests use, beyond what the image builder itself installs.
TEST_PACKAGES="shellcheck mandoc dash busybox-static python3-venv gcc libc6-dev qemu-system-x86
 qemu-utils ovmf attr acl libcap2-bin sqlite3 openssl expect fakeroot dpkg-dev cpio kmod strace
 grub-common grub-pc-bin grub-efi-amd64-bin fsverity e2fsprogs dosfstools mtools btrfs-progs
 squashfs-tools cryptsetup-bin gdisk fdisk mmdebstrap user-mode-linux"

# install_packages LIST...: those of the Debian packages that are missing
install_packages() {
    local name missing=""
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q "ok installed" ||
            missing="$missing $name"
    done
    [ -n "$missing" ] || return 0
    echo "test.sh: installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# make_venv: the Python packages of the tests, once for each pyproject.toml
make_venv() {
    local stamp
    stamp=$(sha256sum pyproject.toml | cut -d' ' -f1)
    [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ] && return 0
    echo "test.sh: making .venv"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --editable '.[test]'
    echo "$stamp" >.venv/stamp
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086  # a list of words
    install_packages $TEST_PACKAGES
fi
make_venv
if [ "${1-}" = --fast ]; then
    shift
    exec .venv/bin/python -m pytest -q -n 2 tests/lint tests/unit tests/sh "$@"
fi
set -- .venv/bin/python -m pytest -q -n 2 --dist loadgroup "$@"
if [ "$(id -u)" != 0 ] || ! unshare --mount --pid --fork true 2>/dev/null; then
    exec "$@"
fi
# Killed in any way, this leaves no process and no mount behind.
# shellcheck disable=SC2016  # for the inner shell, which collects the processes that end
setpriv --pdeathsig KILL unshare --mount --pid --fork --mount-proc --kill-child \
    sh -c '"$@"; exit $?' sh "$@"
