# A name in which one bit has flipped: e2fsck takes it as it is, so what bears it is out of reach. It
# is told by what should be there and is not, and by an entry that differs in one character.
# shellcheck shell=dash disable=SC2034,SC2153

ALIKE=""
DIFFERENCES=0

# restore_names PERSIST: as they must be, where there is one entry that each can have been
restore_names() {
    local path
    for path in "$RAMOS_ROOTFS_IMAGE" "${RAMOS_LAYERS_DIR%/*}" "$RAMOS_LAYERS_DIR" "$RAMOS_GENERATIONS_DIR"; do
        restore_name "$1" "$path"
    done
    find_saved "$1"
    restore_name "$1" "$MISSING"
}

# restore_name PERSIST PATH
restore_name() {
    local folder
    find_alike "$1" "$2" || return 0
    folder=$1/$2
    folder=${folder%/*}
    if mv "$folder/$ALIKE" "$1/$2"; then
        warn "$PERSIST_NODE: $2 had another name by one character, and has its own again"
    fi
}

# find_alike PERSIST PATH: ALIKE = the name that PATH can have now; fails where it is there, or is not
# to be found
find_alike() {
    local folder path
    ALIKE=""
    folder=$1/$2
    [ ! -e "$folder" ] || return 1
    folder=${folder%/*}
    for path in "$folder"/*; do
        count_differences "${path##*/}" "${2##*/}"
        [ "$DIFFERENCES" -ne 1 ] || ALIKE=${path##*/}
    done
    [ -n "$ALIKE" ]
}

# count_differences ONE TWO: DIFFERENCES = the characters that differ; 0 where the lengths do
count_differences() {
    local one two
    one=$1
    two=$2
    DIFFERENCES=0
    [ ${#one} -eq ${#two} ] || return 0
    while [ -n "$one" ]; do
        [ "${one%"${one#?}"}" = "${two%"${two#?}"}" ] || DIFFERENCES=$((DIFFERENCES + 1))
        one=${one#?}
        two=${two#?}
    done
}
