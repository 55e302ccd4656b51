# shellcheck shell=bash
# Debian packages of any suite, from the mirrors that this machine uses. Other scripts source this.

CACHE=${DECKWIRE_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/deckwire-vm}
SUITES=(bullseye bookworm trixie)
BACKPORTS=trixie-backports

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# need_packages PACKAGE...: installs the packages that are missing.
need_packages() {
	local package missing=()
	for package; do
		dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
			missing+=("$package")
	done
	((${#missing[@]})) || return 0
	[[ $EUID == 0 ]] || die "missing packages: ${missing[*]}; run this as root to install them"
	echo "installing ${missing[*]}"
	mkdir -p "$CACHE"
	# A package list older than a day may name files that the mirror has removed.
	if {
		[[ -n $(find /var/lib/apt/lists -maxdepth 1 -name '*_InRelease' -mtime -1 -print -quit) ]] ||
			apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"
	} >"$CACHE/apt.log" 2>&1; then
		return
	fi
	die "apt-get cannot install ${missing[*]}: $(grep -m 1 '^E: ' "$CACHE/apt.log" || echo "see $CACHE/apt.log")"
}

# need_qemu: installs what is needed to boot a kernel and sets virtiofsd to its path. Debian 12 has
# virtiofsd in qemu's packages, later releases have a separate package.
need_qemu() {
	need_packages qemu-system-x86 seabios busybox-static cpio kmod xz-utils zstd
	virtiofsd=$(compgen -G '/usr/lib*/*/virtiofsd' || true)
	[[ $virtiofsd ]] || { need_packages virtiofsd && virtiofsd=/usr/libexec/virtiofsd; }
}

# remove_root DIRECTORY: removes a root that debootstrap made. One that was interrupted left this
# machine's /proc mounted there.
remove_root() {
	! mountpoint -q "$1/proc" || umount --recursive "$1/proc"
	rm -rf --one-file-system "$1"
}

# mirror LABEL: the address of the system's mirror with this label in its Release file.
mirror() {
	# shellcheck disable=SC2016 # apt-get expands these
	apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^$1 //p" | head -n 1
}

# other_suites: writes an apt configuration with all SUITES and exports APT_CONFIG for the commands
# after it. The system's configuration stays unchanged.
other_suites() {
	local apt=$CACHE/apt main security suite key=/usr/share/keyrings/debian-archive-keyring.gpg
	main=$(mirror Debian)
	security=$(mirror Debian-Security)
	[[ $main && $security ]] || die "no Debian mirror among this machine's package sources; add one to /etc/apt"
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	for suite in "${SUITES[@]}"; do
		echo "deb [signed-by=$key] $main $suite main"
		echo "deb [signed-by=$key] $security $suite-security main"
	done >"$apt/sources.list"
	echo "deb [signed-by=$key] $main $BACKPORTS main" >>"$apt/sources.list"
	cat >"$apt/apt.conf" <<-EOF
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$apt/lists";
		Dir::Cache "$apt/cache";
		Acquire::Languages "none";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		APT::Sandbox::User "root";
	EOF
	export APT_CONFIG=$apt/apt.conf
	[[ -n $(find "$apt/lists" -maxdepth 1 -name '*Release' -mtime -1 -print -quit) ]] ||
		apt-get -qq update -o APT::Update::Error-Mode=any 2>"$apt/log" ||
		die "cannot read the packages of ${SUITES[*]}: $(head -n 1 "$apt/log")"
}
