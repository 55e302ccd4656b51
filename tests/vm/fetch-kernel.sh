#!/bin/bash
# fetch-kernel.sh SERIES: unpacks the newest Debian kernel of a series such as 6.1.
#
# Installs nothing. Prints the version. $CACHE/kernels/SERIES/ then holds boot/, usr/lib/modules/
# and the file version.
set -euo pipefail
# shellcheck source=tests/vm/debian.sh
. "$(dirname "$0")/debian.sh"

series=${1:?usage: fetch-kernel.sh SERIES}
[[ $series =~ ^[0-9]+\.[0-9]+$ ]] || die "$series: not a kernel series; give one such as 6.1"
kernel=$CACHE/kernels/$series

# Look for a newer kernel once a day only.
if [[ -n $(find "$kernel/version" -mtime -1 2>/dev/null) ]]; then
	cat "$kernel/version"
	exit
fi

other_suites
version=$(apt-cache pkgnames "linux-image-$series" |
	sed -n "s/^linux-image-\(${series//./\\.}[.+-].*-cloud-amd64\)$/\1/p" | sort -V | tail -n 1)
[[ $version ]] || die "$series: the archive has no cloud kernel of this series; choose another"

if [[ $(cat "$kernel/version" 2>/dev/null) != "$version" ]]; then
	rm -rf "$kernel"
	mkdir -p "$kernel/debs" "$kernel/usr/lib"
	ln -s usr/lib "$kernel/lib"
	# From 7.0 on the image is split into packages that it depends on.
	mapfile -t split < <(apt-cache depends --important "linux-image-$version" |
		sed -n "s/^ *Depends: \(linux-\(base\|binary\|modules\)-$version\)$/\1/p")
	(cd "$kernel/debs" && apt-get -qq download "linux-image-$version" "${split[@]}")
	for deb in "$kernel"/debs/*.deb; do
		dpkg --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$kernel"
	done
	depmod -b "$kernel" "$version"
	rm -r "$kernel/debs"
fi
echo "$version" | tee "$kernel/version"
