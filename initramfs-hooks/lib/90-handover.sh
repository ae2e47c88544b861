# The overlay, what the running system wants to know about its boot, and the handover.
# shellcheck shell=dash disable=SC2034,SC2153

OVERLAY_OPTIONS=redirect_dir=nofollow,metacopy=off,index=off,volatile

# mount_overlay: an empty upper over the layers over the base images
mount_overlay() {
    local top lower
    lower=$LAYER_LOWER$BASE_LOWER
    top=$BASE_ROOT
    [ "$LAYER_COUNT" = 0 ] || top=$LAYER_TOP
    rm -rf "$RAMOS_UPPER_DIR/upper" "$RAMOS_UPPER_DIR/work"
    mkdir -p "$RAMOS_UPPER_DIR/upper" "$RAMOS_UPPER_DIR/work" "$NEWROOT"
    copy_root_attributes "$top" "$RAMOS_UPPER_DIR/upper"
    # What lies in a layer may have been taken from its user since, and an unpacked one can be written.
    [ ! -d "$RAMOS_STACK_DIR" ] || chmod 700 "$RAMOS_STACK_DIR"
    if ! mount -t overlay -o "lowerdir=$lower,upperdir=$RAMOS_UPPER_DIR/upper,workdir=$RAMOS_UPPER_DIR/work,$OVERLAY_OPTIONS" \
        ramos "$NEWROOT" 2>>"$RAMOS_RUN_DIR/mount.log"; then
        WHY="the overlay cannot be mounted over $lower"
        return 1
    fi
    DONE=$lower
}

# copy_root_attributes FROM TO: the root directory that people see is the upper's, so it must look
# like the one below it
copy_root_attributes() {
    chmod "$(stat -c %a "$1")" "$2"
    chown "$(stat -c %u:%g "$1")" "$2"
    touch -r "$1" "$2"
}

# prepare_root: all that must stand in the new root before its init runs
prepare_root() {
    local name
    if [ ! -e "$NEWROOT$REAL_INIT" ] && [ ! -L "$NEWROOT$REAL_INIT" ]; then
        WHY="there is no $REAL_INIT in the system"
        return 1
    fi
    for name in proc sys dev run "${RAMOS_PERSIST_DIR#/}"; do
        [ -d "$NEWROOT/$name" ] || mkdir -p "$NEWROOT/$name"
    done
    [ ! -d "$RAMOS_RUN_DIR/ram" ] || mount -o remount,ro "$RAMOS_RUN_DIR/ram"
    release_persist
    write_boot_file
    write_greeting
}

# release_persist: with everything in RAM the stick can be pulled out
release_persist() {
    [ "$TORAM" = now ] || return 0
    if [ "$RESTORE_USED" != mount ] && umount "$RAMOS_PERSIST_DIR"; then
        [ "$LUKS" = 0 ] || cryptsetup close "$LUKS_NAME"
        : >"$RAMOS_IN_RAM_FILE"
        say "everything is in RAM: the stick can be pulled out"
        return 0
    fi
    TORAM=no
    warn "ramos.toram=now: the stick is still in use and must stay"
}

write_boot_file() {
    local trial
    # GRUB counts each boot of the newest generation as an attempt, and names any other one.
    trial=0
    case $MODE:$ASKED_GENERATION:$SKIPPED in
    default::) [ "$GEN_NUMBER" = 0 ] || trial=1 ;;
    esac
    {
        echo "mode=$MODE"
        echo "asked_mode=$ASKED_MODE"
        echo "generation=$GEN_NUMBER"
        echo "kernel=$KERNEL"
        echo "persist=$PERSIST_NODE"
        echo "persist_uuid=$PERSIST_UUID"
        echo "esp_uuid=$ESP_UUID"
        echo "luks=$LUKS"
        echo "luks_uuid=$LUKS_UUID"
        echo "disk_sequence=$DISK_SEQUENCE"
        echo "proof_number=$PROOF_NUMBER"
        echo "proof_end=$PROOF_END"
        echo "upper=$UPPER_MADE"
        echo "upper_bytes=$UPPER_BYTES"
        echo "restore=$RESTORE_USED"
        echo "asked_toram=$ASKED_TORAM"
        echo "toram=$TORAM"
        echo "trial=$trial"
        printf '%s' "$SKIPPED" | sed 's/^/skipped=/'
        printf '%s' "$WARNINGS" | sed 's/^/warning=/'
    } >"$RAMOS_BOOT_FILE"
}

# start_system: move what is mounted, and become the real init
start_system() {
    local name
    say "$MODE, generation $GEN_NUMBER, kernel $KERNEL"
    note switch_root "$REAL_INIT"
    draw '\n  Starting the system: %s, generation %s\n' "$MODE" "$GEN_NUMBER"
    close_screen
    [ "$TORAM" = now ] || mount -o move "$RAMOS_PERSIST_DIR" "$NEWROOT$RAMOS_PERSIST_DIR"
    for name in dev sys run proc; do
        mount -o move "/$name" "$NEWROOT/$name"
    done
    exec switch_root -c /dev/console "$NEWROOT" "$REAL_INIT"
}
