#!/bin/sh
# What the initramfs would boot from a mounted persist: its own verbs choose and verify; only the
# mounting of the layers is left out. Run by BusyBox as the initramfs is.
#   pick.sh HOOKS LAYOUT PERSIST RUN [MODE]
# Prints the mode and the generation, then a line for each generation that was stepped over.
# shellcheck disable=SC2034
set -u
hooks=$1
# shellcheck disable=SC1090
. "$2"
for file in "$hooks"/lib/*.sh; do
    # shellcheck disable=SC1090
    . "$file"
done
RAMOS_PERSIST_DIR=$3
RAMOS_RUN_DIR=$4
RAMOS_BOOT_LOG=$4/boot.log
RAMOS_GENERATION_COPY=$4/generation
RAMOS_STACK_DIR=$4/layers
RAMOS_UPPER_DIR=$4/upper
ASKED_MODE=${5:-default}
ASKED_GENERATION=""
VERIFY=fast
STEP=generation

put_up_layers() {
    return 0
}

# The caches of this machine are not ours to drop.
drop_caches() {
    return 0
}

{
    pick_generation
    provide_layers
} >&2
echo "$MODE $GEN_NUMBER"
printf '%s' "$SKIPPED"
