#!/bin/sh
# The first process of a user-mode Linux (see uml.py): a machine around one Python program.
# What it is told comes as words of the kernel's command line, which are its environment.
# The host's tree is the root, read-only; only the shared directory can be written.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

# load MODULE...: of this kernel, by their paths
load() {
    local name
    for name in "$@"; do
        insmod "/usr/lib/uml/modules/$(uname -r)/kernel/$name.ko"
    done
}

# show FOLDER: of the host, where a tmpfs covers it
show() {
    [ -e "$1" ] || { mkdir -p "$1" && mount -r -t hostfs -o "$1" host "$1"; }
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
for folder in /tmp /run /mnt /var/tmp; do
    mount -t tmpfs tmpfs "$folder"
done
show "$UML_HERE"
show "${UML_PYTHON%/bin/*}"
mkdir -p "$UML_SHARE"
mount -t hostfs -o "$UML_SHARE" share "$UML_SHARE"
load drivers/block/virtio_blk fs/overlayfs/overlay
load fs/fat/fat fs/fat/vfat fs/nls/nls_cp437 fs/nls/nls_iso8859-1
# Else the kernel takes the stick for one without a cache, and asks for no flush.
for disk in /sys/block/vd*; do
    echo "write back" >"$disk/cache_type"
done
cd "$UML_HERE" || exit 1
"$UML_PYTHON" -B -m "$UML_PROGRAM" "$UML_SHARE" >"$UML_SHARE/output" 2>&1
echo $? >"$UML_SHARE/status"
sync
echo o >/proc/sysrq-trigger
sleep 60
