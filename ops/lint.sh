#!/bin/sh
# Checks that need no build: include direction, sizes, and what the tools at hand say.
#
# Errors (exit code 1): an include of a later folder, a cppcheck error.  Reported only, as they
# are aims: lines over 100 columns, functions over 80 lines, files over 600, clang-format.
set -u

errors=0
sources=$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' 2>/dev/null || find . -name '*.[ch]')

# One direction: a folder includes itself and the folders before it.
order='ops ingest clean shards loader train eval'
before=
for folder in $order; do
	before="$before $folder"
	allowed=$(echo "$before" | sed 's/^ //; s/ /|/g')
	wrong=$(echo "$sources" | grep "^$folder/" | xargs -r grep -nE '^#include "' /dev/null |
		grep -vE "#include \"($allowed)/")
	if [ "$folder" = train ]; then
		# eval/metrics is pure (no input or output), so training may measure with it.
		wrong=$(echo "$wrong" | grep -v '#include "eval/metrics/')
	fi
	if [ -n "$wrong" ]; then
		echo "$wrong" | sed 's/$/   <- against the include direction/'
		errors=$((errors + 1))
	fi
done

# Inside train/: tensor before backend before nn before dist before model ...
train_order='tensor backend nn dist model moco optim checkpoint'
later=$train_order
for part in $train_order; do
	later=$(echo "$later" | sed "s/^$part *//")
	[ -d "train/$part" ] || continue
	case $part in
	moco | optim) later_here=checkpoint ;;
	*) later_here=$later ;;
	esac
	for other in $later_here; do
		wrong=$(echo "$sources" | grep "^train/$part/" |
			xargs -r grep -nE "^#include \"train/$other/" /dev/null)
		if [ -n "$wrong" ]; then
			echo "$wrong" | sed 's/$/   <- against the include direction/'
			errors=$((errors + 1))
		fi
	done
done

# Columns (tabs are eight), function and file lengths.
# shellcheck disable=SC2086  # the list is words
long=$(for f in $sources; do
	expand "$f" | LC_ALL=C awk -v f="$f" '{ gsub(/[\200-\277]/, "")
		if (length($0) > 100) print f ":" NR ": " length($0) " columns" }'
done)
[ -z "$long" ] || echo "$long"
for f in $sources; do
	awk -v f="$f" 'END { if (NR > 600) print f ": " NR " lines (aim: 600)" }' "$f"
	awk -v f="$f" '/^\{/ { start = NR } /^\}/ { if (start && NR - start - 1 > 80)
		print f ":" start ": a function of " NR - start - 1 " lines (aim: 40, at most 80)"
		start = 0 }' "$f"
done

# Processors without AVX-512 compile other code from the same text: warnings there are errors too.
if [ "$(uname -m)" = x86_64 ] && command -v cc >/dev/null 2>&1; then
	echo "$sources" | grep '\.c$' | xargs grep -lE 'vector_size|backend/cpu/vec\.h|__AVX' |
		grep -v '^tests/' | xargs -n 1 -P "$(nproc)" cc -I. -D_GNU_SOURCE -std=c11 -O2 \
		-march=x86-64-v2 -fopenmp -Wall -Wextra -Werror -S -o /dev/null || errors=$((errors + 1))
fi

if command -v clang-format >/dev/null 2>&1; then
	n=0
	for f in $sources; do
		clang-format --dry-run -Werror "$f" >/dev/null 2>&1 || n=$((n + 1))
	done
	echo "clang-format: $n of $(echo "$sources" | wc -l) files differ from .clang-format (a hint only)"
fi
if command -v cppcheck >/dev/null 2>&1; then
	# shellcheck disable=SC2086
	cppcheck -q -j "$(nproc)" --std=c11 --language=c -I. --enable=warning \
		--inline-suppr --suppress=missingInclude --suppress=missingIncludeSystem \
		--suppress=unknownMacro --suppress=uninitvar --suppress=memleak --error-exitcode=1 \
		$(echo "$sources" | grep '\.c$' | grep -v '^tests/') || errors=$((errors + 1))
fi

[ "$errors" = 0 ] && echo "lint: clean"
[ "$errors" = 0 ]
