#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the chat server for DURATION.
set -euo pipefail
cd "$(dirname "$0")/.."

grep -rl --include='*_test.go' '^func Fuzz' chatserver | while read -r file; do
	for target in $(grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -d' ' -f2); do
		echo "== ${file%/*}: $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./${file%/*}"
	done
done
