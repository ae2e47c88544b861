# The upper: the RAM file system that takes every write. btrfs on zram, since a snapshot of it is a
# point in time; tmpfs where that cannot be had, which is said loudly.
# shellcheck shell=dash disable=SC2034,SC2153

UPPER_MADE=""
UPPER_BYTES=0
UPPER_OPTIONS=noatime,discard=async
# A GiB, less what the kernel keeps for itself.
LATER_KIB=921600
# The same of 512 MiB, the smallest machine that RAMOS is made for.
LEAST_KIB=409600

# check_memory: first of all, for where a boot needs more than there is, nobody is left to say so
check_memory() {
    read_memory
    note memory "$((TOTAL_KIB >> 10)) MiB of RAM, $((FREE_KIB >> 10)) MiB free"
    [ "$TOTAL_KIB" -ge "$LEAST_KIB" ] ||
        warn "this machine is too small: $((TOTAL_KIB >> 10)) MiB of RAM, where 512 MiB are the least; programs may be ended for want of it"
}

# make_upper: once; unpacking layers may have needed it before its turn
make_upper() {
    DONE="$UPPER_MADE $UPPER_BYTES bytes"
    [ -z "$UPPER_MADE" ] || return 0
    compute_upper_size
    mkdir -p "$RAMOS_UPPER_DIR"
    if [ "$UPPER_KIND" = zram ] && make_zram_upper; then
        UPPER_MADE=zram
    elif make_tmpfs_upper; then
        [ "$UPPER_KIND" = tmpfs ] ||
            warn "zram or btrfs does not work here: changes are kept uncompressed in a tmpfs"
        UPPER_MADE=tmpfs
    else
        WHY="neither a zram nor a tmpfs could be made for the changes of the running system"
        return 1
    fi
    DONE="$UPPER_MADE $UPPER_BYTES bytes"
}

# compute_upper_size: as asked for, but never more than the RAM could hold uncompressed with an
# eighth of it left over: a zram that runs out of memory loses what was written, without an error
compute_upper_size() {
    local number limit
    read_memory
    plan_copies
    number=${UPPER_SIZE%?}
    strip_zeros "$number"
    case $UPPER_SIZE in
    *%) UPPER_KIB=$((TOTAL_KIB * STRIPPED / 100)) ;;
    *G) UPPER_KIB=$((STRIPPED * 1048576)) ;;
    *) UPPER_KIB=$((STRIPPED * 1024)) ;;
    esac
    limit=$((FREE_KIB - COPIES_KIB - TOTAL_KIB / 8))
    if [ "$UPPER_KIB" -gt "$limit" ]; then
        note upper "$UPPER_KIB KiB is more than the RAM can hold, $limit KiB it is"
        UPPER_KIB=$limit
    fi
    UPPER_BYTES=$((UPPER_KIB * 1024))
}

# plan_copies: COPIES_KIB = room for what ramosd copies to RAM later: at most a quarter of what is free,
# on a machine that has a GiB or more
plan_copies() {
    COPIES_KIB=0
    [ "$TORAM" = later ] || return 0
    COPIES_KIB=$(((BASE_BYTES + LAYER_BYTES) / 1024))
    [ "$TOTAL_KIB" -lt "$LATER_KIB" ] || [ "$COPIES_KIB" -gt $((FREE_KIB / 4)) ] || return 0
    note upper "images of $COPIES_KIB KiB stay on the stick: $FREE_KIB of $TOTAL_KIB KiB of RAM are free"
    COPIES_KIB=0
    TORAM=no
}

make_zram_upper() {
    # shellcheck disable=SC2086  # process ids, or none
    wait $UPPER_LOADER $RANDOM_WAITER
    [ -e "$SYS/block/zram0" ] || return 1
    # What a try before this one has left would be refused as busy.
    echo 1 >"$SYS/block/zram0/reset"
    echo lz4 >"$SYS/block/zram0/comp_algorithm" || note upper "zram without lz4"
    echo "$UPPER_BYTES" >"$SYS/block/zram0/disksize" || return 1
    format_btrfs "$DEV/zram0" || return 1
    mount -t btrfs -o "$UPPER_OPTIONS" "$DEV/zram0" "$RAMOS_UPPER_DIR" || return 1
    chmod 700 "$RAMOS_UPPER_DIR" || return 1
    mkdir -p "$RAMOS_UPPER_DIR/snapshots"
} 2>>"$RAMOS_RUN_DIR/mount.log" >&2

# format_btrfs DEVICE: the end of it is for saves alone. With nodes of 16 KiB the reserves of btrfs
# take most of its first metadata, and room that `rm` makes can be used half a minute later only
format_btrfs() {
    mkfs.btrfs -q -f -K -d single -m single -n 8192 -L ramos-upper \
        -b $(((UPPER_KIB / 4 * 4 - RAMOS_UPPER_RESERVE_MIB * 1024) * 1024)) "$1"
}

# make_tmpfs_upper: noatime, for mksquashfs knows two names of one symlink by all that lstat says, and
# its own reading of the first one would change that
make_tmpfs_upper() {
    mount -t tmpfs -o "noatime,mode=700,size=${UPPER_KIB}k" ramos-upper "$RAMOS_UPPER_DIR"
} 2>>"$RAMOS_RUN_DIR/mount.log"
