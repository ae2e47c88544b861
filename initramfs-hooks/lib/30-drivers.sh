# The kernel's own file systems, and its drivers: only those that this machine has hardware for.
# Loading modules is most of the time spent in here, so they go in few modprobe calls.
# shellcheck shell=dash disable=SC2034,SC2153

MODULES=/lib/modules
SEEN_ALIASES=" "
FIRST_LOOK=1
UPPER_LOADER=""
RANDOM_WAITER=""
KEYBOARDS_LOADED=0

mount_kernel_filesystems() {
    umask 022
    mount -t proc -o nosuid,nodev,noexec proc "$PROC"
    mount -t sysfs -o nosuid,nodev,noexec sysfs "$SYS"
    mount -t devtmpfs -o nosuid,mode=755 devtmpfs "$DEV"
    # devtmpfs lacks these, and not every init of a system makes them.
    [ -e "$DEV/fd" ] || ln -s /proc/self/fd "$DEV/fd"
    mount -t tmpfs -o nosuid,nodev,mode=755 run /run
    mkdir -p "$RAMOS_RUN_DIR" "$RAMOS_PERSIST_DIR" "$NEWROOT"
    note start "init"
}

# load_drivers: without the signatures of the modules, unless the kernel insists on them
load_drivers() {
    # mkfs.btrfs wants random numbers; without RDRAND the kernel collects them only when asked to.
    head -c 1 "$DEV/random" >"$DEV/null" &
    RANDOM_WAITER=$!
    load_first_drivers
    if [ ! -d "$SYS/module/overlay" ] && restore_signatures; then
        note drivers "this kernel wants signed modules"
        SEEN_ALIASES=" "
        load_first_drivers
    fi
}

# load_first_drivers: the screen, for whoever has to type; host controllers, since the stick needs
# time to answer; meanwhile btrfs (its RAID6 benchmark takes 0.3 s on any machine) in the
# background, then what every boot needs
load_first_drivers() {
    [ ! -e "$SYS/bus/platform/devices/simple-framebuffer.0" ] || load_list screen
    load_new_hardware pci virtio
    # The drivers that sticks need, without waiting for the hub to find out what is plugged in.
    [ ! -d "$SYS/bus/usb" ] || load_list storage
    if [ "$UPPER_KIND" = zram ]; then
        load_list upper &
        UPPER_LOADER=$!
    fi
    load_list base
    load_keymap
    load_new_hardware usb scsi mmc virtio
}

# restore_signatures: the builder has put each one beside its module; fails if there are none (left)
restore_signatures() {
    local signature list
    list=$RAMOS_RUN_DIR/signatures
    find "$MODULES" -name '*.sig' >"$list"
    while read -r signature; do
        cat "$signature" >>"${signature%.sig}"
        rm "$signature"
    done <"$list"
    [ -s "$list" ]
}

# load_list NAME: the modules of a list that the builder wrote
load_list() {
    local names
    names=""
    read -r names <"$LIB/modules.$1"
    # shellcheck disable=SC2086  # a list of words
    [ -z "$names" ] || modprobe -a -q $names 2>/dev/null
}

# load_new_hardware BUS...: the drivers for devices that were not there the last time
load_new_hardware() {
    local bus file alias new
    new=""
    for bus in "$@"; do
        for file in "$SYS/bus/$bus"/devices/*/modalias; do
            alias=""
            read -r alias <"$file" || continue
            case $SEEN_ALIASES in
            *" $alias "*) continue ;;
            esac
            ! is_slow_hardware "$alias" || continue
            SEEN_ALIASES="$SEEN_ALIASES$alias "
            new="$new $alias"
        done 2>/dev/null
    done
    # shellcheck disable=SC2086  # a list of words
    [ -z "$new" ] || modprobe -a -q $new 2>/dev/null
    return 0
}

# is_slow_hardware ALIAS: old IDE controllers are probed for long, and no stick hangs on one; they
# have their turn once the first look has found nothing
is_slow_hardware() {
    case $FIRST_LOOK:$1 in
    1:pci:*bc01sc01i*) return 0 ;;
    esac
    return 1
}

# load_keyboards: only where somebody has to type something
load_keyboards() {
    [ "$KEYBOARDS_LOADED" = 0 ] || return 0
    KEYBOARDS_LOADED=1
    load_new_hardware pci usb
    load_list keyboard
    return 0
}

# load_keymap: into the kernel, where it stays for the running system too
load_keymap() {
    [ ! -s "$LIB/keymap.bmap" ] || loadkmap <"$LIB/keymap.bmap" 2>/dev/null
}
