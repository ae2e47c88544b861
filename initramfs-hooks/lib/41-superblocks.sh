# What a block device says it is: the superblocks of ext4, LUKS and FAT32, read byte by byte.
# Every verb leaves FOUND_TYPE (ext4, luks, none), FOUND_UUID and FOUND_LABEL, both in hex.
# shellcheck shell=dash disable=SC2034,SC2153

FOUND_TYPE=none
FOUND_UUID=""
FOUND_LABEL=""
FOUND_STATE=""
JOINED=""

# probe_device NODE: fails where the device cannot be read.
# ext4: at byte 1080 magic and state; at 1128 the UUID, 16 bytes, then the label, 16 bytes.
probe_device() {
    local node bytes
    node=$1
    FOUND_TYPE=none
    FOUND_UUID=""
    FOUND_LABEL=""
    FOUND_STATE=""
    bytes=$(od -An -v -tx1 -j1080 -N80 "$node" 2>/dev/null) || return 1
    # shellcheck disable=SC2086  # a list of words
    set -- $bytes
    [ $# -eq 80 ] || return 0
    if [ "$1$2" != 53ef ]; then
        probe_luks "$node"
        return 0
    fi
    FOUND_TYPE=ext4
    FOUND_STATE=$3
    shift 48
    join_bytes 16 "$@"
    FOUND_UUID=$JOINED
    shift 16
    join_text 16 "$@"
    FOUND_LABEL=$JOINED
}

# probe_luks NODE: LUKS1 and LUKS2 have the UUID as 36 characters at byte 168, LUKS2 a label at 24
probe_luks() {
    local bytes
    bytes=$(od -An -v -tx1 -N204 "$1" 2>/dev/null)
    # shellcheck disable=SC2086  # a list of words
    set -- $bytes
    [ $# -eq 204 ] && [ "$1$2$3$4$5$6" = 4c554b53babe ] || return 0
    FOUND_TYPE=luks
    if [ "$7$8" = 0002 ]; then
        shift 24
        join_text 48 "$@"
        FOUND_LABEL=$JOINED
        shift 144
    else
        shift 168
    fi
    join_digits "$@"
    FOUND_UUID=$JOINED
}

# probe_fat NODE: FAT32 has its serial number, 4 bytes, at byte 67 and its label, 11 bytes, at 71
probe_fat() {
    local bytes
    FOUND_TYPE=none
    bytes=$(od -An -v -tx1 -j67 -N23 "$1" 2>/dev/null) || return 1
    # shellcheck disable=SC2086  # a list of words
    set -- $bytes
    [ $# -eq 23 ] || return 0
    # "FAT32"
    [ "${16}${17}${18}${19}${20}" = 4641543332 ] || return 0
    FOUND_TYPE=fat32
    FOUND_UUID=$4$3$2$1
    shift 4
    join_bytes 11 "$@"
    FOUND_LABEL=$JOINED
}

# join_bytes COUNT BYTE...: JOINED = the first COUNT bytes
join_bytes() {
    local count
    count=$1
    shift
    JOINED=""
    while [ "$count" -gt 0 ]; do
        JOINED=$JOINED$1
        shift
        count=$((count - 1))
    done
}

# join_text COUNT BYTE...: the same, up to the first zero byte
join_text() {
    local count
    count=$1
    shift
    JOINED=""
    while [ "$count" -gt 0 ] && [ "$1" != 00 ]; do
        JOINED=$JOINED$1
        shift
        count=$((count - 1))
    done
}

# join_digits BYTE...: JOINED = the hex digits that are given as ASCII bytes; dashes fall away
join_digits() {
    local byte
    JOINED=""
    for byte in "$@"; do
        case $byte in
        3[0-9]) JOINED=$JOINED${byte#3} ;;
        61 | 41) JOINED=${JOINED}a ;;
        62 | 42) JOINED=${JOINED}b ;;
        63 | 43) JOINED=${JOINED}c ;;
        64 | 44) JOINED=${JOINED}d ;;
        65 | 45) JOINED=${JOINED}e ;;
        66 | 46) JOINED=${JOINED}f ;;
        esac
    done
}

# encode_text TEXT: JOINED = its bytes in hex
encode_text() {
    JOINED=$(printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n')
}

# write_uuid HEX: the way people write it
write_uuid() {
    echo "$1" | sed 's/^\(.\{8\}\)\(....\)\(....\)\(....\)/\1-\2-\3-\4-/'
}
