# Which generation boots: the files are read as strictly as ramos/store/generation.py reads them (which
# documents the format), and one that fails any check does not exist.
# shellcheck shell=dash disable=SC2034,SC2153

MAX_FILE_BYTES=65536
# What boots at last; ASKED_MODE is what the menu asked for.
MODE=default
NUMBERS=""
ANY_GENERATION=0
GEN_NUMBER=0
GEN_PARENT=0
GEN_KERNEL=""
GEN_FILES=""
GEN_ABOVE_BASE=0
PROOF_NUMBER=0
PROOF_END=""
LAYOUT=none

# pick_generation: leave the one to begin with in GEN_*; provide_layers steps down from there
pick_generation() {
    list_generations
    clear_generation
    LAYOUT=none
    MODE=$ASKED_MODE
    if [ "$ASKED_MODE" = clean ]; then
        # Only for the digests of the base images; a clean boot loads no layers.
        pick_below 1000000000 && GEN_NUMBER=0
        DONE="clean"
    elif [ -n "$ASKED_GENERATION" ]; then
        pick_asked
    elif pick_below 1000000000; then
        LAYOUT=generations
        [ "$ASKED_MODE" != backup ] || step_down
    else
        clear_generation
    fi
    [ "$MODE" = clean ] || [ "$LAYOUT" != none ] || pick_old_layout
    DONE="${DONE:-$LAYOUT, generation $GEN_NUMBER}"
}

clear_generation() {
    GEN_NUMBER=0
    GEN_PARENT=0
    GEN_KERNEL=""
    GEN_FILES=""
}

# list_generations: NUMBERS = those that have a file, highest first
list_generations() {
    local path name
    NUMBERS=""
    for path in "$RAMOS_PERSIST_DIR/$RAMOS_GENERATIONS_DIR"/*; do
        name=${path##*/}
        is_generation_name "$name" || continue
        strip_zeros "$name"
        NUMBERS="$NUMBERS$STRIPPED
"
    done
    NUMBERS=$(printf '%s' "$NUMBERS" | sort -rn)
}

# is_generation_name NAME: six digits, or more where the number needs them; 0 is none
is_generation_name() {
    is_number "$1" || return 1
    case $1 in
    000000) return 1 ;;
    ?????? | [1-9]??????*) ;;
    *) return 1 ;;
    esac
}

# pick_asked: ramos.generation=N, or what is below it
pick_asked() {
    LAYOUT=generations
    read_generation "$ASKED_GENERATION" && return 0
    skip_generation "$ASKED_GENERATION" "$WHY"
    pick_below "$ASKED_GENERATION" && return 0
    clear_generation
    LAYOUT=none
}

# pick_below LIMIT: the highest valid generation with a lower number
pick_below() {
    local number
    for number in $NUMBERS; do
        [ "$number" -lt "$1" ] || continue
        read_generation "$number" && return 0
        [ "$ASKED_MODE" = clean ] || skip_generation "$number" "$WHY"
    done
    return 1
}

# step_down: from GEN_NUMBER to its parent, or where that is gone to the next lower one; or to clean
step_down() {
    local number parent
    number=$GEN_NUMBER
    parent=$GEN_PARENT
    if [ "$parent" -gt 0 ] && [ "$parent" -lt "$number" ] && read_generation "$parent"; then
        return 0
    fi
    pick_below "$number" && return 0
    clear_generation
    LAYOUT=none
    MODE=clean
    return 1
}

# pick_old_layout: a stick laid out by hand, which has no generations
pick_old_layout() {
    local persist
    persist=$RAMOS_PERSIST_DIR
    clear_generation
    if [ "$ASKED_MODE" = default ] && [ -f "$persist/$RAMOS_OLD_DEFAULT" ]; then
        LAYOUT=old
    elif [ -f "$persist/$RAMOS_OLD_BACKUP" ] && [ "$ASKED_MODE" = backup ]; then
        LAYOUT=old
    elif has_layers; then
        warn "$PERSIST_NODE holds layers, but no generation that could be read: nothing that was saved is loaded"
        MODE=clean
    elif [ -n "$SKIPPED" ] || [ "$ASKED_MODE" = backup ]; then
        [ "$ASKED_MODE" != backup ] || warn "there is no backup to boot: this is a clean boot"
        MODE=clean
    fi
}

has_layers() {
    local path
    for path in "$RAMOS_PERSIST_DIR/$RAMOS_LAYERS_DIR"/*.squashfs; do
        [ ! -f "$path" ] || return 0
    done
    return 1
}

# read_generation NUMBER: its file into GEN_*; fails with the reason in WHY. The last one that was
# read tells this stick from a copy of it that went on elsewhere.
read_generation() {
    local name path
    name=$1
    while [ ${#name} -lt 6 ]; do
        name=0$name
    done
    path=$RAMOS_PERSIST_DIR/$RAMOS_GENERATIONS_DIR/$name
    WHY="its file is damaged"
    if [ ! -f "$path" ]; then
        WHY="it does not exist"
        return 1
    fi
    if parse_generation "$path" && [ "$GEN_NUMBER" = "$1" ] && check_sum "$path"; then
        PROOF_NUMBER=$GEN_NUMBER
        PROOF_END=$GEN_END
        return 0
    fi
    clear_generation
    return 1
}

# check_sum PATH: `end` is the sha256 of all the lines above it
check_sum() {
    local sum
    sum=$(sed '$d' "$1" | sha256sum)
    [ "${sum%% *}" = "$GEN_END" ]
}

# parse_generation PATH: every line is of a known form in its place, and no byte is left over
parse_generation() {
    local line number bytes size
    clear_generation
    GEN_END=""
    GEN_OBJECT=""
    GEN_ABOVE_BASE=0
    size=$(stat -c %s "$1") || return 1
    [ "$size" -le "$MAX_FILE_BYTES" ] || return 1
    number=0
    bytes=0
    while IFS= read -r line; do
        number=$((number + 1))
        bytes=$((bytes + ${#line} + 1))
        [ -z "$GEN_END" ] || return 1
        parse_line "$number" "$line" || return 1
    done <"$1"
    [ "$bytes" -eq "$size" ] && [ -n "$GEN_END" ]
}

# parse_line NUMBER LINE
parse_line() {
    if [ "$1" -le 7 ]; then
        parse_header_line "$1" "$2"
        return
    fi
    case $2 in
    end=*) [ -z "$GEN_OBJECT" ] && is_digest "${2#*=}" && GEN_END=${2#*=} ;;
    object=*) parse_object "${2#*=}" ;;
    *) parse_file_line "$2" ;;
    esac
}

# parse_header_line NUMBER LINE
parse_header_line() {
    local value
    value=${2#*=}
    case $1:$2 in
    1:ramos-generation=1) ;;
    1:ramos-generation=*)
        WHY="its format is newer than this RAMOS knows"
        return 1
        ;;
    2:generation=*)
        is_number "$value" && strip_zeros "$value" && [ "$STRIPPED" != 0 ] && GEN_NUMBER=$STRIPPED
        ;;
    3:parent=*) is_number "$value" && strip_zeros "$value" && GEN_PARENT=$STRIPPED ;;
    4:created=*) is_created "$value" ;;
    5:kernel=*) is_plain "$value" && GEN_KERNEL=$value ;;
    6:reason=*) is_plain "$value" ;;
    7:message=*) is_encoded "$value" ;;
    *) return 1 ;;
    esac
}

# parse_object "KIND SIZE VERITY": kept until the line with the checksum has been read
parse_object() {
    [ -z "$GEN_OBJECT" ] || return 1
    set -f
    # shellcheck disable=SC2086  # three words
    set -- "$1" $1
    set +f
    [ $# -eq 4 ] && [ "$1" = "$2 $3 $4" ] || return 1
    case $2 in
    rootfs | modules | firmware) [ "$GEN_ABOVE_BASE" = 0 ] || return 1 ;;
    layer | acl) GEN_ABOVE_BASE=1 ;;
    *) return 1 ;;
    esac
    is_bytes "$3" && { [ "$4" = - ] || is_digest "$4"; } || return 1
    GEN_OBJECT=$1
}

# parse_file_line "SHA256  PATH"
parse_file_line() {
    local digest path
    digest=${1%%  *}
    path=${1#*  }
    [ -n "$GEN_OBJECT" ] && [ "$1" = "$digest  $path" ] || return 1
    is_digest "$digest" && is_stored_path "$path" || return 1
    GEN_FILES="$GEN_FILES$GEN_OBJECT $digest $path
"
    GEN_OBJECT=""
}

is_digest() {
    case $1 in
    *[!0-9a-f]*) return 1 ;;
    esac
    [ ${#1} -eq 64 ]
}

# is_bytes TEXT: a size as it is compared with, without leading zeros
is_bytes() {
    case $1 in
    '' | *[!0-9]* | 0?*) return 1 ;;
    esac
    [ ${#1} -le 18 ]
}

is_created() {
    case ${1#-} in
    '' | *[!0-9]*) return 1 ;;
    esac
    [ ${#1} -le 19 ] && { [ ${#1} -le 18 ] || [ "$1" != "${1#-}" ]; }
}

is_plain() {
    case $1 in
    *[!A-Za-z0-9._+~-]*) return 1 ;;
    esac
}

is_encoded() {
    case $1 in
    *[!A-Za-z0-9._~%-]*) return 1 ;;
    esac
}

# is_stored_path TEXT: below persist, and no part of it begins with a dot or a dash
is_stored_path() {
    case /$1/ in
    *[!A-Za-z0-9._+~/-]* | *//* | */.* | */-*) return 1 ;;
    esac
}
