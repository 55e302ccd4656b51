#!/bin/bash
# vagrant-test.sh: tests a real `vagrant up`, also on a machine without systemd, KVM or a network.
#
# It uses a local box, an emulated CPU, and a separate libvirtd in separate namespaces. Only the box
# and Vagrant's copy of it stay after this script.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/debian.sh
. "$here/../tests/vm/debian.sh"

export VAGRANT_HOME=$CACHE/vagrant.d VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_DEFAULT_PROVIDER=libvirt
export DECKWIRE_BOX=deckwire/local DECKWIRE_VM_DRIVER=qemu
LOGS=$CACHE/logs

# timed NAME COMMAND...: runs the command and prints how long it took.
timed() {
	local name=$1 start=$SECONDS status=0
	shift
	"$@" || status=$?
	printf -- '--- %-22s %4d s, status %d\n' "$name" $((SECONDS - start)) "$status"
	return "$status"
}

# inside: runs in separate network, mount and process namespaces, which end with this script.
inside() {
	# libvirt sees a fresh machine: its files under /etc, /run and /var are in memory or the cache.
	local state=$CACHE/libvirt
	rm -rf "$state"
	mkdir -p "$state/images"
	mount -t tmpfs tmpfs /run
	mkdir -p /run/lock /run/libvirt
	mount --bind "$state" /var/lib/libvirt
	mount -t tmpfs tmpfs /var/cache/libvirt
	mount -t tmpfs tmpfs /etc/libvirt
	cat >/etc/libvirt/qemu.conf <<-CONF
		user = "root"
		group = "root"
		security_driver = "none"
		namespaces = []
		cgroup_controllers = []
		remember_owner = 0
	CONF
	touch /etc/libvirt/libvirtd.conf /etc/libvirt/virtlogd.conf
	ip link set lo up
	virtlogd >"$LOGS/virtlogd.log" 2>&1 &
	libvirtd >"$LOGS/libvirtd.log" 2>&1 &
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		! virsh -q -c qemu:///system list >/dev/null 2>&1 || break
		sleep 0.2
	done
	virsh -q -c qemu:///system pool-define-as default dir --target /var/lib/libvirt/images
	virsh -q -c qemu:///system pool-start default

	cd "$here"
	local failed=0
	timed "vagrant up" vagrant up --no-color --no-tty || failed=1
	if ((!failed)); then
		timed "acceptance" vagrant ssh --no-color --no-tty -c deckwire-acceptance || failed=1
		timed "systemd-analyze" vagrant ssh --no-color --no-tty -c \
			"systemd-analyze security --no-pager deckwire.service" >"$LOGS/security.log" || failed=1
		timed "provision again" vagrant provision --no-color --no-tty || failed=1
		timed "vagrant halt" vagrant halt --no-color --no-tty || failed=1
	fi
	timed "vagrant destroy" vagrant destroy --no-color --no-tty --force || failed=1
	return "$failed"
}

if [[ ${1:-} == --inside ]]; then
	inside
	exit
fi

[[ $EUID == 0 ]] || die "libvirtd and namespaces need root; run this as root"
# The virtual machine cannot download what building the package needs.
compgen -G "${here%/*}/dist/deckwire_*.deb" >/dev/null ||
	die "dist has no package for the machine; run make deb before"
mkdir -p "$LOGS"
timed "packages" need_packages vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients \
	dnsmasq-base iptables qemu-system-x86 qemu-utils seabios rsync openssh-client
timed "make-box" "$here/make-box.sh"
box=$CACHE/box/deckwire.box
if [[ $(cat "$VAGRANT_HOME/${box##*/}.made-from" 2>/dev/null) != "$(cat "$box.made-from")" ]]; then
	timed "vagrant box add" vagrant box add --no-color --no-tty --force --name "$DECKWIRE_BOX" "$box"
	cp "$box.made-from" "$VAGRANT_HOME/"
fi
timed "all in the machine" unshare --net --mount --pid --fork --mount-proc --kill-child \
	"$0" --inside
