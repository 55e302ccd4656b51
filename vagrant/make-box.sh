#!/bin/bash
# make-box.sh: makes a box for vagrant-libvirt from Debian packages, if none can be downloaded.
#
# Prints its path. The box has Debian 12 with its kernel and the user vagrant with Vagrant's
# insecure key. It also has the packages that provision.sh needs, so that the machine works
# without a network. Its disk has 4 GB and boots by BIOS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/debian.sh
. "$here/../tests/vm/debian.sh"

SUITE=bookworm
SYSTEM=(
	systemd-sysv udev dbus openssh-server sudo ifupdown isc-dhcp-client rsync iproute2 kmod
	initramfs-tools procps python3 ca-certificates linux-image-cloud-amd64
	# python3-cryptography wants it by a virtual name, which debootstrap does not resolve.
	python3-cffi-backend
)
[[ $EUID == 0 ]] || die "debootstrap needs root; run this as root"
box=$CACHE/box/deckwire.box
mapfile -t packages < <(grep -v '^#' "$here/packages")
wanted=$(sha256sum "$here/packages" "$0" | cut -d' ' -f1)
if [[ -e $box && $(cat "$box.made-from" 2>/dev/null) == "$wanted" ]]; then
	echo "$box"
	exit
fi

mkdir -p "$CACHE/box"
need_packages debootstrap qemu-utils extlinux syslinux-common e2fsprogs >&2
work=$(mktemp -d -p "$CACHE/box")
root=$work/root
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	! mountpoint -q "$work/mount" || umount "$work/mount"
	remove_root "$root"
	rm -rf "$work"
}
trap cleanup EXIT

include=$(IFS=, && echo "${SYSTEM[*]},${packages[*]}")
debootstrap --variant=minbase --include="$include" "$SUITE" "$root" "$(mirror Debian)" >&2
rm -f "$root"/var/cache/apt/archives/*.deb "$root"/etc/ssh/ssh_host_*

# Vagrant needs a user with its key and sudo, and an interface that uses DHCP.
chroot "$root" useradd -m -s /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
keys=(/usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub
	/opt/vagrant/embedded/gems/*/gems/vagrant-*/keys/vagrant.pub)
cat "${keys[@]}" >"$root/home/vagrant/.ssh/authorized_keys" 2>/dev/null || true
[[ -s $root/home/vagrant/.ssh/authorized_keys ]] ||
	die "Vagrant's insecure public key is missing; install vagrant"
chmod 600 "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant: /home/vagrant/.ssh
echo "vagrant ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/vagrant"
printf 'auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n' >"$root/etc/network/interfaces"
echo "/dev/vda / ext4 defaults 0 1" >"$root/etc/fstab"
echo deckwire >"$root/etc/hostname"
cat >"$root/etc/systemd/system/ssh-host-keys.service" <<-UNIT
	[Unit]
	Description=Host keys of this machine alone
	Before=ssh.service
	ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
	[Service]
	Type=oneshot
	ExecStart=/usr/bin/ssh-keygen -A
	[Install]
	WantedBy=multi-user.target
UNIT
chroot "$root" systemctl -q enable ssh-host-keys

# extlinux in the boot sector of a file system without a partition table.
mkdir -p "$root/boot/extlinux"
kernel=$(basename "$(ls "$root"/boot/vmlinuz-*)")
cat >"$root/boot/extlinux/extlinux.conf" <<-CONF
	default linux
	label linux
	linux /boot/$kernel
	initrd /boot/${kernel/vmlinuz/initrd.img}
	append root=/dev/vda ro net.ifnames=0 console=ttyS0 no_timer_check quiet
CONF
truncate -s 4G "$work/disk"
mke2fs -q -t ext4 -O '^64bit,^metadata_csum,^has_journal' -d "$root" "$work/disk"
mkdir "$work/mount"
mount -o loop "$work/disk" "$work/mount"
extlinux --install "$work/mount/boot/extlinux" >&2
umount "$work/mount"

qemu-img convert -c -O qcow2 "$work/disk" "$work/box.img"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 4}' >"$work/metadata.json"
tar -C "$work" -czf "$box" metadata.json box.img
echo "$wanted" >"$box.made-from"
echo "$box"
