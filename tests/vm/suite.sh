#!/bin/sh
# suite.sh quick|full [PYTHON]: what a virtual machine runs in the checkout, as root.
#
# The verifier's counts, as rows for docs/kernels.md in the file named in $VM_REPORT; a live run and
# its replay; and of the tests that need a kernel, those of TLS sampling (quick) or all (full).
set -eu
extent=${1:-quick}
python=${2:-.venv/bin/python}

case $extent in
quick) tests="tests/vm tests/bpf/test_tls_sampling.py" ;;
full) tests="tests/vm tests/bpf tests/kernel" ;;
*)
	echo "usage: suite.sh quick|full [PYTHON]" >&2
	exit 2
	;;
esac
"$python" tests/vm/verifier.py >"${VM_REPORT:-/dev/stdout}"
# shellcheck disable=SC2086 # directories, no spaces
exec "$python" -m pytest -q --color=no --timeout=900 -p no:cacheprovider --durations=8 $tests
