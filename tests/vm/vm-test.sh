#!/bin/bash
# vm-test.sh [-w FILE] quick|full all|KERNEL[@SUITE]...
#
# Runs tests/vm/suite.sh in virtual machines, JOBS (default 1) at a time: on the newest Debian kernel
# of each series KERNEL, with this machine's user space or with that of the Debian release SUITE.
# Prints a table of results; with -w, writes it and the verifier's counts into FILE (docs/kernels.md)
# whatever the results are. Status 0 if all passed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=vagrant/debian.sh
. "$here/debian.sh"

ALL=(5.10 6.1 6.12 6.18 7.3 6.12@trixie)
MEMORY=768
LIMIT=3600

usage="usage: vm-test.sh [-w FILE] quick|full all|KERNEL[@SUITE]..."
document=
while getopts w: option; do
	case $option in
	w) document=$OPTARG ;;
	*) die "$usage" ;;
	esac
done
shift $((OPTIND - 1))
extent=${1:-}
if [[ $extent != quick && $extent != full ]] || (($# < 2)); then
	die "$usage"
fi
shift
if [[ $* == all ]]; then
	set -- "${ALL[@]}"
fi
LOGS=$CACHE/logs/$extent

# conclude MACHINE RESULT SECONDS WHAT: leaves the result of a machine in LOGS.
conclude() {
	printf '%-12s %-7s %5d s  %s\n' "$@" >"$LOGS/$1.result"
}

# test_machine MACHINE [ROOT]: leaves its log, rows and result in LOGS.
test_machine() {
	local machine=$1 root=${2:-} python=.venv/bin/python result=passed log=$LOGS/$1 tests
	local options=(-m "$MEMORY" -t "$LIMIT" -o "$log.rows")
	if [[ $root ]]; then
		options+=(-r "$root")
		python=/opt/venv/bin/python
	fi
	SECONDS=0
	"$here/boot.sh" "${options[@]}" "${machine%@*}" tests/vm/suite.sh "$extent" "$python" 2>&1 |
		tee "$log.log" | sed -u "s/^/$machine: /" || result=failed
	# pytest's last line, or the last line of what failed before it.
	tests=$(grep -E '^[0-9]+ (passed|failed|skipped|error).* in ' "$log.log" ||
		grep -v '^\[' "$log.log" || true)
	conclude "$machine" "$result" "$SECONDS" "${tests##*$'\n'}"
}

# Downloads and installations one after another, before anything runs beside anything. What one
# machine lacks keeps no other from running.
mkdir -p "$LOGS"
exec {lock}>"$LOGS/lock"
flock -n "$lock" || die "another one is at work in $LOGS"
need_qemu
declare -A roots
for machine; do
	rm -f "$LOGS/$machine".{log,rows,result}
	touch "$LOGS/$machine".{log,rows}
	root=
	echo "$machine: getting what it boots"
	if ! {
		"$here/fetch-kernel.sh" "${machine%@*}" >/dev/null &&
			{ [[ $machine != *@* ]] || root=$("$here/user-space.sh" "${machine#*@}"); }
	} 2>"$LOGS/$machine.log"; then
		conclude "$machine" failed 0 "$(tail -n 1 "$LOGS/$machine.log")"
	fi
	roots[$machine]=$root
done
for machine; do
	[[ ! -e $LOGS/$machine.result ]] || continue
	while (($(jobs -rp | wc -l) >= ${JOBS:-1})); do
		wait -n || true
	done
	test_machine "$machine" "${roots[$machine]}" &
done
wait

checkout=${here%/*}
[[ ! $document ]] || "$checkout/.venv/bin/python" "$checkout/tests/vm/tables.py" "$document" "$LOGS" "$@"
status=0
for machine; do
	cat "$LOGS/$machine.result"
	[[ $(awk '{ print $2 }' "$LOGS/$machine.result") == passed ]] || status=1
done
exit "$status"
