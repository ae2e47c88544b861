# The guard of a kernel on trial: a machine that hangs is restarted with nobody there.
#
# It is a shell of its own, which outlives switch_root; there is no program for it to call then, so
# everything that it needs is open before, and all it does is built into the shell. It feeds the
# watchdog of the machine, if there is one, for as long as the boot may take: a kernel that stands
# still is restarted by the hardware, and one whose system does not come up by the guard itself.
# A word in its pipe sends it away: `ramos boot confirm` writes one, and whoever waits for a person.
# shellcheck shell=dash disable=SC2034,SC2153,SC3045

GUARD_SECONDS=900
# Watchdogs bite after 30 seconds or more.
FEED_SECONDS=5
GUARD=""

# start_guard: only for a kernel on trial
start_guard() {
    [ "$TRIAL" = 1 ] || return 0
    # Before init runs nothing waits that long; later a slow stick may make a healthy task do so.
    echo 0 >"$PROC/sys/kernel/hung_task_panic"
    load_list watchdog
    rm -f "$RAMOS_GUARD_PIPE"
    mkfifo -m 600 "$RAMOS_GUARD_PIPE"
    open_guard &
    GUARD=$!
} 2>/dev/null

# stop_guard: nobody can tell how long what comes now takes
stop_guard() {
    [ -n "$GUARD" ] || return 0
    echo stop >"$RAMOS_GUARD_PIPE"
    wait "$GUARD"
    GUARD=""
}

# open_guard: with a pipe on 3, the kernel's log on 4, its restart on 5, the watchdog on 6
open_guard() {
    trap leave_guard TERM
    if [ -c "$DEV/watchdog" ]; then
        watch_boot 3<>"$RAMOS_GUARD_PIPE" 4>"$DEV/kmsg" 5>"$PROC/sysrq-trigger" 6>"$DEV/watchdog"
    else
        watch_boot 3<>"$RAMOS_GUARD_PIPE" 4>"$DEV/kmsg" 5>"$PROC/sysrq-trigger" 6>/dev/null
    fi
}

# watch_boot: until the time is up or a word comes
watch_boot() {
    local left word
    left=$GUARD_SECONDS
    while [ "$left" -gt 0 ]; do
        echo >&6
        ! read -r -t "$FEED_SECONDS" word <&3 || leave_guard
        left=$((left - FEED_SECONDS))
    done
    echo "<2>RAMOS: this kernel is on trial, and did not come up within $GUARD_SECONDS s: restart" >&4
    echo s >&5
    read -r -t "$FEED_SECONDS" word <&3
    echo b >&5
}

# leave_guard: the letter tells the watchdog that this is no accident
leave_guard() {
    printf V >&6
    exit 0
}
