# Sourced by the wrappers and hooks of package managers: which names are special.
# shellcheck shell=sh
# Owns: reading the file of patterns, once. Invariant: patterns are words here, never names of files.
set -f
SPECIAL_PATTERNS=""

# load_patterns FILE: one recipe a line
load_patterns() {
    local patterns
    SPECIAL_PATTERNS=""
    while read -r patterns; do
        SPECIAL_PATTERNS="$SPECIAL_PATTERNS $patterns ;"
    done <"$1"
}

# is_special NAME: whether a recipe is for this package: it matches one of its patterns, and none of
# those with a !, which come after them
is_special() {
    local pattern special
    special=1
    for pattern in $SPECIAL_PATTERNS; do
        # shellcheck disable=SC2254  # a pattern is meant as one
        case $pattern in
        ";")
            [ "$special" != 0 ] || return 0
            special=1
            ;;
        !*) case $1 in ${pattern#!}) special=1 ;; esac ;;
        *) case $1 in $pattern) special=0 ;; esac ;;
        esac
    done
    return 1
}

# list_special: those of the names on standard input, one a line, that are special
list_special() {
    local name
    while read -r name; do
        ! is_special "$name" || echo "$name"
    done
}
