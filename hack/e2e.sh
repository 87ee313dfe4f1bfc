#!/usr/bin/env bash
# e2e.sh [ARGUMENT...]: the end-to-end tests on the local cluster, which it brings
# up with the operator if need be and leaves running. Arguments are go test's, such
# as -run TestIdle; E2E_IDLE=10m watches the idle operator for that long. The sample
# chat of make up is gone afterwards: the README's commands are tried on it.
set -euo pipefail
cd "$(dirname "$0")/.."

hack/up.sh operator
export E2E_KUBECONFIG=${XDG_CACHE_HOME:-$HOME/.cache}/chatcluster/local/kubeconfig
export E2E_AUDIT_LOG=${E2E_AUDIT_LOG:-/var/lib/chatcluster-local/logs/audit.log}
go test -count=1 -timeout 40m -v ./test/e2e "$@"
