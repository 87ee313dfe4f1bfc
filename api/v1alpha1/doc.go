// Package v1alpha1 is the ChatCluster API: its types, defaults, validation rules and the
// names of conditions and reasons. It knows Kubernetes' API types and nothing of the
// operator that acts on them.
//
// +kubebuilder:object:generate=true
// +groupName=chatcluster.dev
package v1alpha1

//go:generate go tool -modfile=../../hack/tools/go.mod controller-gen object paths=.

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "chatcluster.dev", Version: "v1alpha1"}

// AddToScheme registers the types of this package.
var AddToScheme = schemeBuilder.AddToScheme

var schemeBuilder = runtime.NewSchemeBuilder(func(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &ChatCluster{}, &ChatClusterList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
})
