# Put what mkinitfs copied to where the init of RAMOS looks for it.
# shellcheck shell=dash

# place_files ROOT: ROOT is empty in an initramfs
place_files() {
    local file folder hooks library
    hooks=$1/usr/share/ramos/initramfs-hooks
    library=$1/lib/ramos
    for folder in proc sys dev run tmp newroot persist etc/modprobe.d lib/ramos; do
        mkdir -p "$1/$folder"
    done
    for file in "$hooks"/lib/* "$hooks"/mkinitfs/modules.* "$1/usr/lib/ramos/ramos/layout.env"; do
        ln -s -f "${file#"$1"}" "$library/${file##*/}"
    done
    for file in "$1"/etc/keymap/*.bmap.gz; do
        [ ! -e "$file" ] || gunzip -c "$file" >"$library/keymap.bmap"
    done
    # As in the initramfs that RAMOS builds: the firmware has just read the stick.
    echo "options usb_storage delay_use=0" >"$1/etc/modprobe.d/ramos.conf"
}
