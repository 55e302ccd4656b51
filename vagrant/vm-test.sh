#!/bin/bash
# vm-test.sh quick|full all|KERNEL[@SUITE]...
#
# Runs tests/vm/suite.sh in virtual machines, JOBS (default 1) at a time: on the newest Debian kernel
# of each series KERNEL, with this machine's user space or with that of the Debian release SUITE.
# Prints the rows for docs/kernels.md and a table of results. Status 0 if all passed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=vagrant/debian.sh
. "$here/debian.sh"

ALL=(5.10 6.1 6.12 6.18 7.3 6.12@trixie)
MEMORY=768
LIMIT=3600
LOGS=$CACHE/logs

extent=${1:-}
if [[ $extent != quick && $extent != full ]] || (($# < 2)); then
	die "usage: vm-test.sh quick|full all|KERNEL[@SUITE]..."
fi
shift
if [[ $* == all ]]; then
	set -- "${ALL[@]}"
fi

# test_machine MACHINE [ROOT]: leaves its log, rows and result in LOGS.
test_machine() {
	local machine=$1 root=${2:-} python=.venv/bin/python result=passed log=$LOGS/$1 tests
	local options=(-m "$MEMORY" -t "$LIMIT" -o "$log.rows")
	if [[ $root ]]; then
		options+=(-r "$root")
		python=/opt/venv/bin/python
	fi
	SECONDS=0
	: >"$log.rows"
	"$here/boot.sh" "${options[@]}" "${machine%@*}" tests/vm/suite.sh "$extent" "$python" 2>&1 |
		tee "$log.log" | sed -u "s/^/$machine: /" || result=failed
	tests=$(grep -E '^[0-9]+ (passed|failed).* in ' "$log.log" | tail -n 1 || true)
	printf '%-12s %-7s %4d s  %s\n' "$machine" "$result" "$SECONDS" "$tests" >"$log.result"
}

# Downloads and installations one after another, before anything runs beside anything.
mkdir -p "$LOGS"
need_qemu
for machine; do
	rm -f "$LOGS/$machine.result"
	"$here/fetch-kernel.sh" "${machine%@*}" >/dev/null
done
for machine; do
	root=
	if [[ $machine == *@* ]]; then
		root=$("$here/user-space.sh" "${machine#*@}")
	fi
	while (($(jobs -rp | wc -l) >= ${JOBS:-1})); do
		wait -n
	done
	test_machine "$machine" "$root" &
done
wait

status=0
for machine; do
	cat "$LOGS/$machine.rows"
done
for machine; do
	cat "$LOGS/$machine.result"
	[[ $(awk '{ print $2 }' "$LOGS/$machine.result") == passed ]] || status=1
done
exit "$status"
