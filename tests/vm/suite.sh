#!/bin/sh
# suite.sh quick|full [PYTHON]: the tests that a virtual machine runs in the checkout, as root.
#
# Writes the verifier's counts to the file named in $VM_REPORT, as rows for docs/kernels.md. Then it
# runs the tests that need a kernel: those of TLS records only (quick), or all of them (full). A live
# run and its replay follow, in the full form also the tests of privileges. These run without BCC, so
# they load the programs that were compiled before, and compile nothing.
set -eu
extent=${1:-quick}
python=${2:-.venv/bin/python}
pytest="-m pytest -q --color=no --timeout=3600 -p no:cacheprovider --durations=8"

case $extent in
quick) kernel=tests/bpf/test_tls_records.py live=tests/vm ;;
full)
	kernel="tests/bpf tests/kernel"
	live="tests/vm tests/netns/test_live_privileges.py"
	;;
*)
	echo "usage: suite.sh quick|full [PYTHON]" >&2
	exit 2
	;;
esac
status=0
"$python" tests/vm/verifier.py >"${VM_REPORT:-/dev/stdout}"
# shellcheck disable=SC2086 # options and paths without spaces
"$python" $pytest $kernel || status=$?
echo "--- without BCC"
# shellcheck disable=SC2086
tests/vm/without-bcc.sh "$python" $pytest $live || status=$?
exit "$status"
