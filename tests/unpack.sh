#!/bin/bash
# unpack.sh: unpacks programs that tests run, but that are not to be installed, into .unpacked.
#
# syslog-ng cannot be installed together with rsyslog. Of prometheus, only promtool is used. Tests
# find them by tests/support/unpacked.py, and are skipped without them.
set -euo pipefail
cd "$(dirname "$0")/.."
PACKAGES=(syslog-ng-core libivykis0 libnet1 libwrap0 prometheus)
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
	[[ $deb != */prometheus_* ]] || wanted=(./usr/bin/promtool)
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$made" --no-same-owner "${wanted[@]}"
done
touch "$made/.complete"
