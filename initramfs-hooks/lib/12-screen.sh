# The screen from the menu to the login: a line for each step that takes time, and how far it is. Esc,
# or ramos.verbose, shows the lines of the boot log in their place. The serial line has what is said,
# and the log has all.
# shellcheck shell=dash disable=SC2034,SC2153,SC3045

# The terminal that is drawn on; empty before, after, and where there is none.
SCREEN=""
SAYS_ON_SCREEN=0
VERBOSE=0
WORDS=""
WATCHER=""
FOLLOWER=""
# Keyboards have no drivers before: a boot that is over by then needs none.
KEYS_SECONDS=2
FOLLOW_SECONDS=1
FOLLOWED_BYTES=16777216
ESCAPE=$(printf '\033')

# open_screen: where a kernel with a screen is; what is said on the console is not said on it twice
open_screen() {
    [ -e "$DEV/tty0" ] || return 0
    SCREEN=$DEV/tty0
    find_console
    case $CONSOLE in
    tty[0-9]*) SAYS_ON_SCREEN=1 ;;
    esac
    draw '\033[?25l\033[2J\033[H\n  \033[1mRAMOS\033[0m\n\n'
    [ "$VERBOSE" = 0 ] || show_details
    start_keys
}

# close_screen: for whoever draws on it next; it has a cursor again
close_screen() {
    [ -n "$SCREEN" ] || return 0
    stop_keys
    [ -z "$WORDS" ] || draw '\n'
    draw '\033[?25h'
    # The kernel gives it to no other terminal by itself: the menu has told it so.
    echo 1 >"$SYS/module/vt/parameters/global_cursor_default"
    rm -f "$RAMOS_RUN_DIR/details"
    SCREEN=""
    SAYS_ON_SCREEN=0
} 2>/dev/null

# draw FORMAT [TEXT...]
draw() {
    # shellcheck disable=SC2059  # a format, by us alone
    [ -z "$SCREEN" ] || printf "$@" >>"$SCREEN"
}

shows_details() {
    [ -e "$RAMOS_RUN_DIR/details" ]
}

# show_details: all that the log has so far; what comes later is shown by whoever notes it
show_details() {
    : >"$RAMOS_RUN_DIR/details"
    draw '\r\033[K'
    cat "$RAMOS_BOOT_LOG" >>"$SCREEN"
}

# begin_step NAME
begin_step() {
    find_words "$1"
    draw_step "    "
}

# end_step STATE
end_step() {
    draw_step "$1"
    [ -z "$WORDS" ] || shows_details || draw '\n'
    WORDS=""
}

# draw_step STATE [MORE]: on the line of the step that is done now
draw_step() {
    [ -n "$WORDS" ] || return 0
    shows_details || draw '\r\033[K  [%s]  %s%s' "$1" "$WORDS" "${2-}"
}

# show_text TEXT: above the line of the step
show_text() {
    shows_details || draw '\r\033[K          %s\n' "$1"
    draw_step "    "
}

# find_words STEP: WORDS = what a person is told of it; nothing of what takes no time
find_words() {
    WORDS=""
    case $1 in
    drivers) WORDS="Loading drivers" ;;
    persist) WORDS="Looking for the stick" ;;
    mount) WORDS="Opening it" ;;
    base)
        WORDS="Opening the programs"
        [ "$ASKED_TORAM" != now ] || WORDS="Copying the programs to RAM"
        ;;
    layers) WORDS="Adding what you have saved" ;;
    upper) WORDS="Making room for what you change" ;;
    esac
}

# start_keys: somebody may want to see more
start_keys() {
    [ -c "$SCREEN" ] && ! shows_details || return 0
    watch_keys &
    WATCHER=$!
}

# stop_keys: the next one that is typed is for somebody else
stop_keys() {
    [ -n "$WATCHER" ] || return 0
    kill "$WATCHER"
    wait "$WATCHER"
    WATCHER=""
    stty sane <"$SCREEN"
} 2>/dev/null

# watch_keys: until Esc is pressed
watch_keys() {
    local key loaded
    loaded=0
    while :; do
        key=""
        IFS= read -r -s -n 1 -t "$KEYS_SECONDS" key <"$SCREEN"
        [ "$key" != "$ESCAPE" ] || break
        [ "$loaded" = 1 ] || load_list keyboard
        loaded=1
    done
    show_details
}

# follow_file NAME BYTES: how far this shell's file 3 has been read, on the line of the step; what is
# small is over before anybody has looked
follow_file() {
    [ -n "$SCREEN" ] && [ "$2" -ge "$FOLLOWED_BYTES" ] || return 0
    # With file 3 open, it would keep persist mounted.
    draw_position "$1" "$2" 3<&- &
    FOLLOWER=$!
}

unfollow_file() {
    [ -n "$FOLLOWER" ] || return 0
    kill "$FOLLOWER"
    wait "$FOLLOWER"
    FOLLOWER=""
    draw_step "    "
} 2>/dev/null

draw_position() {
    local key at
    while sleep "$FOLLOW_SECONDS"; do
        read -r key at <"$PROC/$$/fdinfo/3" || return
        draw_step "    " ": $1, $((at / ($2 / 100))) % of $(($2 >> 20)) MiB"
    done
} 2>/dev/null
