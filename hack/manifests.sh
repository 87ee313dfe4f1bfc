#!/usr/bin/env bash
# Generates the CRD and the operator's rights from the markers in the code, and copies
# both to where the chart reads them.
set -euo pipefail
cd "$(dirname "$0")/.."

controller-gen() { go tool -modfile=hack/tools/go.mod controller-gen "$@"; }

controller-gen crd paths=./api/... output:crd:dir=config/crd/bases
controller-gen rbac:roleName=chatcluster-operator paths=./controllers/... output:rbac:dir=config/rbac
cp config/crd/bases/chatcluster.dev_chatclusters.yaml config/rbac/role.yaml charts/chatcluster-operator/files/
