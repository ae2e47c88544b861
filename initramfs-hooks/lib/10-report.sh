# Telling what happens: the boot log, the console, and what the user is greeted with at login. Values
# that a verb hands back stand in globals: a $(...) costs a fork.
# shellcheck shell=dash disable=SC2034,SC2153

PROC=/proc
SYS=/sys
DEV=/dev
NEWROOT=/newroot
STEP=start
WHY=""
DONE=""
SKIPPED=""
WARNINGS=""
PLAIN=""
NOW_CS=0

# read_clock: NOW_CS = the uptime in hundredths of a second
read_clock() {
    local up rest
    read -r up rest <"$PROC/uptime"
    NOW_CS=${up%.*}${up#*.}
    while [ "$NOW_CS" != "${NOW_CS#0}" ] && [ ${#NOW_CS} -gt 1 ]; do
        NOW_CS=${NOW_CS#0}
    done
}

# make_plain TEXT: PLAIN = the same with ? for each byte that could upset a terminal or a line: what
# a label, a file or a parameter is called is not ours
make_plain() {
    PLAIN=$(printf '%s' "$1" | tr -c ' -~' '?')
}

# note STEP TEXT: one line of the boot log
note() {
    local up rest
    PLAIN=$2
    case $2 in *[!\ -~]*) make_plain "$2" ;; esac
    read -r up rest <"$PROC/uptime"
    printf '%s %s %s\n' "$up" "$1" "$PLAIN" >>"$RAMOS_BOOT_LOG"
    ! shows_details || draw '%s %s %s\n' "$up" "$1" "$PLAIN"
}

# say TEXT: tell it in the log, and on a console that is not the screen
say() {
    make_plain "$1"
    [ "$SAYS_ON_SCREEN" = 1 ] || printf 'RAMOS: %s\n' "$PLAIN"
    note "$STEP" "$PLAIN"
}

# warn TEXT: say it, on the screen too, and keep it for the login greeting
warn() {
    say "$1"
    show_text "$PLAIN"
    WARNINGS="$WARNINGS$PLAIN
"
}

# skip_generation NUMBER REASON: it is not what boots; say so and keep it for /run/ramos/boot
skip_generation() {
    local number
    number=$1
    while [ ${#number} -lt 6 ]; do
        number=0$number
    done
    case $SKIPPED in
    *"$number "*) return 0 ;;
    esac
    say "generation $number is skipped: $2"
    SKIPPED="$SKIPPED$number ${PLAIN#*: }
"
}

# run_step NAME VERB: do one step; one that fails opens a shell that says why, then is tried again.
# A kernel on trial restarts in place of the shell, so that nobody has to be there for it to go.
run_step() {
    STEP=$1
    DONE=""
    WHY=""
    [ "$BREAK" != "$1" ] || open_shell "ramos.break=$1 was given"
    begin_step "$1"
    until "$2"; do
        [ "$TRIAL" = 0 ] || give_up_trial "${WHY:-$1 failed}"
        open_shell "${WHY:-$1 failed}"
        DONE=""
        WHY=""
    done
    end_step " ok "
    note "$1" "${DONE:-done}"
}

# write_greeting: what /etc/profile.d/ramos.sh shows at login, only when there is something to say
write_greeting() {
    local number reason
    [ -n "$SKIPPED$WARNINGS" ] || return 0
    {
        printf '%s' "$SKIPPED" | while read -r number reason; do
            echo "RAMOS skipped generation $number: $reason"
        done
        printf '%s' "$WARNINGS" | sed 's/^/RAMOS: /'
        case $MODE in
        clean) echo "RAMOS runs clean: nothing that was saved is loaded, and nothing will be saved." ;;
        *) echo "RAMOS runs generation $GEN_NUMBER. See: ramos status, ramos log" ;;
        esac
    } >"$RAMOS_RUN_DIR/motd"
}
