# The saved layers, put below the upper in one of three ways; and the way down when one is damaged.
# shellcheck shell=dash disable=SC2034,SC2153

LAYER_LOWER=""
LAYER_TOP=""
LAYER_COUNT=0
LAYER_BYTES=0
RESTORE_USED=none

# provide_layers: from the generation picked, down the ladder, until one is whole
provide_layers() {
    LAYER_LOWER=""
    LAYER_COUNT=0
    RESTORE_USED=none
    # With everything else in RAM, layers on the stick would make it stay.
    [ "$TORAM:$RESTORE" != now:mount ] || RESTORE=ram
    while [ "$LAYOUT" = generations ]; do
        provide_generation && break
        drop_layers
        skip_generation "$GEN_NUMBER" "$WHY"
        step_down || warn "no saved generation is whole: this is a clean boot"
    done
    [ "$LAYOUT" != generations ] || keep_generation
    [ "$LAYOUT" != old ] || provide_old
    DONE="generation $GEN_NUMBER, layers: $LAYER_COUNT, $RESTORE_USED"
}

# keep_generation: a copy of its file, for a save that finds it lost
keep_generation() {
    local path
    path=$RAMOS_PERSIST_DIR/$RAMOS_GENERATIONS_DIR/$(printf %06d "$GEN_NUMBER")
    cp "$path" "$RAMOS_GENERATION_COPY" 2>/dev/null || note layers "no copy of generation $GEN_NUMBER"
}

# provide_generation: verify all that GEN_FILES names of the saved files, then put the layers up
provide_generation() {
    local kind size verity digest path paths bytes
    paths=""
    bytes=0
    while read -r kind size verity digest path; do
        case $kind in
        layer | acl) paths="$paths $RAMOS_PERSIST_DIR/$path" ;;
        esac
        [ "$kind" != layer ] || bytes=$((bytes + size))
    done <<END
$GEN_FILES
END
    [ -n "$paths" ] || return 0
    # shellcheck disable=SC2086  # a list of paths, which hold no spaces
    measure_files $paths
    while read -r kind size verity digest path; do
        case $kind in
        layer | acl) verify_file "$RAMOS_PERSIST_DIR/$path" "$size" "$verity" "$digest" || return 1 ;;
        esac
    done <<END
$GEN_FILES
END
    put_up_layers "$bytes"
}

# put_up_layers BYTES: all in one way; when RAM does not do, they are mounted from the stick
put_up_layers() {
    local way
    way=$RESTORE
    if [ "$way" = ram ]; then
        read_memory
        if [ $(($1 / 1024)) -gt $((FREE_KIB / 4)) ]; then
            say "layers of $(($1 >> 20)) MiB do not fit into a quarter of the free RAM: mounted from the stick"
            way=mount
        fi
    fi
    try_way "$way" && return 0
    [ "$way" != mount ] || return 1
    drop_layers
    warn "ramos.restore=$way did not work ($WHY); the layers are mounted from the stick"
    try_way mount
}

# try_way WAY: every layer of GEN_FILES, bottom first
try_way() {
    local kind size verity digest path
    LAYER_LOWER=""
    LAYER_COUNT=0
    LAYER_BYTES=0
    RESTORE_USED=$1
    while read -r kind size verity digest path; do
        [ "$kind" = layer ] || continue
        put_up_layer "$1" "$RAMOS_PERSIST_DIR/$path" || return 1
    done <<END
$GEN_FILES
END
}

# put_up_layer WAY PATH: as /run/ramos/layers/NN
put_up_layer() {
    local place number
    number=$((LAYER_COUNT + 1))
    [ "$number" -gt 9 ] || number=0$number
    place=$RAMOS_STACK_DIR/$number
    case $1 in
    ram) copy_to_ram "$2" "layer-$number" && mount_layer "$RAMOS_RUN_DIR/ram/layer-$number" "$place" ;;
    mount) mount_layer "$2" "$place" && LAYER_BYTES=$((LAYER_BYTES + $(stat -c %s "$2"))) ;;
    unpack) unpack_layer "$2" "$place" ;;
    esac || return 1
    LAYER_COUNT=$((LAYER_COUNT + 1))
    LAYER_LOWER=$place:$LAYER_LOWER
    LAYER_TOP=$place
}

mount_layer() {
    mount_image "$1" "$2" && return 0
    WHY="${1##*/} cannot be mounted"
    return 1
}

# unpack_layer PATH PLACE: into the upper's file system, since a tmpfs of kernel 6.1 cannot hold
# user.* xattrs, and after the first one that fails unsquashfs leaves all others out too. Any exit
# status but 0 is a failed restore.
unpack_layer() {
    local target
    make_upper || return 1
    target=$RAMOS_UPPER_DIR/layers/${2##*/}
    mkdir -p "$RAMOS_UPPER_DIR/layers" "$2"
    if ! unsquashfs -no-progress -quiet -dest "$target" "$1" >>"$RAMOS_RUN_DIR/unsquashfs.log" 2>&1; then
        WHY="${1##*/} cannot be unpacked"
        return 1
    fi
    mount -o bind "$target" "$2"
}

# drop_layers: nothing of a generation that failed stays
drop_layers() {
    local place
    for place in "$RAMOS_STACK_DIR"/*; do
        [ -d "$place" ] || continue
        umount "$place" 2>/dev/null
        rmdir "$place"
    done
    rm -f "$RAMOS_RUN_DIR"/ram/layer-*
    rm -rf "$RAMOS_UPPER_DIR/layers"
    LAYER_LOWER=""
    LAYER_COUNT=0
    LAYER_BYTES=0
    RESTORE_USED=none
}

# provide_old: a stick laid out by hand: upperfs.squashfs, else upperfs-backup.squashfs, else clean
provide_old() {
    local name bytes
    for name in "$RAMOS_OLD_DEFAULT" "$RAMOS_OLD_BACKUP"; do
        [ "$ASKED_MODE:$name" != "backup:$RAMOS_OLD_DEFAULT" ] || continue
        if [ ! -f "$RAMOS_PERSIST_DIR/$name" ]; then
            WHY="$name is missing"
            continue
        fi
        bytes=$(stat -c %s "$RAMOS_PERSIST_DIR/$name")
        GEN_FILES="layer $bytes - - $name
"
        put_up_layers "$bytes" && return 0
        drop_layers
        warn "$name is skipped: $WHY"
    done
    GEN_FILES=""
    LAYOUT=none
    MODE=clean
    warn "no saved state is whole: this is a clean boot"
}
