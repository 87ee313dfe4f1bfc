#!/usr/bin/env bash
# fuzz.sh DURATION [TARGET]: runs every fuzz target of the chat server for DURATION, or
# those whose names match the regular expression TARGET. All are run, whatever one finds.
set -euo pipefail
cd "$(dirname "$0")/.."
duration=$1 wanted=${2:-.}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE TARGET
fuzz() {
	echo "== $1: $2"
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$duration" "./$1" </dev/null 2>&1 | tee "$log" && return
	# Before 1.27 Go may take the end of its own time for a failure (go.dev/issue/75804).
	# It says so and nothing else: what a target finds comes with the input that did it.
	[[ $(grep -A1 '^--- FAIL' "$log" | tail -n1) == '    context deadline exceeded' ]] || return 1
	echo "   no finding: $duration were over, which this version of Go takes for a failure"
}

found=()
while IFS=: read -r file line; do
	target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*).*/\1/' <<<"$line")
	[[ $target =~ $wanted ]] || continue
	fuzz "${file%/*}" "$target" || found+=("${file%/*}: $target")
done < <(grep -r --include='*_test.go' '^func Fuzz' chatserver | sort)

if ((${#found[@]})); then
	printf '%s\n' "findings, whose inputs are in testdata/fuzz of the package:" "${found[@]}" >&2
	exit 1
fi
