# Kernel parameters: an allow-list. What is not listed is ignored, a value that makes no sense is
# told and ignored, and nothing is ever evaluated. ramos-boot(7) has the same list; a test compares.
# shellcheck shell=dash disable=SC2034,SC2153

ASKED_MODE=default
ASKED_GENERATION=""
PERSIST_ID=""
LUKS_ID=""
UPPER_KIND=zram
UPPER_SIZE=75%
RESTORE=ram
ASKED_TORAM=later
VERIFY=fast
BREAK=""
TRIAL=0
KERNEL_NAME=""
REAL_INIT=/sbin/init

parse_parameters() {
    local line word
    line=""
    read -r line <"$PROC/cmdline"
    set -f
    for word in $line; do
        parse_parameter "$word" || warn "kernel parameter ignored: $word"
    done
    set +f
    [ -n "$PERSIST_ID" ] || PERSIST_ID=LABEL=$RAMOS_PERSIST_LABEL
    note parameters "mode=$ASKED_MODE persist=$PERSIST_ID restore=$RESTORE upper=$UPPER_KIND"
}

# parse_parameter WORD: fails where it begins like one of ours and is not
parse_parameter() {
    local value
    value=${1#*=}
    case $1 in
    ramos.mode=default | ramos.mode=backup | ramos.mode=clean) ASKED_MODE=$value ;;
    ramos.generation=*) is_number "$value" && strip_zeros "$value" && ASKED_GENERATION=$STRIPPED ;;
    ramos.persist=UUID=*) is_uuid "${value#UUID=}" && PERSIST_ID=$value ;;
    ramos.persist=LABEL=*) is_word "${value#LABEL=}" && PERSIST_ID=$value ;;
    ramos.luks=UUID=*) is_uuid "${value#UUID=}" && LUKS_ID=$value ;;
    ramos.upper=zram | ramos.upper=tmpfs) UPPER_KIND=$value ;;
    ramos.upper_size=*) is_size "$value" && UPPER_SIZE=$value ;;
    ramos.restore=ram | ramos.restore=mount | ramos.restore=unpack) RESTORE=$value ;;
    ramos.toram) ASKED_TORAM=now ;;
    ramos.toram=now | ramos.toram=later | ramos.toram=no) ASKED_TORAM=$value ;;
    ramos.verify=full | ramos.verify=fast) VERIFY=$value ;;
    ramos.break=*) is_step "$value" && BREAK=$value ;;
    ramos.verbose) VERBOSE=1 ;;
    ramos.trial) TRIAL=1 ;;
    ramos.fallback=*) is_kernel_name "$value" && tell_fallback "$value" ;;
    ramos.*) return 1 ;;
    # GRUB's own word: the directory that it took this kernel from.
    BOOT_IMAGE=*/"$RAMOS_KERNELS_DIR"/*/vmlinuz)
        value=${value%/vmlinuz}
        is_kernel_name "${value##*/}" && KERNEL_NAME=${value##*/}
        ;;
    init=/*) is_path "$value" && REAL_INIT=$value ;;
    esac
}

is_number() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
    [ ${#1} -le 9 ]
}

is_uuid() {
    case $1 in
    '' | *[!0-9A-Fa-f-]*) return 1 ;;
    esac
    [ ${#1} -eq 36 ]
}

is_word() {
    case $1 in
    '' | *[!A-Za-z0-9._-]*) return 1 ;;
    esac
    [ ${#1} -le 16 ]
}

is_kernel_name() {
    case $1 in
    '' | [!A-Za-z0-9_]* | *[!A-Za-z0-9._+~-]*) return 1 ;;
    esac
    [ ${#1} -le 100 ]
}

# tell_fallback NAME: GRUB has given up a kernel that was on trial
tell_fallback() {
    warn "the new kernel $1 was given up: it did not come up when it was tried, or it is damaged"
}

is_path() {
    case $1 in
    *[!A-Za-z0-9._/-]*) return 1 ;;
    esac
}

# is_size TEXT: 1% to 100%, or a number of MiB or GiB
is_size() {
    local number
    number=${1%[%MG]}
    [ "$number" != "$1" ] && is_number "$number" || return 1
    strip_zeros "$number"
    case $1 in
    *%) [ "$STRIPPED" -ge 1 ] && [ "$STRIPPED" -le 100 ] ;;
    *) [ "$STRIPPED" -ge 1 ] && [ ${#STRIPPED} -le 6 ] ;;
    esac
}

is_step() {
    case $1 in
    drivers | persist | unlock | mount | generation | base | layers | upper | overlay | handover) ;;
    *) return 1 ;;
    esac
}

# strip_zeros DIGITS: STRIPPED = the same number without leading zeros (sh would read octal)
strip_zeros() {
    STRIPPED=$1
    while [ ${#STRIPPED} -gt 1 ] && [ "$STRIPPED" != "${STRIPPED#0}" ]; do
        STRIPPED=${STRIPPED#0}
    done
}
