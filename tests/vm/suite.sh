#!/bin/sh
# suite.sh quick|full [PYTHON]: the tests that a virtual machine runs in the checkout, as root.
#
# Writes the verifier's counts to the file named in $VM_REPORT, as rows for docs/kernels.md. Then it
# runs a live test with its replay, and the tests that need a kernel: those of TLS records only
# (quick), or all of them and those of privileges (full).
set -eu
extent=${1:-quick}
python=${2:-.venv/bin/python}

case $extent in
quick) tests="tests/vm tests/bpf/test_tls_records.py" ;;
full) tests="tests/vm tests/bpf tests/kernel tests/netns/test_live_privileges.py" ;;
*)
	echo "usage: suite.sh quick|full [PYTHON]" >&2
	exit 2
	;;
esac
"$python" tests/vm/verifier.py >"${VM_REPORT:-/dev/stdout}"
# shellcheck disable=SC2086 # directories, no spaces
exec "$python" -m pytest -q --color=no --timeout=900 -p no:cacheprovider --durations=8 $tests
