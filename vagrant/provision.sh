#!/bin/bash
# provision.sh: sets up the virtual machine from the checkout in /vagrant. Runs in it, as root.
# Run it again to bring the machine up to date.
set -euo pipefail
checkout=/vagrant
here=$checkout/vagrant
fleet=/etc/deckwire-fleet

mapfile -t packages < <(grep -v '^#' "$here/packages")
# If all packages are installed, no network is needed.
if ! dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>/dev/null |
	awk '$1 == "installed" { n++ } END { exit n != '"${#packages[@]}"' }'; then
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}"
fi
# The services run on the deckies, not on the host.
systemctl disable -q --now nginx opensmtpd

echo "the agent"
deb=$(compgen -G "$checkout/dist/deckwire_*.deb" || true)
[[ $deb ]] || deb=$("$checkout/deploy/make-deb.sh" /var/tmp/deckwire)
# The package of an unchanged version is installed again too. The settings here are not the
# package's.
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --reinstall --allow-downgrades \
	--no-install-recommends -o Dpkg::Options::=--force-confold "$deb"
install -D -m 644 "$here/fleet/deckwire.toml" "$here/fleet/deckies.txt" -t /etc/deckwire
# The log receiver is on this host. An emulated CPU may take longer than 90 s to verify the programs.
install -D -m 644 /dev/stdin /etc/systemd/system/deckwire.service.d/local.conf <<-CONF
	[Unit]
	Requires=deckwire-fleet.service
	After=deckwire-fleet.service
	[Service]
	TimeoutStartSec=10min
	IPAddressDeny=any
	IPAddressAllow=localhost
CONF
install -m 644 "$here/fleet/rsyslog.conf" /etc/rsyslog.d/10-deckwire.conf

echo "the deckies"
install -d "$fleet"
install -m 644 "$here"/fleet/{nginx,sshd,smtpd}.conf "$fleet"
for name in web-01 mail-01; do
	[[ -e $fleet/$name.pem ]] || openssl req -x509 -newkey rsa:2048 -nodes -days 825 \
		-subj "/O=Example Corp/CN=$name.example.com" -addext "subjectAltName=DNS:$name.example.com" \
		-keyout "$fleet/$name.key" -out "$fleet/$name.pem" 2>/dev/null
done
[[ -e $fleet/ssh_host_key ]] || ssh-keygen -q -t ed25519 -N '' -f "$fleet/ssh_host_key"
install -m 755 "$here/fleet/network.sh" /usr/local/sbin/deckwire-fleet
install -m 755 "$here/acceptance.py" /usr/local/bin/deckwire-acceptance
install -m 644 "$here"/fleet/*.service /etc/systemd/system/

echo "start"
systemctl daemon-reload
systemctl enable -q deckwire-fleet decky-web decky-shell decky-mail deckwire
systemctl restart rsyslog deckwire-fleet decky-web decky-shell decky-mail deckwire
