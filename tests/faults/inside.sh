#!/bin/sh
# inside.sh TREE CHECKOUT SCRATCH COMMAND...: run a test of a tree that has a fault in it.
# Whatever the fault does, it does to nothing of this machine: namespaces of its own (the caller's
# unshare), the file systems read-only but for scratch, no disks, no cgroups, no SysRq; and the tree
# stands where the checkout is.
set -u
tree=$1 checkout=$2 scratch=$3
shift 3

# hide_disks: all that is neither a loop device nor made of RAM
hide_disks() {
    local name
    for name in /sys/class/block/*; do
        name=${name##*/}
        case $name in loop* | ram* | zram*) continue ;; esac
        [ ! -b "/dev/$name" ] || mount --bind /dev/null "/dev/$name" || return 1
    done
}

# Nothing goes over / itself: whoever joins a mount namespace, as each root test does, comes to what
# lies on top, and there the machine would be within reach.
mount --make-rprivate / || exit 97
hide_disks || exit 97
[ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null /proc/sysrq-trigger || exit 97
umount -l /sys/fs/cgroup/unified 2>/dev/null
umount -l /sys/fs/cgroup 2>/dev/null
mount --bind "$tree" /mnt || exit 97
# The interpreter may lie where the scratch covers it: it is shown there again.
home=$(dirname "$(dirname "$1")")
case $home in
/tmp/* | /var/tmp/*)
    exec 3<"$home"
    mount --bind "$scratch" /tmp && mount --bind /tmp /var/tmp || exit 97
    mkdir -p "$home" && mount -c --bind /proc/self/fd/3 "$home" || exit 97
    ;;
*) mount --bind "$scratch" /tmp && mount --bind /tmp /var/tmp || exit 97 ;;
esac
mkdir -p "$checkout" && mount --bind /mnt "$checkout" && umount /mnt || exit 97
# Programs that write for their user, and mount(8), have a place of the copy's own.
export HOME="$checkout/.cache/home"
mkdir -p "$HOME" /run/mount && mount -t tmpfs tmpfs /run/mount || exit 97
mount -o remount,bind,ro / || exit 97
cd "$checkout" || exit 97
"$@"
exit $?
