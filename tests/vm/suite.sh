#!/bin/sh
# suite.sh quick|full [PYTHON]: what a virtual machine runs in the checkout, as root.
#
# quick: the program tests, a live run and its replay. full: all tests that need a kernel, and
# the verifier's counts as rows for docs/kernels.md, in the file named in $VM_REPORT.
set -eu
extent=${1:-quick}
python=${2:-.venv/bin/python}

case $extent in
quick) tests="tests/vm tests/bpf" ;;
full)
	tests="tests/vm tests/bpf tests/kernel tests/netns"
	report=${VM_REPORT:-/dev/stdout}
	"$python" tests/vm/verifier.py >"$report"
	;;
*)
	echo "usage: suite.sh quick|full [PYTHON]" >&2
	exit 2
	;;
esac
# shellcheck disable=SC2086 # directories, no spaces
exec "$python" -m pytest -q --color=no --timeout=900 -p no:cacheprovider --durations=8 $tests
