#!/bin/bash
# vm-test.sh quick|full all|KERNEL[@SUITE]...
#
# Runs tests/vm/suite.sh in virtual machines, one after another: on the newest Debian kernel of each
# series KERNEL, with this machine's user space or with that of the Debian release SUITE. Prints a
# table of results and the rows for docs/kernels.md. Status 0 if all passed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=vagrant/debian.sh
. "$here/debian.sh"

ALL=(5.10 6.1 6.12 6.18 7.3 6.12@trixie)
MEMORY=768

extent=${1:-}
if [[ $extent != quick && $extent != full ]] || (($# < 2)); then
	die "usage: vm-test.sh quick|full all|KERNEL[@SUITE]..."
fi
shift
if [[ $* == all ]]; then
	set -- "${ALL[@]}"
fi
mkdir -p "$CACHE/logs"
rows=$CACHE/rows
: >"$rows"
results=() failed=0
for machine; do
	series=${machine%@*}
	options=(-m "$MEMORY" -t 1800)
	python=.venv/bin/python
	if [[ $machine == *@* ]]; then
		options+=(-r "$("$here/user-space.sh" "${machine#*@}")")
		python=/opt/venv/bin/python
	fi
	echo "=== $machine"
	SECONDS=0
	result=passed
	"$here/boot.sh" "${options[@]}" "$series" tests/vm/suite.sh "$extent" "$python" 2>&1 |
		tee "$CACHE/logs/$machine.log" || result=failed failed=1
	grep '^|' "$CACHE/report" >>"$rows" || true
	tests=$(grep -E '^[0-9]+ (passed|failed).* in ' "$CACHE/logs/$machine.log" | tail -n 1 || true)
	results+=("$(printf '%-12s %-7s %4d s  %s' "$machine" "$result" "$SECONDS" "$tests")")
done
cat "$rows"
printf '%s\n' "${results[@]}"
exit "$failed"
