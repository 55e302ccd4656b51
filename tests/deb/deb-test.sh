#!/bin/bash
# deb-test.sh DEB: tests the package on Debian 12 and 13, each under its own systemd.
#
# It makes a root of each release with debootstrap and downloads there what the package needs. The
# tests of test_package.py then run without a network. The roots stay in $CACHE, so the next run
# is quicker. A package that has passed stays there too: the next one is tested as its upgrade.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
checkout=${here%/*/*}
# shellcheck source=tests/vm/debian.sh
. "$here/../vm/debian.sh"

SUITES=(bookworm trixie)
BASE=(systemd-sysv dbus iproute2 procps ca-certificates curl)
deb=$(realpath "${1:?usage: deb-test.sh DEB}")
[[ $EUID == 0 ]] || die "debootstrap and namespaces need root; run this as root"
need_packages debootstrap

# root SUITE: makes the root of a release, if there is none, and prints its path.
root() {
	local suite=$1 root=$CACHE/roots/$1-systemd
	if [[ ! -e $root/.complete ]]; then
		remove_root "$root"
		debootstrap --variant=minbase --include="$(IFS=, && echo "${BASE[*]}")" \
			"$suite" "$root" "$(mirror Debian)" >&2
		# Downloads stay for the tests.
		rm -f "$root/etc/apt/apt.conf.d/docker-clean"
		touch "$root/.complete"
	fi
	echo "$root"
}

# download ROOT DEB...: downloads what the packages need, and python3-venv for the wheel.
download() {
	local root=$1
	shift
	cp -L /etc/resolv.conf "$root/etc/"
	rm -rf "$root/var/tmp/debs"
	mkdir -p "$root/var/tmp/debs"
	cp "$@" "$root/var/tmp/debs/"
	if [[ -z $(find "$root/var/lib/apt/lists" -name '*_InRelease' -mtime -1 -print -quit) ]]; then
		chroot "$root" apt-get -qq update
	fi
	chroot "$root" sh -c 'apt-get -qq install -y --download-only /var/tmp/debs/*.deb python3-venv'
	rm -rf "$root/var/tmp/debs"
}

debs=$CACHE/debs
mkdir -p "$debs/accepted" "$debs/wheel"
previous=$(compgen -G "$debs/accepted/*.deb" || true)
if [[ -z $previous ]] || ! dpkg --compare-versions \
	"$(dpkg-deb -f "$previous" Version)" lt "$(dpkg-deb -f "$deb" Version)"; then
	previous=$("$checkout/deploy/make-deb.sh" "$debs/previous" '0.1.0~0')
fi
rm -f "$debs"/wheel/*
"$checkout/.venv/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps \
	-w "$debs/wheel" "$checkout"

export DECKWIRE_DEB_TEST=$deb DECKWIRE_DEB_PREVIOUS=$previous DECKWIRE_DEB_ROOTS=
DECKWIRE_DEB_WHEEL=$(echo "$debs"/wheel/deckwire-*.whl)
export DECKWIRE_DEB_WHEEL
for suite in "${SUITES[@]}"; do
	made=$(root "$suite")
	download "$made" "$deb"
	DECKWIRE_DEB_ROOTS+="${DECKWIRE_DEB_ROOTS:+:}$made"
done
cd "$checkout"
.venv/bin/python -m pytest -v -x tests/deb
rm -f "$debs"/accepted/*
cp "$deb" "$debs/accepted/"
