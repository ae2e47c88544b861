#!/bin/sh
# Build a stick image: `ramos image build` from this checkout, after installing what it needs.
#   ./build-image.sh --try       build the default image and boot it in this terminal
#   ./build-image.sh --help      all options
#   ./build-image.sh --install-launcher [OPTIONS]
#                                make this checkout the `ramos` of this machine (a link in
#                                /usr/local/bin, or in $PREFIX/bin)
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# What the builder runs, as Debian packages. The programs that it runs are checked again by itself.
HOST_PACKAGES="python3 python3-click python3-pyudev python3-psutil python3-pyroute2
 python3-sdnotify mmdebstrap debian-archive-keyring squashfs-tools gdisk fdisk mtools dosfstools
 e2fsprogs util-linux grub-common grub-pc-bin grub-efi-amd64-bin kmod zstd cpio busybox-static
 cryptsetup-bin openssl uidmap"
# For --try: the virtual machine.
VM_PACKAGES="qemu-system-x86 qemu-utils ovmf"

# The Python modules in them, for other systems.
PYTHON_MODULES="click psutil pyudev pyroute2 sdnotify"
CHECK_MODULES='
import importlib.util, sys
if sys.version_info < (3, 10):
    sys.exit(1)
names = sys.argv[1:] + ["tomli"] * (sys.version_info < (3, 11))
missing = [name for name in names if importlib.util.find_spec(name) is None]
if missing:
    print("the Python modules", *missing)
    sys.exit(1)
'

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
    local missing
    # shellcheck disable=SC2086  # a list of words
    missing=$(python3 -I -c "$CHECK_MODULES" $PYTHON_MODULES) && return 0
    echo "build-image.sh: this machine lacks ${missing:-Python 3.10}" >&2
    echo "  hint: install it with the package manager; the builder then names what else" >&2
    echo "        it needs (Debian's packages are: $HOST_PACKAGES)" >&2
    exit 1
}

# install_launcher: make this checkout the `ramos` of this machine
install_launcher() {
    local launcher=${PREFIX:-/usr/local}/bin/ramos
    if [ -e "$launcher" ] && [ ! -L "$launcher" ]; then
        echo "build-image.sh: cannot install the launcher: $launcher: there is another file" >&2
        exit 1
    fi
    ln -sfn "$here/bin/ramos" "$launcher"
    echo "build-image.sh: the command ramos now runs this checkout ($launcher)" >&2
}

launcher=false
if [ "${1-}" = --install-launcher ]; then
    launcher=true
    shift
fi
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
if $launcher; then
    install_launcher
    [ "$#" != 0 ] || exit 0
elif [ "${1-}" != --help ] && ! command -v ramos >/dev/null 2>&1; then
    echo "build-image.sh: the command ramos is $here/bin/ramos (see --install-launcher)" >&2
fi
exec "$python" -I "$here/bin/ramos" image build "$@"
