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

# ramos_saved_state: the generation that runs, and when it was saved
ramos_saved_state() {
    local number created
    number=$(ramos_value "$1/boot" generation)
    created=$(ramos_value "$1/generation" created)
    [ "${number:-0}" != 0 ] || { echo "nothing saved is loaded" && return; }
    echo "generation $number${created:+, saved $(date -d "@$created" '+%Y-%m-%d %H:%M')}"
}

# ramos_greet RUN_DIR ROOT: in words, what runs here, what is kept, and how to go on
ramos_greet() {
    local mode as_root room
    [ -r "$1/boot" ] || return 0
    as_root=$(command -v sudo >/dev/null && echo sudo || echo doas)
    mode=$(ramos_value "$1/boot" mode)
    echo "RAMOS, mode ${mode}: $(ramos_saved_state "$1")."
    if [ "$(ramos_value "$1/boot" toram)" = 1 ]; then
        echo "All of it is in RAM: the stick can be pulled out; put it back in to save."
    else
        echo "Your changes are in RAM, programs are read from the stick: leave it in."
    fi
    # shellcheck disable=SC2046  # the words of a line
    set -- "$1" $(df -Pm "$2" 2>/dev/null | tail -n 1)
    room="Changes: $4 of $3 MiB used"
    case $mode in
    clean) echo "$room; nothing will be saved in this mode." ;;
    *) echo "$room; saved at shutdown or by '$as_root ramos commit'." ;;
    esac
    command -v nmtui >/dev/null && echo "Network: 'nmtui' joins a Wi-Fi network."
    echo "Help: 'man ramos', 'ramos --help'; what is unsaved: '$as_root ramos status'."
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
unset -f ramos_value ramos_saved_state ramos_greet
