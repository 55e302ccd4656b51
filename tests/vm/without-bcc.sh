#!/bin/bash
# without-bcc.sh COMMAND [ARGUMENT...]: runs COMMAND as if BCC was not installed, so that only
# programs that were compiled before can be loaded.
#
# The folder of Python's packages gets an overlay in which BCC is deleted. Only COMMAND sees it,
# because it runs in a mount namespace of its own. Needs root.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
	(($#)) || { echo "usage: without-bcc.sh COMMAND [ARGUMENT...]" >&2 && exit 2; }
	exec unshare --mount "$0" --inside "$@"
fi
shift

packages=/usr/lib/python3/dist-packages
overlay=$(mktemp -d)
mount -t tmpfs without-bcc "$overlay"
mknod "$overlay/bcc" c 0 0 # a file that an overlay takes for deleted
mount -t overlay -o "ro,lowerdir=$overlay:$packages" without-bcc "$packages"
umount "$overlay" # the overlay keeps it
rmdir "$overlay"
if /usr/bin/python3 -c 'import bcc' 2>/dev/null; then
	echo "without-bcc.sh: BCC is still found; it is not in $packages alone" >&2
	exit 1
fi
exec "$@"
