#!/bin/bash
# boot.sh [-r ROOT] [-m MB] [-t SECONDS] [-o FILE] SERIES COMMAND [ARGUMENT...]
#
# Boots the newest Debian kernel of SERIES (such as 6.1) in qemu, runs COMMAND as root in a copy
# of this checkout, and exits with its status. The root of the guest is the directory ROOT
# (default /). virtiofs shares it read-only, and an overlay in the guest's memory takes all
# writes. So nothing that the guest writes stays. COMMAND may write to the file named in
# $VM_REPORT; it is copied to FILE.
#
# The CPU is emulated (TCG), because that works on every machine, with or without /dev/kvm. The
# model is the oldest one with all of x86-64-v2: emulating AVX would take a quarter more time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/debian.sh
. "$here/debian.sh"

root=/ memory=1024 limit=600 output=/dev/null
while getopts r:m:t:o: option; do
	case $option in
	r) root=$(realpath "$OPTARG") ;;
	m) memory=$OPTARG ;;
	t) limit=$OPTARG ;;
	o) output=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
(($# >= 2)) || die "usage: boot.sh [-r ROOT] [-m MB] [-t SECONDS] [-o FILE] SERIES COMMAND [ARGUMENT...]"
series=$1
shift
printf -v command '%q ' "$@"
checkout=${here%/*/*}
kernel=$CACHE/kernels/$series
mkdir -p "$CACHE"

need_qemu
version=$("$here/fetch-kernel.sh" "$series")

work=$(mktemp -d)
virtiofsd_pid=
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	[[ -z $virtiofsd_pid ]] || kill "$virtiofsd_pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# The initial file system: busybox, and the modules needed to reach the root.
mkdir -p "$work/initial/modules"
cp "$(command -v busybox)" "$work/initial/busybox"
number=100
for module in virtio_pci virtiofs overlay; do
	while read -r verb path _; do
		[[ $verb == insmod ]] || continue # builtin
		name=${path##*/} name=${name%%.ko*}
		! compgen -G "$work/initial/modules/*-$name.ko" >/dev/null || continue
		case $path in
		*.xz) xz -dc "$path" ;;
		*.zst) zstd -dc "$path" ;;
		*) cat "$path" ;;
		esac >"$work/initial/modules/$((number++))-$name.ko"
	done < <(modprobe -d "$kernel" -S "$version" --show-depends "$module")
done

cat >"$work/initial/init" <<EOF_INIT
#!/busybox sh
b=/busybox
\$b mkdir -p /proc /sys /dev /host /memory /root
\$b mount -t proc proc /proc
\$b mount -t sysfs sysfs /sys
\$b mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do \$b insmod \$module; done
\$b mount -t virtiofs -o ro host /host
\$b mount -t tmpfs memory /memory
# overlay DIRECTORY-OF-THE-HOST MOUNT-POINT NAME
overlay() {
	\$b mkdir -p /memory/\$3/upper /memory/\$3/work "\$2"
	\$b mount -t overlay -o "lowerdir=/host\$1,upperdir=/memory/\$3/upper,workdir=/memory/\$3/work" \$3 "\$2"
}
overlay '$root' /root root &&
	\$b mount -t tmpfs tmpfs /root/run &&
	\$b mount -t tmpfs tmpfs /root/tmp && # before the checkout, which may be in /tmp
	overlay '$checkout' '/root$checkout' checkout &&
	\$b mkdir -p '/root/lib/modules/$version' &&
	\$b mount -o bind '/host$kernel/usr/lib/modules/$version' '/root/lib/modules/$version' ||
	\$b poweroff -f
for directory in proc sys dev; do \$b mount -o move /\$directory /root/\$directory; done
\$b cp /system /root/.system
exec \$b switch_root /root /bin/sh /.system
EOF_INIT

cat >"$work/initial/system" <<EOF_SYSTEM
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export VM_REPORT=/run/report PYTHONPATH='$checkout/agent'
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname deckwire-vm
cd '$checkout'
echo "--- Linux \$(uname -r), up after \$(cut -d' ' -f1 /proc/uptime) s"
: >\$VM_REPORT
$command
status=\$?
echo "--- status \$status after \$(cut -d' ' -f1 /proc/uptime) s, \$(grep MemAvailable /proc/meminfo)"
# The second serial port carries the report to the host.
stty -F /dev/ttyS1 raw
{ cat \$VM_REPORT; echo "status \$status"; } >/dev/ttyS1
sync
echo o >/proc/sysrq-trigger
while :; do :; done # until power-off; the disk goes first, so no program can start
EOF_SYSTEM

chmod +x "$work/initial/init"
(cd "$work/initial" && find . | cpio --quiet -o -H newc) >"$work/initial.cpio"

"$virtiofsd" --socket-path="$work/virtiofs" -o source=/ -o cache=always -o sandbox=chroot \
	>"$work/virtiofsd.log" 2>&1 &
virtiofsd_pid=$!
for ((tries = 0; tries < 100; tries++)); do
	[[ ! -S $work/virtiofs ]] || break
	sleep 0.1
done

image=$kernel/boot/vmlinuz-$version
[[ -e $image ]] || image=$kernel/usr/lib/modules/$version/vmlinuz
# shellcheck disable=SC2054 # the commas are qemu's
qemu=(
	qemu-system-x86_64 -M q35 -accel tcg,thread=multi,tb-size=256 -cpu Nehalem -smp 2 -m "$memory"
	-object "memory-backend-memfd,id=memory,size=${memory}M,share=on" -numa node,memdev=memory
	-nodefaults -display none -no-reboot
	-serial stdio -serial "file:$work/report"
	-chardev "socket,id=host,path=$work/virtiofs"
	-device vhost-user-fs-pci,chardev=host,tag=host
	-kernel "$image" -initrd "$work/initial.cpio"
	-append "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"
)
timeout "$limit" "${qemu[@]}" </dev/null | sed -u 's|\r$||' || true

status=$(sed -n 's/^status \([0-9]*\)$/\1/p' "$work/report" | tail -n 1)
if [[ -z $status ]]; then
	cat "$work/virtiofsd.log" >&2
	die "the guest reported no status within $limit s; its output is above"
fi
sed '$d' "$work/report" >"$output"
exit "$status"
