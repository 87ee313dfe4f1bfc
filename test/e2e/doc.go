// Package e2e tests ChatCluster on a real Kubernetes, from where its users are:
// it applies resources, connects clients to the router, verifies certificates,
// kills pods, and asks whether the people in the conversation noticed.
//
// It must know nothing of how the operator or the chat server work inside; what
// it may use is the API's types, the wire protocol and the clients of both.
//
// The tests need the local cluster with the operator in it, and are skipped
// without: hack/e2e.sh (make e2e) brings both up and says where they are.
package e2e
