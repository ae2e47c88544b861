# What a boot that failed tells, on every console: the cause, a code of it with the versions for a
# phone, and beside that what to do, in no more than 25 lines of 80 columns; then the shell of last resort, or the restart of a kernel on trial.
# shellcheck shell=dash disable=SC2034,SC2153

CODER=/lib/ramos/code.awk
CONSOLE=console
ROUND_SECONDS=1
TRIAL_SECONDS=10
HINT=""

# open_shell REASON: on the console; leaving it goes on with the boot
open_shell() {
    local reason
    make_plain "$1"
    reason=$PLAIN
    note "$STEP" "shell: $reason"
    end_step FAIL
    close_screen
    load_keyboards
    busybox --install -s 2>/dev/null
    tell_failure "$reason" tell_way_out | tell_consoles
    find_console
    setsid -c sh -l <>"$DEV/$CONSOLE" >&0 2>&1
    sleep "$ROUND_SECONDS"
}

# find_console: CONSOLE = the terminal behind /dev/console, where a shell has job control
find_console() {
    CONSOLE=console
    read -r CONSOLE <"$SYS/class/tty/console/active"
    CONSOLE=${CONSOLE##* }
    [ "$CONSOLE" != tty0 ] || read -r CONSOLE <"$SYS/class/tty/tty0/active"
} 2>/dev/null

# give_up_trial REASON: GRUB has counted this attempt, and takes the good kernel after the last one
give_up_trial() {
    local reason
    make_plain "$1"
    reason=$PLAIN
    note "$STEP" "restart: $reason"
    end_step FAIL
    close_screen
    tell_failure "$reason" tell_restart | tell_consoles
    sleep "$TRIAL_SECONDS"
    reboot -f
}

# tell_failure REASON VERB: the reason, a code of it, and beside that what the verb says; where a
# parameter asks for the shell nothing has failed
tell_failure() {
    printf "\nRAMOS stopped at step '%s': %s\n\n" "$STEP" "$1"
    case $1 in
    ramos.break=*) "$2" ;;
    *) draw_code "$1" "$2" || "$2" ;;
    esac
}

# find_hint STEP: HINT = what a person can do where it fails
find_hint() {
    HINT=""
    case $1 in
    drivers) HINT="'Older kernels' in the boot menu may know this machine." ;;
    persist) HINT="Put the stick into another port of the machine itself, then type exit." ;;
    unlock) HINT="Mind Caps Lock and the keyboard layout; exit gives three more tries." ;;
    mount) HINT="The stick may be failing: copy all of it before it is written again." ;;
    base) HINT="The stick may be failing: look at its files on another machine." ;;
    upper) HINT="Try ramos.upper=tmpfs: the key e in the boot menu takes it." ;;
    layers | overlay | handover) HINT="'RAMOS (clean)' in the boot menu starts without what was saved." ;;
    esac
}

# draw_code REASON VERB: step, reason and versions, and nothing else of this machine
draw_code() {
    local release
    release=unknown
    read -r release <"$PROC/sys/kernel/osrelease"
    {
        printf 'RAMOS %s, Linux %s, generation %s\n' "$RAMOS_VERSION" "$release" "$GEN_NUMBER"
        printf '%s: %s\n\n' "$STEP" "$1"
        echo "A phone can read this code: it says"
        echo "what failed, and the versions."
        echo
        find_hint "$STEP"
        printf '%s\n' "$HINT" | fold -s -w 37
        echo
        "$2"
    } | awk -f "$CODER"
} 2>/dev/null

# tell_way_out: in 37 columns, as the following
tell_way_out() {
    echo "The boot so far:"
    echo "  cat $RAMOS_BOOT_LOG"
    echo "exit          tries this step again"
    echo "reboot -f     starts over: another"
    echo "              entry may work"
    echo "poweroff -f   switches off"
}

tell_restart() {
    echo "This kernel is on trial."
    echo "The machine restarts in $TRIAL_SECONDS s, and after"
    echo "the last try the old kernel is back."
    echo "To look around, pick this kernel from"
    echo "'Older kernels' in the boot menu."
}

# tell_consoles: standard input to every console there is, not only to the last one named
tell_consoles() {
    local text names name
    text=$(cat)
    names=console
    read -r names <"$SYS/class/tty/console/active"
    for name in $names; do
        printf '%s\n' "$text" >>"$DEV/$name"
    done
} 2>/dev/null
