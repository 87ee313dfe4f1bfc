#!/usr/bin/env bash
# up.sh [operator|sample]: a real Kubernetes on this machine with the operator in
# it, and (sample, the default) the sample chat, Ready. Keeps what is there, so it
# can be run again at any time, also after it was interrupted. Says how long each
# step took, and at the end how to go on.
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-sample}

cache=${XDG_CACHE_HOME:-$HOME/.cache}/chatcluster
ca=$cache/local/ca.crt
export KUBECONFIG=$cache/local/kubeconfig
system=chatcluster-system
namespace=chat
started=$(date +%s%N)
doing="begin"

elapsed() { # SINCE
	awk -v ns=$(($(date +%s%N) - $1)) 'BEGIN { printf "%.1fs", ns / 1e9 }'
}

# step WHAT COMMAND...: runs it, and tells how long it took.
step() {
	local at
	at=$(date +%s%N)
	doing=$1
	shift
	"$@"
	printf '%-52s %s\n' "$doing" "$(elapsed "$at")"
}

building=
logs=$(mktemp -d)
finish() {
	local status=$?
	[ -z "$building" ] || kill "$building" 2>/dev/null || true
	if [ $status -ne 0 ]; then
		printf '\nmake up failed at this step: %s. What is above tells why; run it again to go on from there.\n' "$doing" >&2
	fi
	rm -rf "$logs"
}
trap finish EXIT

localcluster() { go run -C hack ./localcluster "$@"; }
helm() { go run -modfile=hack/kubernetes/go.mod helm.sh/helm/v4/cmd/helm "$@"; }

# build compiles what the images are made of, and the tool that installs.
build() {
	make --no-print-directory build
	helm version --short
}

built() {
	wait "$building" || { building=; cat "$logs/build" >&2; return 1; }
	building=
}

# The tag of the images stays the same, so that pods are replaced when what is
# in them has changed: the binary's digest is an annotation of theirs.
digest() { sha256sum "bin/$1" | cut -c1-16; }

install_operator() {
	helm upgrade --install chatcluster-operator charts/chatcluster-operator \
		--namespace "$system" --create-namespace --hide-notes --force-conflicts \
		--set image.tag=dev --set serverImage.tag=dev --set redisImage=chatcluster/redis:local \
		--set-string "podAnnotations.chatcluster\.dev/binary=$(digest operator)" \
		--wait --timeout 3m >"$logs/helm" 2>&1 || { cat "$logs/helm" >&2; show "$system"; return 1; }
}

# renew_servers replaces chat servers that run another binary than was just loaded.
renew_servers() {
	local patch
	patch='{"spec":{"template":{"metadata":{"annotations":{"chatcluster.dev/binary":"'$(digest chatserver)'"}}}}}'
	kubectl get deployments --all-namespaces --no-headers -o custom-columns=:.metadata.namespace,:.metadata.name \
		-l app.kubernetes.io/managed-by=chatcluster-operator,app.kubernetes.io/component=server |
		while read -r ns name; do
			kubectl patch deployment -n "$ns" "$name" -p "$patch" >/dev/null
		done
}

sample_ready() {
	kubectl apply -f - >/dev/null <<-END
		apiVersion: v1
		kind: Namespace
		metadata: {name: $namespace, labels: {pod-security.kubernetes.io/enforce: restricted}}
	END
	kubectl apply --server-side --force-conflicts -n "$namespace" -f config/samples/local.yaml >/dev/null
	if ! kubectl wait -n "$namespace" chatcluster/acme --for=condition=Ready --timeout=3m >/dev/null; then
		show "$namespace"
		return 1
	fi
}

# show is what a person would ask for about a namespace where something failed.
show() {
	{
		kubectl get chatclusters -n "$1" -o wide || true
		kubectl get pods -n "$1" || true
		kubectl get events -n "$1" --sort-by=.lastTimestamp | tail -20 || true
	} >&2
}

next_steps() {
	local router
	router=$(kubectl get gateway -n local-router local -o 'jsonpath={.status.addresses[0].value}')
	echo "$router" >"$cache/local/address"
	cat <<-END

		The chat is at https://chat.example.com, which on this machine is $router.
		Accounts to try: alice/password123, bob/letmein, dave/123456.

		Chat in a terminal, and in a second one as bob:
		  openssl s_client -quiet -verify_return_error -connect $router:1222 -servername chat.example.com -CAfile $ca
		    LOGIN alice password123
		    /join Lobby
		    Hello!

		Chat with a WebSocket client (the name has to lead here first):
		  echo '$router chat.example.com' | sudo tee -a /etc/hosts
		  token=\$(curl -sS --cacert $ca -H 'Content-Type: application/json' -d '{"username":"dave","password":"123456"}' https://chat.example.com/login | sed 's/.*"token":"\([^"]*\)".*/\1/')
		  npx wscat --ca $ca -H "Authorization: Bearer \$token" -c wss://chat.example.com/
		    {"type":"message","message":"Hello!"}

		Look at it:
		  export KUBECONFIG=$KUBECONFIG PATH=\$PATH:$cache/bin
		  kubectl get chat -n $namespace
		  kubectl describe chat -n $namespace acme
		  kubectl get pods -n $namespace -w

		Scale it:
		  kubectl scale chat -n $namespace acme --replicas=3

		make down removes all of it.
	END
}

case $want in
operator | sample) ;;
*) echo "usage: hack/up.sh [operator|sample]" >&2 && exit 2 ;;
esac

# Ours come after the cluster's programs: both are made of much the same packages,
# which two builds at once would each compile.
step "programs of the cluster" localcluster build
build >"$logs/build" 2>&1 &
building=$!
step "cluster" localcluster up
command -v kubectl >/dev/null || PATH=$PATH:$cache/bin
step "binaries of operator and chat server" built
step "images" make --silent images
step "operator" install_operator
renew_servers
if [ "$want" = sample ]; then
	applied=$(date +%s%N)
	step "sample, from apply to Ready" sample_ready
	ready=$(elapsed "$applied")
	next_steps
	printf '\nmake up took %s; the sample was Ready %s after it was applied.\n' "$(elapsed "$started")" "$ready"
else
	printf 'The cluster and the operator are up after %s.\n' "$(elapsed "$started")"
fi
