#!/bin/bash
# unpack.sh: unpacks what tests use, but what is not to be installed, into .unpacked.
#
# syslog-ng cannot be installed together with rsyslog. Of prometheus, only promtool is used, and of
# p0f its signatures. Tests find them by tests/support/unpacked.py, and are skipped without them.
set -euo pipefail
cd "$(dirname "$0")/.."
PACKAGES=(syslog-ng-core libivykis0 libnet1 libwrap0 prometheus mandoc p0f)
made=.unpacked
[[ ! -e $made/.complete || $0 -nt $made/.complete ]] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt downloads as a user of its own.
chmod 755 "$work"
(cd "$work" && apt-get -qq download "${PACKAGES[@]}" -o APT::Sandbox::User=root)
rm -rf "$made"
mkdir "$made"
for deb in "$work"/*.deb; do
	wanted=()
	case $deb in
	*/prometheus_*) wanted=(./usr/bin/promtool) ;;
	*/p0f_*) wanted=(./etc/p0f/p0f.fp) ;;
	esac
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$made" --no-same-owner "${wanted[@]}"
done
touch "$made/.complete"
