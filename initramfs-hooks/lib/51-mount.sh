# Mounting persist, with the repair ladder: the journal's own replay, `e2fsck -p`, `e2fsck -fy` (a
# torn superblock needs it), and at the very last read-only without the journal. A flipped bit in a
# directory does not hinder a mount, but hides what is in it: so what must be there is looked for.
# shellcheck shell=dash disable=SC2034,SC2153

PERSIST_OPTIONS=nosuid,nodev,noatime,commit=30,errors=remount-ro
PERSIST_READONLY=0
REPAIRED=""
MISSING=""

mount_persist() {
    # Bit 1 of the state: the kernel has seen errors in it, and a mount alone would not mend them.
    case $PERSIST_STATE in
    *[2367abefABEF]) repair_further "has recorded errors" ;;
    esac
    try_mount "$PERSIST_OPTIONS" || mount_repaired || return 1
    [ "$PERSIST_READONLY" = 1 ] || find_content || remount_repaired
    DONE="mounted${REPAIRED:+ after e2fsck $REPAIRED}"
    [ "$PERSIST_READONLY" = 0 ] || DONE="mounted read-only"
}

# mount_repaired: what does not mount as it is
mount_repaired() {
    [ -n "$REPAIRED" ] || repair_further "does not mount"
    try_mount "$PERSIST_OPTIONS" && return 0
    [ "$REPAIRED" = -fy ] || repair_persist -fy "still does not mount"
    try_mount "$PERSIST_OPTIONS" && return 0
    if try_mount ro,nosuid,nodev,noatime,noload; then
        PERSIST_READONLY=1
        warn "$PERSIST_NODE could only be mounted read-only: nothing can be saved on it"
        return 0
    fi
    WHY="$PERSIST_NODE cannot be mounted, and e2fsck could not repair it (see $RAMOS_RUN_DIR/e2fsck.log)"
    return 1
}

# remount_repaired: it mounts, but something is missing; a repair brings it back, or it is gone
remount_repaired() {
    if ! umount "$RAMOS_PERSIST_DIR"; then
        warn "$PERSIST_NODE lacks $MISSING, and cannot be unmounted for a repair"
        return 0
    fi
    repair_persist -fy "lacks $MISSING"
    try_mount "$PERSIST_OPTIONS" || mount_repaired || return 1
    find_content && return 0
    restore_names "$RAMOS_PERSIST_DIR"
    find_content || warn "$PERSIST_NODE lacks $MISSING, which e2fsck did not bring back"
}

# find_content: whether all that a boot needs can be seen; MISSING says what cannot
find_content() {
    local persist
    persist=$RAMOS_PERSIST_DIR
    MISSING=""
    if [ ! -f "$persist/$RAMOS_ROOTFS_IMAGE" ]; then
        MISSING=$RAMOS_ROOTFS_IMAGE
    elif [ -f "$persist/$RAMOS_OLD_DEFAULT" ] || [ -f "$persist/$RAMOS_OLD_BACKUP" ]; then
        : # laid out by hand: there need be nothing else
    elif [ -d "$persist/${RAMOS_LAYERS_DIR%/*}" ]; then
        find_saved "$persist"
    elif find_alike "$persist" "${RAMOS_LAYERS_DIR%/*}"; then
        MISSING=${RAMOS_LAYERS_DIR%/*}
    fi
    # What was listed is complete only if the kernel saw nothing wrong with it.
    [ -n "$MISSING" ] || ! has_errors || MISSING="something (the kernel saw errors)"
    [ -z "$MISSING" ]
}

# find_saved PERSIST: the layers that the newest generation names; without layers there may be none
find_saved() {
    local newest path
    for path in "$RAMOS_LAYERS_DIR" "$RAMOS_GENERATIONS_DIR"; do
        [ -d "$1/$path" ] || MISSING=$path
    done
    list_generations
    newest=${NUMBERS%%
*}
    if [ -z "$newest" ]; then
        ! has_layers || MISSING="every generation"
        return
    fi
    while [ ${#newest} -lt 6 ]; do
        newest=0$newest
    done
    while read -r _ path; do
        case $path in
        "$RAMOS_LAYERS_DIR"/*) [ -f "$1/$path" ] || MISSING=$path ;;
        esac
    done <"$1/$RAMOS_GENERATIONS_DIR/$newest"
}

# has_errors: the kernel counts what it finds wrong in a file system
has_errors() {
    local name count
    name=$(readlink -f "$PERSIST_NODE")
    count=0
    read -r count <"$SYS/fs/ext4/${name##*/}/errors_count" || return 1
    [ "$count" != 0 ]
} 2>/dev/null

# try_mount OPTIONS
try_mount() {
    mount -t ext4 -o "$1" "$PERSIST_NODE" "$RAMOS_PERSIST_DIR" 2>>"$RAMOS_RUN_DIR/mount.log"
}

# repair_further REASON: what needs no decision; where that does not do, everything
repair_further() {
    repair_persist -p "$1" || repair_persist -fy "could not be repaired by e2fsck -p"
}

# repair_persist OPTION REASON: fails where errors are left
repair_persist() {
    local status
    say "$PERSIST_NODE $2: e2fsck $1"
    status=0
    e2fsck "$1" "$PERSIST_NODE" >>"$RAMOS_RUN_DIR/e2fsck.log" 2>&1 || status=$?
    note mount "e2fsck $1 ended with status $status"
    REPAIRED=$1
    [ "$status" -lt 4 ] || return 1
    [ "$status" -eq 0 ] || warn "$PERSIST_NODE was repaired by e2fsck $1"
}
