# `make help` lists the targets. `sudo make demo` and `sudo make test` each work on a fresh machine,
# because both set up everything first.
PYTHON  := /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
APT     := python3-bpfcc python3-venv python3-seccomp iproute2 openssl curl nmap masscan zmap hping3 \
	fping arp-scan tcpdump ethtool rsyslog rsyslog-relp rsyslog-gnutls rsyslog-openssl logrotate \
	iperf3 clang-format systemd dropbear-bin ldap-utils inetutils-telnet
COMPILER := python3-mypy python3-setuptools python3-dev gcc
EXTENSION := agent/deckwire/extension
APTGET  := DEBIAN_FRONTEND=noninteractive apt-get

.PHONY: help setup demo schema test test-oldest test-programs test-compiled compiled pure \
	delivery-test man deb deb-test lint bench bench-flood clean fuzz differential vm-test vm-matrix \
	ci-vm vagrant-test

## setup: install the Debian packages and make .venv (most targets do this first)
setup: $(VENV)/.installed $(VENV)/.kept

## help: list the targets
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | \
		awk -F'\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

# The venv uses Debian's Python with its site packages, because BCC's bindings are a Debian package.
# pip installs the newest version of everything else, also if Debian's package is on the machine.
# The byte code is compiled here, because the service may not write next to the sources.
$(VENV)/.installed: pyproject.toml Makefile
	@for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then $(APTGET) update -qq && $(APTGET) install -y -qq --no-install-recommends $$missing; fi
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -U --upgrade-strategy eager -e '.[dev]'
	$(BIN)/python -m compileall -q agent
	@touch $@

# The programs, compiled once, so that a start needs no compiler. Edited sources are compiled at each
# start until this is done again.
$(VENV)/.kept: $(VENV)/.installed $(shell find bpf -name '*.[ch]') $(wildcard agent/deckwire/loader/*.py)
	$(BIN)/python -m deckwire.loader.keep
	@touch $@

## demo: attack a lab in network namespaces and show the events
demo: setup
	$(BIN)/deckwire demo

## test: run the whole test suite, several modules at the same time (JOBS=3)
# A module stays in one process, because its tests share a lab. Many tests wait for real time.
test: JOBS ?= 3
test: setup
	tests/unpack.sh
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

## test-oldest: test what uses Python packages with the oldest allowed versions
# These are Debian 12's, unpacked into .oldest but not installed. ARGS are arguments for pytest.
test-oldest: setup
	$(BIN)/python -m tests.oldest $(ARGS)

## test-programs: test with real clients of SSH, HTTP and others, which it installs
test-programs: setup
	$(APTGET) install -y -qq --no-install-recommends openssh-client wget hydra gobuster \
		golang-go smbclient freerdp2-x11 xvfb xauth redis-tools postgresql-client \
		default-mysql-client mosquitto-clients
	$(BIN)/python -m pip install -q --disable-pip-version-check paramiko asyncssh
	$(BIN)/python -m pytest -q -rs tests/netns/test_live_ssh.py tests/netns/test_live_http.py \
		tests/netns/test_live_payload.py

## compiled: compile the hot modules where they are, with Debian's mypyc, until `make pure`
# An edited source runs itself again, and with it all others. `deckwire --version` names the form.
compiled: setup
	@for p in $(COMPILER); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then $(APTGET) update -qq && $(APTGET) install -y -qq --no-install-recommends $$missing; fi
	$(PYTHON) deploy/compile.py . $(EXTENSION)

## pure: remove the compiled modules, so that the sources run
pure:
	rm -rf $(EXTENSION)

## test-compiled: run the whole test suite with compiled modules, then remove them (JOBS=3)
# ARGS are arguments for pytest, such as a folder of tests.
test-compiled: JOBS ?= 3
test-compiled: compiled
	tests/unpack.sh
	DECKWIRE_FORM=compiled $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS); \
		status=$$?; rm -rf $(EXTENSION); exit $$status

## delivery-test: 100,000 lines by RELP and by HTTPS, while sender and receiver are killed
delivery-test: setup
	DECKWIRE_DELIVERY_LINES=100000 $(BIN)/python -m pytest -q tests/output/test_delivery.py

## man: write the man pages deckwire(1) and deckwire.toml(5) into build/man
man: setup
	$(BIN)/python -m deckwire.manual build/man

## deb: build the Debian package into dist/, from Debian's archive alone
deb:
	deploy/make-deb.sh dist

## deb-test: install, use, upgrade and remove the package on Debian 12 and 13, and try the wheel
deb-test: setup deb
	tests/deb/deb-test.sh dist/deckwire_*.deb

## schema: write the tables of docs/events.md and docs/schema from the catalogue of events
schema: setup
	$(BIN)/python -m tests.schema.write

# Private words of this project for things that have a standard name (docs/development.md).
PRIVATE_WORDS := tell|tells|telling|told|teller|stray|strays|hides|hiding|sketch|beside
## lint: check style, types, imports and words
lint: setup
	$(BIN)/ruff check agent tests bench
	$(BIN)/ruff format --check agent tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	! git grep -nwiE '$(PRIVATE_WORDS)' -- agent bench bpf docs tests vagrant \
		README.md CHANGELOG.md
	clang-format --dry-run -Werror bpf/*.c bpf/*.h

## fuzz: fuzz every parser with coverage (SECONDS=600, TARGET=records for one parser)
# docs/fuzzing.md has the targets.
SECONDS ?= 600
fuzz: setup
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(addprefix --target ,$(TARGET))

## differential: compare with tshark, and with real receivers and TLS servers (CASES=5000 SEED=1)
# The hellos are generated, or come from real TLS libraries. A live capture is compared with what
# the TCP of a decky accepted. The last part needs ../shared.
CASES ?= 5000
SEED ?= 1
differential: setup
	$(APTGET) install -y -qq --no-install-recommends tshark gnutls-bin libnss3-tools golang-go \
		libmbedtls-dev libwolfssl-dev gcc
	$(BIN)/python -m pip install -q --disable-pip-version-check rtls==2026.9.21
	$(BIN)/python -m tests.differential.run --cases $(CASES)
	$(BIN)/python -m tests.differential.live --seed $(SEED)
	$(BIN)/python -m tests.differential.receivers --seed $(SEED)

## bench: measure what Deckwire costs (PARTS="programs rtt" for some, JSON=FILE keeps the results)
# It compares with no agent, with a no-op program and with installed sniffers (tcpdump, p0f). It
# needs a machine that does nothing else (docs/performance.md). The byte code is compiled again,
# because an edited source would be compiled at each measured start.
bench: setup
	$(BIN)/python -m compileall -q agent
	$(BIN)/python -m bench.run $(addprefix --json ,$(JSON)) $(addprefix --only ,$(PARTS))

## bench-flood: measure under floods and for MINUTES=10 of mixed traffic (PARTS, JSON as in bench)
MINUTES := 10
bench-flood: setup
	$(BIN)/python -m bench.flood --minutes $(MINUTES) $(addprefix --json ,$(JSON)) \
		$(addprefix --only ,$(PARTS))

## vm-test: test Debian's kernels in virtual machines (KERNEL=all, or KERNEL="5.10 6.12@trixie")
# The tests are those of tests/vm/suite.sh. 6.12@trixie has the user space of that Debian release.
KERNEL ?= all
vm-test: setup
	tests/vm/vm-test.sh full $(KERNEL)

## vm-matrix: test all kernels and write the tables of docs/kernels.md
vm-matrix: setup
	JOBS=2 tests/vm/vm-test.sh -w docs/kernels.md full all

## ci-vm: test an old and a new kernel in short form, for every change
ci-vm: setup
	JOBS=2 tests/vm/vm-test.sh quick 5.10 6.12

## vagrant-test: bring up a machine with vagrant and the package, attack it and check its events
# The box is made on this machine (docs/vagrant.md).
vagrant-test: setup deb
	vagrant/vagrant-test.sh

## clean: remove .venv, unpacked packages and the build files
clean:
	rm -rf $(VENV) .oldest .unpacked build dist agent/*.egg-info $(EXTENSION) \
		agent/deckwire/objects
