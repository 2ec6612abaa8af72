#!/bin/sh
# Installs from Debian's packages what a purpose needs and this machine lacks.
#
#   ops/setup.sh build|test|demo
#
# Says what it does; does nothing, and needs neither root nor network, when nothing is
# missing.  On another system it only checks that the libraries are there.
set -eu

purpose=${1:-test}
build='gcc make pkg-config libc6-dev libdnnl-dev libjansson-dev libyaml-dev libarchive-dev
libsqlite3-dev sqlite3 libicu-dev libturbojpeg0-dev libjpeg62-turbo-dev libpng-dev libwebp-dev
libopencc-dev libdeflate-dev librdkafka-dev libcurl4-openssl-dev libssl-dev zlib1g-dev
libmodest-dev libbrotli-dev libzstd-dev libavif-dev libgif-dev libhyperscan-dev python3-jieba
libopenmpi-dev openmpi-bin'
test="libcmocka-dev kcat"
# python3-pip only fetches pretrained weights; the demo trains from scratch without it.
demo='tuxpaint-stamps-default python3-pip'

case $purpose in
build) want=$build ;;
test) want="$build $test" ;;
demo) want="$build $demo" ;;
*)
	echo "ops/setup.sh: '$purpose' is unknown: use build, test or demo" >&2
	exit 2
	;;
esac

if ! command -v apt-get >/dev/null 2>&1; then
	echo "set-up: this is not Debian, so nothing is installed; needed are: $want" >&2
	exit 0
fi

is_installed() {
	dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}

missing=
for package in $want; do
	# Another compiler or pip than Debian's is as good.
	case $package in
	gcc) command -v cc >/dev/null 2>&1 && command -v gcc >/dev/null 2>&1 && continue ;;
	make) command -v make >/dev/null 2>&1 && continue ;;
	pkg-config) command -v pkg-config >/dev/null 2>&1 && continue ;;
	python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
	esac
	is_installed "$package" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

root=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "set-up: missing:$missing" >&2
		echo "set-up: run as root:  apt-get install --no-install-recommends$missing" >&2
		exit 1
	fi
	root=sudo
fi

echo "set-up: installing from Debian:$missing"
export DEBIAN_FRONTEND=noninteractive
install_all() {
	# shellcheck disable=SC2086  # the lists are words
	$root apt-get install -y -q --no-install-recommends "$@" >"$log" 2>&1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The lists may be old or absent: fetch them, and go on with what there is when that fails.
$root apt-get update -q >"$log" 2>&1 || echo "set-up: 'apt-get update' failed, going on with old lists" >&2
# shellcheck disable=SC2086
if install_all $missing; then
	echo "set-up: done"
	exit 0
fi
# One package that cannot be had must not keep the others away.
for package in $missing; do
	install_all "$package" && continue
	if [ "$package" = python3-pip ]; then
		echo "set-up: python3-pip cannot be installed; the demo trains from scratch" >&2
		continue
	fi
	tail -5 "$log" >&2
	echo "set-up: $package cannot be installed (see above): check the network and apt's sources" >&2
	exit 1
done
echo "set-up: done"
