#!/bin/bash
# user-space.sh SUITE: makes a root directory with the Python, BCC and tools of a Debian release.
#
# Prints its path, $CACHE/roots/SUITE. It contains a virtual environment for this checkout,
# /opt/venv, which is rebuilt when pyproject.toml changes. Everything else is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/debian.sh
. "$here/debian.sh"

suite=${1:?usage: user-space.sh SUITE}
[[ $EUID == 0 ]] || die "debootstrap needs root; run this as root"
checkout=${here%/*/*}
root=$CACHE/roots/$suite
packages=(
	python3-bpfcc python3-venv python3-seccomp iproute2 ethtool kmod procps tcpdump openssl curl nmap rsyslog
	iperf3 ca-certificates
)
mkdir -p "$CACHE/roots"
need_packages debootstrap >&2
# Another one may be making the same root.
exec {lock}>"$root.lock"
flock "$lock"

if [[ ! -e $root/.complete ]]; then
	remove_root "$root"
	debootstrap --variant=minbase --include="$(IFS=, && echo "${packages[*]}")" \
		"$suite" "$root" "$(mirror Debian)" >&2
	rm -rf "$root"/var/cache/apt/archives/*.deb
	touch "$root/.complete"
fi

wanted="$checkout $(sha256sum <"$checkout/pyproject.toml")"
if [[ $(cat "$root/opt/venv/made-for" 2>/dev/null) != "$wanted" ]]; then
	# The package index may need this machine's certificates and pip settings.
	cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	[[ ! -e /etc/pip.conf ]] || cp /etc/pip.conf "$root/etc/"
	mkdir -p "$root$checkout"
	# This is enough for an editable installation. The virtual machine mounts the whole checkout.
	cp -r "$checkout/pyproject.toml" "$checkout/README.md" "$checkout/agent" "$root$checkout/"
	rm -rf "$root/opt/venv"
	chroot "$root" /usr/bin/python3 -m venv --system-site-packages /opt/venv >&2
	chroot "$root" /opt/venv/bin/pip install -q --disable-pip-version-check \
		-e "${checkout}[dev]" >&2
	echo "$wanted" >"$root/opt/venv/made-for"
fi
echo "$root"
