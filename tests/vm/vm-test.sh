#!/bin/bash
# vm-test.sh [-w FILE] quick|full all|KERNEL[@SUITE]...
#
# Runs tests/vm/suite.sh in virtual machines, JOBS (default 1) at a time, each for LIMIT seconds at
# most (default 3600). Each boots the newest Debian kernel of a series KERNEL, with the user space
# of this machine or of the release SUITE.
# Prints a table of results. With -w, writes it and the verifier's counts to FILE (docs/kernels.md),
# also if a machine failed. Exits with status 0 if all passed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/vm/debian.sh
. "$here/debian.sh"

ALL=(5.10 6.1 6.12 6.18 7.3 6.12@trixie)
MEMORY=768
LIMIT=${LIMIT:-3600}

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

# conclude MACHINE RESULT SECONDS TEXT: writes the result of a machine to LOGS.
conclude() {
	printf '%-12s %-7s %5d s  %s\n' "$@" >"$LOGS/$1.result"
}

# test_machine MACHINE [ROOT]: boots a machine and writes its log, rows and result to LOGS.
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
	# The last line of each pytest, or of whatever failed before the first one.
	tests=$(grep -E '^[0-9]+ (passed|failed|skipped|error).* in ' "$log.log" ||
		grep -v '^\[' "$log.log" | tail -n 1 || true)
	conclude "$machine" "$result" "$SECONDS" "${tests//$'\n'/; }"
}

# Download and install one after another, before machines run at the same time. If that fails for
# one machine, the others still run.
mkdir -p "$LOGS"
exec {lock}>"$LOGS/lock"
flock -n "$lock" || die "another vm-test.sh uses $LOGS; wait until it ends"
need_qemu
declare -A roots
for machine; do
	rm -f "$LOGS/$machine".{log,rows,result}
	touch "$LOGS/$machine".{log,rows}
	root=
	echo "$machine: fetching its kernel and user space"
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

checkout=${here%/*/*}
[[ ! $document ]] || "$checkout/.venv/bin/python" "$checkout/tests/vm/tables.py" "$document" "$LOGS" "$@"
status=0
for machine; do
	cat "$LOGS/$machine.result"
	[[ $(awk '{ print $2 }' "$LOGS/$machine.result") == passed ]] || status=1
done
exit "$status"
