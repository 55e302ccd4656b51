# Everything a user needs: `sudo make demo` and `sudo make test` each work alone on a fresh machine.
PYTHON  := /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
APT     := python3-bpfcc python3-venv iproute2 openssl curl nmap masscan zmap hping3 tcpdump ethtool rsyslog logrotate iperf3 clang-format systemd
APTGET  := DEBIAN_FRONTEND=noninteractive apt-get

.PHONY: setup demo test test-oldest lint bench bench-flood clean fuzz differential \
	vm-test vm-matrix ci-vm vagrant-test

setup: $(VENV)/.installed

# The venv is Debian's own Python with its site packages, because BCC's bindings are a Debian package.
# All else in it is the newest there is, whatever Debian's packages of it the machine has (test-oldest).
# Byte code is made here, as pip does for what it copies: a service cannot write it beside the sources.
$(VENV)/.installed: pyproject.toml Makefile
	@for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then $(APTGET) update -qq && $(APTGET) install -y -qq --no-install-recommends $$missing; fi
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -U --upgrade-strategy eager -e '.[dev]'
	$(BIN)/python -m compileall -q agent
	@touch $@

demo: setup
	$(BIN)/deckwire demo

test: setup
	$(BIN)/python -m pytest

# The tests that need no live traffic, with the oldest packages that pyproject.toml allows: Debian 12's,
# unpacked into .oldest and installed nowhere. ARGS are pytest's.
test-oldest: setup
	$(BIN)/python tests/oldest.py $(ARGS)

lint: setup
	$(BIN)/ruff check agent tests
	$(BIN)/ruff format --check agent tests
	$(BIN)/mypy
	clang-format --dry-run -Werror bpf/*.c bpf/*.h

# Coverage-guided fuzzing of every parser (docs/fuzzing.md); TARGET=records runs one harness alone.
SECONDS ?= 600
fuzz: setup
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(addprefix --target ,$(TARGET))

# Our JA3 and JA3S against tshark's, on generated hellos and on those of real TLS libraries.
CASES ?= 5000
differential: setup
	$(APTGET) install -y -qq --no-install-recommends tshark gnutls-bin libnss3-tools golang-go
	$(BIN)/python -m pip install -q --disable-pip-version-check rtls==2026.9.21
	$(BIN)/python tests/differential/run.py --cases $(CASES)

# What it costs, against no agent and a no-op program (docs/performance.md); needs a quiet machine.
# JSON=file keeps the results, PARTS="programs rtt" measures these alone. The sniffers that it
# compares with (tcpdump, p0f) are used where they are installed. Byte code anew: a source that was
# edited since would be compiled at each measured start.
bench: setup
	$(BIN)/python -m compileall -q agent
	$(BIN)/python tests/bench/run.py $(addprefix --json ,$(JSON)) $(addprefix --only ,$(PARTS))

# The same under floods, with 100,000 connections, and for MINUTES of mixed traffic.
MINUTES := 10
bench-flood: setup
	$(BIN)/python tests/bench/flood.py --minutes $(MINUTES) $(addprefix --json ,$(JSON)) \
		$(addprefix --only ,$(PARTS))

# The tests of tests/vm/suite.sh on Debian's kernels in virtual machines (docs/kernels.md):
# KERNEL=all, or a list of 5.10, 6.12 and the like; 6.12@trixie has the user space of that Debian.
# vm-matrix runs all of them and writes the tables there; ci-vm is the short form for every change.
KERNEL ?= all
vm-test: setup
	vagrant/vm-test.sh full $(KERNEL)
vm-matrix: setup
	JOBS=2 vagrant/vm-test.sh -w docs/kernels.md full all
ci-vm: setup
	JOBS=2 vagrant/vm-test.sh quick 5.10 6.12

# A whole machine by `vagrant up`, attacked and checked, with a box made here (docs/vagrant.md).
vagrant-test: setup
	vagrant/vagrant-test.sh

clean:
	rm -rf $(VENV) .oldest build dist agent/*.egg-info
