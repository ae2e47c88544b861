# Whether the bytes on the stick are the bytes that were saved. fs-verity answers without reading
# the file (from then on the kernel checks every block that is read); where a file is not sealed,
# and with ramos.verify=full, its sha256 is computed.
# shellcheck shell=dash disable=SC2034,SC2153

READ_TRIES=3
MEASURED=""
SUM=""

# measure_files PATH...: MEASURED = "DIGEST PATH" lines of those that are sealed, in one process
measure_files() {
    MEASURED=$(fsverity measure "$@" 2>/dev/null | sed 's/^sha256://')
}

# find_measure PATH: MEASURE = its fs-verity digest, or nothing where it is not sealed
find_measure() {
    local digest path
    MEASURE=""
    while read -r digest path; do
        [ "$path" != "$1" ] || MEASURE=$digest
    done <<END
$MEASURED
END
    [ -z "$MEASURE" ] || return 0
    MEASURE=$(fsverity measure "$1" 2>/dev/null)
    MEASURE=${MEASURE#sha256:}
    MEASURE=${MEASURE%% *}
}

# verify_file PATH SIZE VERITY SHA256 [unsealed-is-fine]: fails with the reason in WHY
verify_file() {
    local size
    if [ ! -f "$1" ]; then
        WHY="${1##*/} is missing"
        return 1
    fi
    size=$(stat -c %s "$1")
    if [ "$size" != "$2" ]; then
        WHY="${1##*/} has $size bytes instead of $2"
        return 1
    fi
    MEASURE=""
    [ "$3" = - ] || find_measure "$1"
    if [ -n "$MEASURE" ] && [ "$MEASURE" != "$3" ]; then
        WHY="${1##*/} is not the file that was saved (fs-verity)"
        return 1
    fi
    if [ "$VERIFY" != full ]; then
        [ -z "$MEASURE" ] && [ -z "${5-}" ] || return 0
    fi
    verify_sum "$1" "$4"
}

# verify_sum PATH SHA256: a read that fails, or a sum that differs, is tried again past the cache
verify_sum() {
    local size try
    size=$(stat -c %s "$1" 2>/dev/null)
    try=1
    while [ "$try" -le "$READ_TRIES" ]; do
        SUM=""
        sum_file "${1##*/}" "${size:-0}" 3<"$1"
        [ "$SUM" != "$2" ] || return 0
        note "$STEP" "${1##*/}: checksum differs, reading it again"
        drop_caches
        try=$((try + 1))
    done
    WHY="${1##*/} is damaged (sha256)"
    return 1
}

# sum_file NAME BYTES: SUM = the sha256 of file 3
sum_file() {
    follow_file "$1" "$2"
    SUM=$(sha256sum <&3 2>/dev/null)
    SUM=${SUM%% *}
    unfollow_file
}

drop_caches() {
    echo 1 >"$PROC/sys/vm/drop_caches"
} 2>/dev/null
