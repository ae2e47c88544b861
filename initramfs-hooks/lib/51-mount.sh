# Mounting persist, with the repair ladder: the journal's own replay, `e2fsck -p`, `e2fsck -fy` (a
# torn superblock needs it), and at the very last read-only without the journal.
# shellcheck shell=dash disable=SC2034,SC2153

PERSIST_OPTIONS=noatime,commit=30,errors=remount-ro
PERSIST_READONLY=0

mount_persist() {
    # Bit 1 of the state: the kernel has seen errors in it, and a mount alone would not mend them.
    case $PERSIST_STATE in
    *[2367abefABEF]) repair_persist -p "has recorded errors" ;;
    esac
    DONE="mounted"
    try_mount "$PERSIST_OPTIONS" && return 0
    repair_persist -p "does not mount"
    DONE="mounted after e2fsck -p"
    try_mount "$PERSIST_OPTIONS" && return 0
    repair_persist -fy "still does not mount"
    DONE="mounted after e2fsck -fy"
    try_mount "$PERSIST_OPTIONS" && return 0
    DONE="mounted read-only"
    if try_mount ro,noatime,noload; then
        PERSIST_READONLY=1
        warn "$PERSIST_NODE could only be mounted read-only: nothing can be saved on it"
        return 0
    fi
    WHY="$PERSIST_NODE cannot be mounted, and e2fsck could not repair it (see $RAMOS_RUN_DIR/e2fsck.log)"
    return 1
}

# try_mount OPTIONS
try_mount() {
    mount -t ext4 -o "$1" "$PERSIST_NODE" "$RAMOS_PERSIST_DIR" 2>>"$RAMOS_RUN_DIR/mount.log"
}

# repair_persist OPTION REASON
repair_persist() {
    local status
    say "$PERSIST_NODE $2: e2fsck $1"
    status=0
    e2fsck "$1" "$PERSIST_NODE" >>"$RAMOS_RUN_DIR/e2fsck.log" 2>&1 || status=$?
    note mount "e2fsck $1 ended with status $status"
    [ "$status" -lt 4 ] || return 0
    [ "$status" -eq 0 ] || warn "$PERSIST_NODE was repaired by e2fsck $1"
}
