# shellcheck shell=sh
# /etc/profile.d/ramos.sh: what a login shell of RAMOS knows more than another, and its greeting.
# Sourced by the user's own shell, so it sets nothing but PATH and leaves nothing behind.

# The tools for disks lie where Debian looks for root only.
case ":$PATH:" in
*:/usr/sbin:*) ;;
*) PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin ;;
esac

# ramos_value FILE NAME: a value out of NAME=value lines
ramos_value() { sed -n "s/^$2=//p" "$1" 2>/dev/null | head -n 1; }

# ramos_count NUMBER NOUN: "1 file", "2 files"
ramos_count() { if [ "$1" = 1 ]; then echo "1 $2"; else echo "$1 ${2}s"; fi; }

# ramos_age SECONDS: how long ago, in the largest unit of which there are two
ramos_age() {
    if [ "$1" -ge 172800 ]; then
        echo "$(($1 / 86400)) days ago"
    elif [ "$1" -ge 7200 ]; then
        echo "$(($1 / 3600)) hours ago"
    elif [ "$1" -ge 120 ]; then
        echo "$(($1 / 60)) minutes ago"
    elif [ "$1" -ge 0 ]; then
        echo "just now"
    else
        echo "by a clock that was ahead"
    fi
}

# ramos_saved_state RUN_DIR: the generation that runs, and when it was saved
ramos_saved_state() {
    local number created
    number=$(ramos_value "$1/boot" generation)
    created=$(ramos_value "$1/generation" created)
    [ "${number:-0}" != 0 ] || { echo "nothing saved is loaded" && return; }
    case $created in
    '' | *[!0-9]*) echo "generation $number" ;;
    *) echo "generation $number, saved $(ramos_age $(($(date +%s) - created)))" ;;
    esac
}

# ramos_unsaved RUN_DIR: how much of the home is newer than the last save, or than this boot
ramos_unsaved() {
    local since found
    since=$1/saved
    [ -e "$since" ] || since=$1/boot
    # A large home on a slow stick must not hold up the login.
    found=$(timeout 2 find "$HOME" -xdev ! -type d -newer "$since" 2>/dev/null && echo end)
    case $found in
    end) echo nothing ;;
    *end) ramos_count $(($(printf '%s\n' "$found" | wc -l) - 1)) file ;;
    *) echo "see 'ramos status'" ;;
    esac
}

# ramos_network: whether there is one, and how to join a Wi-Fi network
ramos_network() {
    local address wifi
    address=$(ip -4 -o addr show scope global 2>/dev/null |
        sed -n 's/^[0-9]*: *\([^ ]*\) *inet \([0-9.]*\).*/\2 on \1/p' | head -n 1)
    wifi=
    if command -v nmtui >/dev/null; then
        wifi="; 'nmtui' joins a Wi-Fi network"
    elif command -v wpa_supplicant >/dev/null; then
        wifi="; Wi-Fi: 'man ramos', under WI-FI"
    fi
    echo "Network: ${address:-none yet}$wifi."
}

# ramos_greet RUN_DIR ROOT: in words, what runs here, what is kept, and how to go on
ramos_greet() {
    local mode
    [ -r "$1/boot" ] || return 0
    mode=$(ramos_value "$1/boot" mode)
    echo "RAMOS, mode ${mode}: $(ramos_saved_state "$1")."
    if grep -qs '"swapfile": "on"' "$1/ramosd.json"; then
        echo "In RAM: not all. Memory is short, and the stick is swapped to; leave it in."
    elif [ -e "$1/in-ram" ]; then
        echo "In RAM: everything. The stick can be pulled out; a save needs it back in."
    else
        echo "In RAM: your changes. Programs are read from the stick; leave it in."
    fi
    # shellcheck disable=SC2046  # the words of a line
    set -- "$1" $(df -Pm "$2" 2>/dev/null | tail -n 1)
    echo "Unsaved in your home: $(ramos_unsaved "$1"); all changes: $4 of $3 MiB."
    case $mode in
    clean) echo "Nothing will be saved in this mode." ;;
    *) echo "'ramos commit' saves, and so does a shutdown." ;;
    esac
    ramos_network
    if command -v man >/dev/null; then
        echo "Help: 'man ramos', 'man -k ramos'; what is unsaved: 'ramos status'."
    else
        echo "Help: 'ramos --help'; what is unsaved: 'ramos status'."
    fi
    # What was skipped or repaired, and a ramosd that does not stay up.
    cat "$1/motd" "$1/ramosd.failed" 2>/dev/null || :
}

# Once a login, and only where a person looks: not for a program that runs a login shell.
case $-:${RAMOS_GREETED-} in
*i*:)
    RAMOS_GREETED=1
    export RAMOS_GREETED
    [ ! -t 1 ] || (ramos_greet /run/ramos /)
    ;;
esac
unset -f ramos_value ramos_count ramos_age ramos_saved_state ramos_unsaved ramos_network ramos_greet
