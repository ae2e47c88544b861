# Sourced by the wrappers and hooks of package managers: which names are special.
# shellcheck shell=sh
# Owns: reading the file of patterns, once. Invariant: patterns are words here, never names of files.
set -f
SPECIAL_PATTERNS=""

# load_patterns FILE: one pattern a line
load_patterns() {
    local pattern
    SPECIAL_PATTERNS=""
    while read -r pattern; do
        SPECIAL_PATTERNS="$SPECIAL_PATTERNS $pattern"
    done <"$1"
}

# is_special NAME: whether a recipe is for this package; a pattern with ! takes names out again
is_special() {
    local pattern special
    special=1
    for pattern in $SPECIAL_PATTERNS; do
        # shellcheck disable=SC2254  # a pattern is meant as one
        case $pattern in
        !*) case $1 in ${pattern#!}) return 1 ;; esac ;;
        *) case $1 in $pattern) special=0 ;; esac ;;
        esac
    done
    return $special
}
