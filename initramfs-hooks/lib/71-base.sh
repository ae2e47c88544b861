# The base images: rootfs, modules of this kernel, firmware. There are no others to step back to,
# so a wrong digest is told loudly and the image is used all the same, as long as it mounts.
# shellcheck shell=dash disable=SC2034,SC2153

KERNEL=""
BASE_LOWER=""
BASE_ROOT=""
BASE_BYTES=0
TORAM=no
FIRMWARE_NAME=""
MODULES_NAME=""

# provide_base: BASE_LOWER = modules:firmware:rootfs, those that there are
provide_base() {
    read -r KERNEL <"$PROC/sys/kernel/osrelease"
    BASE_LOWER=""
    BASE_BYTES=0
    TORAM=$ASKED_TORAM
    [ "$TORAM" != now ] || check_toram
    provide_image rootfs "$RAMOS_ROOTFS_IMAGE" || return 1
    BASE_ROOT=$RAMOS_RUN_DIR/rootfs
    find_firmware
    find_modules
    provide_image firmware "$FIRMWARE_NAME" || tell_missing firmware
    provide_image modules "$MODULES_NAME" ||
        warn "no modules for kernel $KERNEL: $WHY. Only the drivers that were needed to boot work"
    BASE_LOWER=${BASE_LOWER%:}
    DONE=$BASE_LOWER
}

# find_modules: MODULES_NAME = the image of the directory that GRUB took this kernel from: two builds
# of a kernel can bear the same version, and each has its own modules
find_modules() {
    local own
    MODULES_NAME=$RAMOS_MODULES_PREFIX$KERNEL.squashfs
    own=$RAMOS_MODULES_PREFIX$KERNEL_NAME.squashfs
    case $KERNEL_NAME in
    "$KERNEL"+*) [ ! -f "$RAMOS_PERSIST_DIR/$own" ] || MODULES_NAME=$own ;;
    esac
}

# find_firmware: FIRMWARE_NAME = the image that the generation names: packages that bring firmware
# make a new one under a new name, and going back brings the old one back
find_firmware() {
    local kind size verity digest name
    FIRMWARE_NAME=$RAMOS_FIRMWARE_IMAGE
    while read -r kind size verity digest name; do
        if [ "$kind" = firmware ] && [ -f "$RAMOS_PERSIST_DIR/$name" ]; then
            FIRMWARE_NAME=$name
        fi
    done <<END
$GEN_FILES
END
}

# tell_missing KIND: firmware is optional, unless the generation was made with it
tell_missing() {
    case $GEN_FILES in
    *"$1 "*) warn "no $1: $WHY" ;;
    esac
}

# provide_image KIND NAME: mounted at /run/ramos/KIND, from RAM with ramos.toram=now
provide_image() {
    local path place
    path=$RAMOS_PERSIST_DIR/$2
    place=$RAMOS_RUN_DIR/$1
    if [ ! -f "$path" ]; then
        WHY="$2 is missing on $PERSIST_NODE"
        return 1
    fi
    check_image "$2" "$path"
    if [ "$TORAM" = now ]; then
        copy_to_ram "$path" "$2" && path=$RAMOS_RUN_DIR/ram/$2
    fi
    if ! mount_image "$path" "$place"; then
        WHY="$2 cannot be mounted"
        return 1
    fi
    BASE_LOWER="$place:$BASE_LOWER"
    BASE_BYTES=$((BASE_BYTES + $(stat -c %s "$path")))
}

# check_image NAME PATH: against the generation that is about to boot, if it names it
check_image() {
    local kind size verity digest name
    while read -r kind size verity digest name; do
        [ "$name" = "$1" ] || continue
        verify_file "$2" "$size" "$verity" "$digest" unsealed-is-fine ||
            warn "$WHY; it is used, since there is no other"
    done <<END
$GEN_FILES
END
}

# mount_image PATH PLACE: a squashfs; a failed read is tried again. Beside the overlay, which takes no
# notice of these options, nobody becomes another user by what lies in it
mount_image() {
    local try
    mkdir -p "$2"
    try=1
    until mount -t squashfs -o ro,nosuid,nodev,loop "$1" "$2" 2>>"$RAMOS_RUN_DIR/mount.log"; do
        [ "$try" -lt "$READ_TRIES" ] || return 1
        drop_caches
        try=$((try + 1))
    done
}

# check_toram: only if at least half of the memory that is free now stays free
check_toram() {
    local path bytes size
    bytes=0
    find_firmware
    find_modules
    for path in "$RAMOS_ROOTFS_IMAGE" "$FIRMWARE_NAME" "$MODULES_NAME"; do
        size=$(stat -c %s "$RAMOS_PERSIST_DIR/$path" 2>/dev/null) && bytes=$((bytes + size))
    done
    read_memory
    if [ $((bytes / 1024)) -gt $((FREE_KIB / 2)) ]; then
        warn "ramos.toram=now: $((bytes >> 20)) MiB do not fit into RAM with $((FREE_KIB >> 10)) MiB free; the stick must stay"
        TORAM=no
    fi
}

# copy_to_ram PATH NAME: a copy in /run/ramos/ram; what does not succeed leaves nothing behind
copy_to_ram() {
    local ram size try
    ram=$RAMOS_RUN_DIR/ram
    mount_ram "$ram"
    size=$(stat -c %s "$1" 2>/dev/null)
    try=1
    while [ "$try" -le "$READ_TRIES" ]; do
        copy_file "$2" "${size:-0}" "$ram/$2" 2>>"$RAMOS_RUN_DIR/mount.log" 3<"$1" && return 0
        note "$STEP" "$2 could not be read, trying again"
        rm -f "$ram/$2"
        drop_caches
        try=$((try + 1))
    done
    WHY="$2 cannot be read"
    return 1
}

# copy_file NAME BYTES COPY: of file 3
copy_file() {
    local status
    status=0
    follow_file "$1" "$2"
    cat <&3 >"$3" || status=$?
    unfollow_file
    return "$status"
}

# mount_ram DIRECTORY: what may be copied is decided before, so it has no limit. A ramfs is never
# swapped, to the stick least of all
mount_ram() {
    [ ! -d "$1" ] || return 0
    mkdir -p "$1"
    mount -t ramfs -o mode=700 ram "$1"
}

# read_memory: TOTAL_KIB and FREE_KIB of the machine
read_memory() {
    local key value
    while read -r key value rest; do
        case $key in
        MemTotal:) TOTAL_KIB=$value ;;
        MemAvailable:)
            FREE_KIB=$value
            break
            ;;
        esac
    done <"$PROC/meminfo"
}
