#!/usr/bin/env bash
# packages.sh PACKAGE...: makes sure that Debian packages are installed, and
# says what to do where they cannot be.
set -euo pipefail

missing=()
for package in "$@"; do
	case $package in
	redis-server) command -v redis-server >/dev/null || missing+=("$package") ;;
	*) dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package") ;;
	esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "Missing: ${missing[*]}. Install them with your system's package manager (on Debian, as root: apt-get install ${missing[*]}) and run this again." >&2
	exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A package's own service is not wanted: only its programs are.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
