# Opening a persist that is encrypted: the passphrase is asked for on every console at once, three
# times, and then there is a shell instead of a dead end.
# shellcheck shell=dash disable=SC2034,SC2153

LUKS=0
LUKS_UUID=""
LUKS_NAME=ramos-persist
TRIES=3
PASSPHRASE=""

# unlock_persist: nothing to do where persist is plain
unlock_persist() {
    local try
    DONE="not encrypted"
    [ "$PERSIST_TYPE" = luks ] || return 0
    LUKS=1
    load_list luks
    load_keyboards
    stop_guard
    stop_keys
    draw '\033[?25h'
    try=1
    while [ "$try" -le "$TRIES" ]; do
        ask_passphrase "Passphrase for $PERSIST_NODE ($try of $TRIES): "
        if open_luks "$PERSIST_NODE"; then
            PASSPHRASE=""
            start_guard
            draw '\033[?25l'
            start_keys
            take_opened
            return
        fi
        echo "That did not open it." | tell_consoles
        try=$((try + 1))
    done
    WHY="$PERSIST_NODE could not be unlocked in $TRIES tries"
    PASSPHRASE=""
    return 1
}

open_luks() {
    printf '%s' "$PASSPHRASE" |
        DM_DISABLE_UDEV=1 cryptsetup open --type luks --key-file=- "$1" "$LUKS_NAME" \
            2>>"$RAMOS_RUN_DIR/cryptsetup.log"
}

# take_opened: persist is what is inside; its own UUID counts from here on
take_opened() {
    PERSIST_NODE=$DEV/mapper/$LUKS_NAME
    probe_device "$PERSIST_NODE"
    if [ "$FOUND_TYPE" != ext4 ]; then
        WHY="there is no ext4 file system inside the encrypted partition"
        cryptsetup close "$LUKS_NAME"
        PERSIST_NODE=$DEV/$PERSIST_NAME
        return 1
    fi
    PERSIST_TYPE=ext4
    PERSIST_STATE=$FOUND_STATE
    LUKS_UUID=$PERSIST_UUID
    PERSIST_UUID=$(write_uuid "$FOUND_UUID")
    DONE="unlocked"
}

# ask_passphrase PROMPT: PASSPHRASE = the first line typed on any console
ask_passphrase() {
    local answers names name readers
    answers=$RAMOS_RUN_DIR/answers
    rm -f "$answers"
    mkfifo -m 600 "$answers"
    names=console
    [ ! -r "$SYS/class/tty/console/active" ] || read -r names <"$SYS/class/tty/console/active"
    readers=""
    for name in $names; do
        ask_console "$DEV/$name" "$1" "$answers" &
        readers="$readers $!"
    done
    IFS= read -r PASSPHRASE <"$answers"
    # shellcheck disable=SC2086  # a list of process ids
    kill $readers 2>/dev/null
    rm -f "$answers"
    for name in $names; do
        stty echo <"$DEV/$name"
        echo >"$DEV/$name"
    done 2>/dev/null
}

# ask_console TTY PROMPT FIFO: a console that hangs up is asked again, until another one answers
ask_console() {
    local answer
    stty -echo <"$1"
    printf '%s' "$2" >"$1"
    until IFS= read -r answer <"$1"; do
        sleep "$ROUND_SECONDS"
    done
    printf '%s\n' "$answer" >"$3"
} 2>/dev/null
