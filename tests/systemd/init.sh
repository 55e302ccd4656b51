#!/bin/bash
# init.sh BASE ROOT SETUP: becomes the container's systemd, process 1 of new namespaces.
#
# ROOT is an empty directory. The container's root is an overlay on BASE, which keeps its files: "/",
# or a directory with another system. SETUP is a script that runs in the new root before systemd
# starts.
set -euo pipefail
base=$1 root=$2 setup=$3

mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir "$root"/{upper,work,new}
mount -t overlay overlay -o "lowerdir=$base,upperdir=$root/upper,workdir=$root/work" "$root/new"
cd "$root/new"

mount -t proc proc proc
# Kernel settings are the machine's, so they are read-only here.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
chmod 1777 tmp
# Not the machine's /dev, in which journald would make its /dev/log.
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
	touch "dev/$node"
	mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

# None of the machine's own services, and no unit that manages a whole machine.
: >etc/fstab
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
for unit in systemd-sysctl systemd-binfmt systemd-modules-load systemd-udevd systemd-udev-trigger \
	systemd-random-seed systemd-timesyncd systemd-networkd systemd-resolved systemd-hwdb-update \
	systemd-firstboot systemd-remount-fs; do
	ln -sf /dev/null "etc/systemd/system/$unit.service"
done
for unit in proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount \
	sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
	sys-fs-fuse-connections.mount timers.target systemd-journald-audit.socket; do
	ln -sf /dev/null "etc/systemd/system/$unit"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >etc/systemd/system/probe.target
bash -euo pipefail "$setup"

mkdir old
pivot_root . old
cd /
umount --lazy /old
export container=probe
exec /lib/systemd/systemd --unit=probe.target --log-target=journal --show-status=0
