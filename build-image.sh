#!/bin/sh
# Build a stick image: `ramos image build` from this checkout, after installing what it needs.
#   ./build-image.sh --try       build the default image and boot it in this terminal
#   ./build-image.sh --help      all options
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# What the builder runs, as Debian packages. The programs that it runs are checked again by itself.
HOST_PACKAGES="python3 python3-click python3-pyudev python3-psutil python3-pyroute2
 python3-sdnotify mmdebstrap debian-archive-keyring squashfs-tools gdisk fdisk mtools dosfstools
 e2fsprogs util-linux grub-common grub-pc-bin grub-efi-amd64-bin kmod zstd cpio busybox-static
 cryptsetup-bin openssl uidmap"
# For --try: the virtual machine.
VM_PACKAGES="qemu-system-x86 qemu-utils ovmf"

# list_missing NAME...: those of the Debian packages that are not installed
list_missing() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q "ok installed" ||
            printf ' %s' "$name"
    done
}

# install_packages NAME...: install what is missing, or say what is
install_packages() {
    local missing
    missing=$(list_missing "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "build-image.sh: missing packages:$missing" >&2
        echo "  hint: as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "build-image.sh: installing$missing" >&2
    apt-get update -qq || echo "build-image.sh: the package lists may be old" >&2
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
        >/dev/null
}

# check_python: on other systems than Debian, name what is missing
check_python() {
    python3 -c 'import click, psutil, pyudev' 2>/dev/null && return 0
    echo "build-image.sh: this machine lacks Python 3.10 or its modules click, psutil, pyudev" >&2
    echo "  hint: install them with its package manager; the builder then names what else" >&2
    echo "        it needs (Debian's packages are: $HOST_PACKAGES)" >&2
    exit 1
}

# install_launcher: make this checkout the `ramos` of this machine, where there is none yet
install_launcher() {
    local launcher=/usr/local/bin/ramos
    [ "$(id -u)" = 0 ] && [ -d "${launcher%/*}" ] || return 0
    command -v ramos >/dev/null 2>&1 && return 0
    printf '#!/bin/sh\nPYTHONPATH="%s" exec /usr/bin/python3 -m ramos "$@"\n' "$here" >"$launcher"
    chmod 755 "$launcher"
    echo "build-image.sh: the command ramos now runs this checkout ($launcher)" >&2
}

python=/usr/bin/python3
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    case " $* " in
    *" --try "*) packages="$HOST_PACKAGES $VM_PACKAGES" ;;
    *) packages=$HOST_PACKAGES ;;
    esac
    # shellcheck disable=SC2086  # a list of words
    install_packages $packages
else
    python=python3
    check_python
fi
install_launcher
PYTHONPATH=$here exec "$python" -m ramos image build "$@"
