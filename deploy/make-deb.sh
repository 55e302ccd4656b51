#!/bin/bash
# make-deb.sh FOLDER [VERSION]: builds Deckwire's Debian package into FOLDER and prints its path.
#
# It needs Debian 12 or newer, uses Debian's packages alone, and must pass lintian. The checkout
# stays as it is. The version is that of debian/changelog if the commit has a tag with it. Other
# commits are older than that version, in the order of their time.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/vm/debian.sh
. "$checkout/tests/vm/debian.sh"
# Another Python, first in PATH, would be no part of the package's dependencies.
export PATH=/usr/bin:/usr/sbin:/bin:/sbin

folder=$(realpath -m "${1:?usage: make-deb.sh FOLDER [VERSION]}")
mapfile -t needed < <(
	sed -n '/^Build-Depends:/,/^$/p' "$checkout/debian/control" | tr ',' '\n' |
		sed -E 's/^(Build-Depends:)? *//; s/debhelper-compat.*/debhelper/; s/dh-sequence-.*//; /^$/d'
)
need_packages build-essential lintian "${needed[@]}" >&2

version=${2:-$(dpkg-parsechangelog -l "$checkout/debian/changelog" -S Version)}
date=$(date -uR)
if [[ $# -lt 2 ]] && seconds=$(git -C "$checkout" log -1 --format=%ct 2>/dev/null) &&
	[[ $(git -C "$checkout" tag --points-at HEAD) != *"v$version"* ]]; then
	date=$(date -uR -d "@$seconds")
	version+="~git$(date -u -d "@$seconds" +%Y%m%d%H%M%S)"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/deckwire"
cd "$checkout"
tar -c --exclude=agent/deckwire/objects --exclude=agent/deckwire/extension \
	--exclude=__pycache__ --exclude='*.egg-info' --exclude-caches \
	agent bpf debian deploy docs pyproject.toml README.md CHANGELOG.md NOTICE |
	tar -x -C "$work/deckwire"
if [[ $version != "$(dpkg-parsechangelog -l debian/changelog -S Version)" ]]; then
	{
		printf 'deckwire (%s) unstable; urgency=medium\n\n  * A build between versions.\n\n' "$version"
		printf ' -- %s  %s\n\n' "$(dpkg-parsechangelog -l debian/changelog -S Maintainer)" "$date"
		cat debian/changelog
	} >"$work/deckwire/debian/changelog"
fi

cd "$work/deckwire"
dpkg-buildpackage -b -us -uc >"$work/log" 2>&1 || {
	cat "$work/log" >&2
	die "the package cannot be built; the reason is above"
}
lintian --allow-root --fail-on error,warning --tag-display-limit 0 ../*.changes >&2
mkdir -p "$folder"
rm -f "$folder"/deckwire_*.deb
cp "$work"/deckwire_*.deb "$folder/"
echo "$folder"/deckwire_*.deb
