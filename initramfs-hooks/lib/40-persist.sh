# Finding persist: the block device whose superblock carries the wanted UUID or label.
# shellcheck shell=dash disable=SC2034,SC2153

WAIT_SECONDS=30
POLL_SECONDS=0.05
PATIENCE_CS=150
PERSIST_NAME=""
PERSIST_NODE=""
PERSIST_TYPE=""
PERSIST_UUID=""
PERSIST_STATE=""
DISK_SEQUENCE=0
ESP_UUID=""
WANTED_TYPES=""
WANTED_UUID=""
WANTED_LABEL=""
PROBED=" "

# find_persist: look at each block device as it appears, until the wanted one is there
find_persist() {
    local deadline patience
    prepare_wanted
    read_clock
    deadline=$((NOW_CS + WAIT_SECONDS * 100))
    patience=$((NOW_CS + PATIENCE_CS))
    until probe_new_devices; do
        read_clock
        [ "$NOW_CS" -lt "$patience" ] || FIRST_LOOK=0
        if [ "$NOW_CS" -ge "$deadline" ]; then
            WHY="no ${LUKS_ID:-$PERSIST_ID} within $WAIT_SECONDS s; $(list_devices)"
            PROBED=" "
            return 1
        fi
        load_new_hardware usb scsi mmc virtio pci acpi platform
        sleep "$POLL_SECONDS"
    done
    find_esp
    DONE="$PERSIST_NODE $PERSIST_TYPE $PERSIST_UUID"
}

# prepare_wanted: what is looked for, as the hex of a superblock
prepare_wanted() {
    local id
    id=${LUKS_ID:-$PERSIST_ID}
    WANTED_TYPES="ext4 luks"
    [ -z "$LUKS_ID" ] || WANTED_TYPES=luks
    WANTED_UUID=-
    WANTED_LABEL=-
    case $id in
    UUID=*) WANTED_UUID=$(printf '%s' "${id#UUID=}" | tr -d - | tr A-F a-f) ;;
    *)
        encode_text "${id#LABEL=}"
        WANTED_LABEL=$JOINED
        ;;
    esac
}

list_devices() {
    local path names
    names=""
    for path in "$SYS"/class/block/*; do
        case ${path##*/} in
        '*' | loop* | ram* | zram*) continue ;;
        esac
        names="$names ${path##*/}"
    done
    echo "block devices seen:${names:- none}"
}

# probe_new_devices: succeeds once one of them is the wanted one
probe_new_devices() {
    local path name
    for path in "$SYS"/class/block/*; do
        name=${path##*/}
        case $PROBED in
        *" $name "*) continue ;;
        esac
        can_hold_persist "$path" "$name" || continue
        probe_device "$DEV/$name" || continue
        PROBED="$PROBED$name "
        if is_wanted; then
            take_persist "$name"
            return 0
        fi
    done
    return 1
}

# can_hold_persist PATH NAME: a partition, or a disk without any, with a medium in it
can_hold_persist() {
    local part size
    case $2 in
    loop* | ram* | zram* | fd* | sr* | dm-*) return 1 ;;
    esac
    size=0
    read -r size <"$1/size" 2>/dev/null
    [ "$size" != 0 ] || return 1
    for part in "$1/$2"*; do
        [ ! -e "$part" ] || return 1
    done
    is_block_device "$DEV/$2"
}

is_block_device() {
    [ -b "$1" ]
}

# is_wanted: whether what probe_device found is what is looked for
is_wanted() {
    case " $WANTED_TYPES " in
    *" $FOUND_TYPE "*) [ "$FOUND_UUID" = "$WANTED_UUID" ] || [ "$FOUND_LABEL" = "$WANTED_LABEL" ] ;;
    *) return 1 ;;
    esac
}

# take_persist NAME: the kernel counts disks as they appear, so the number tells this one from any
# other that comes later under the same name
take_persist() {
    PERSIST_NAME=$1
    PERSIST_NODE=$DEV/$1
    PERSIST_TYPE=$FOUND_TYPE
    PERSIST_STATE=$FOUND_STATE
    PERSIST_UUID=$(write_uuid "$FOUND_UUID")
    DISK_SEQUENCE=0
    read -r DISK_SEQUENCE <"$SYS/class/block/$1/diskseq" ||
        read -r DISK_SEQUENCE <"$SYS/class/block/$1/../diskseq"
} 2>/dev/null

# find_esp: the FAT32 partition with our label on the same disk; a stick without one boots as well
find_esp() {
    local label name
    encode_text "$RAMOS_ESP_LABEL"
    label=$JOINED
    for name in $(list_siblings); do
        probe_fat "$DEV/$name" || continue
        case $FOUND_TYPE:$FOUND_LABEL in
        fat32:"$label"*)
            ESP_UUID=$(echo "$FOUND_UUID" | sed 's/..../&-/;s/-$//' | tr a-f A-F)
            return 0
            ;;
        esac
    done
    return 0
}

# list_siblings: the other partitions of the disk that persist is on
list_siblings() {
    local path
    cd -P "$SYS/class/block/$PERSIST_NAME/.." 2>/dev/null || return 0
    for path in */partition; do
        path=${path%/partition}
        case $path in
        '*' | "$PERSIST_NAME") ;;
        *) echo "$path" ;;
        esac
    done
}
