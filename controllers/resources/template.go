package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// Pods are replaced because somebody changed the spec, never because the operator was
// upgraded and would render them a little differently. So the template that was applied
// is kept beside the inputs it was made from. While no input changes that template is
// applied again; when one does, a new one is rendered and the input is the reason.

const (
	// AnnotationTemplate holds the templateRecord of a Deployment or StatefulSet.
	AnnotationTemplate = "chatcluster.dev/pod-template"
	// AnnotationLastRoll names the inputs that changed when pods were last replaced.
	AnnotationLastRoll = "chatcluster.dev/last-roll"
)

// templateInput is a part of the spec that pods are made from. Its name is what a
// person reads when its change replaces pods.
type templateInput struct {
	name  string
	value any
}

// templateRecord is a template and what it was made from.
type templateRecord struct {
	// Inputs are hashes of values, by name.
	Inputs   map[string]string                           `json:"inputs"`
	Template *corev1ac.PodTemplateSpecApplyConfiguration `json:"template"`
}

// podTemplate is what to apply.
type podTemplate struct {
	template *corev1ac.PodTemplateSpecApplyConfiguration
	// annotations go on the Deployment or StatefulSet, not on its pods.
	annotations map[string]string
}

// chooseTemplate keeps the recorded template or takes the rendered one. live are the
// annotations of the live object, nil if there is none.
//
// An input that the record does not name came with a newer operator. It is recorded and
// is no reason to replace pods.
func chooseTemplate(live map[string]string, inputs []templateInput, rendered *corev1ac.PodTemplateSpecApplyConfiguration) podTemplate {
	next := templateRecord{Inputs: hashes(inputs), Template: rendered}
	lastRoll := live[AnnotationLastRoll]
	if last, ok := recordedTemplate(live); ok {
		changed := changedInputs(last, inputs, next.Inputs)
		if len(changed) == 0 {
			next.Template = last.Template
		} else {
			lastRoll = strings.Join(changed, ", ")
		}
	}
	annotations := map[string]string{AnnotationTemplate: mustJSON(next)}
	if lastRoll != "" {
		annotations[AnnotationLastRoll] = lastRoll
	}
	return podTemplate{template: next.Template, annotations: annotations}
}

// ServerRoll names the inputs whose change will replace the chat servers, and RedisRoll
// those whose change will replace Redis; "" if none will.
func ServerRoll(in Input) string { return roll(in.serverAnnotations(), serverInputs(in)) }

// RedisRoll is to Redis what ServerRoll is to the chat servers.
func RedisRoll(in Input) string { return roll(in.redisAnnotations(), redisInputs(in)) }

func roll(live map[string]string, inputs []templateInput) string {
	last, ok := recordedTemplate(live)
	if !ok {
		return ""
	}
	return strings.Join(changedInputs(last, inputs, hashes(inputs)), ", ")
}

// changedInputs are named in the order of inputs.
func changedInputs(last templateRecord, inputs []templateInput, now map[string]string) []string {
	var changed []string
	for _, input := range inputs {
		if before, recorded := last.Inputs[input.name]; recorded && before != now[input.name] {
			changed = append(changed, input.name)
		}
	}
	return changed
}

func recordedTemplate(annotations map[string]string) (templateRecord, bool) {
	var r templateRecord
	raw, ok := annotations[AnnotationTemplate]
	if !ok || json.Unmarshal([]byte(raw), &r) != nil || r.Template == nil {
		return templateRecord{}, false
	}
	return r, true
}

// UpdateAvailable tells that this operator would make the pods of the chat servers or of
// Redis differently than they are, and waits for a change of the spec to do so.
func UpdateAvailable(in Input) bool {
	return in.Observed.Server != nil && outdated(in.Observed.Server.Annotations, renderServer(in, in.Settings.ServerImage)) ||
		in.Observed.Redis != nil && outdated(in.Observed.Redis.Annotations, renderRedis(in, in.Settings.RedisImage))
}

func outdated(live map[string]string, rendered *corev1ac.PodTemplateSpecApplyConfiguration) bool {
	last, ok := recordedTemplate(live)
	if !ok {
		return false
	}
	var a, b any
	mustParse(mustJSON(last.Template), &a)
	mustParse(mustJSON(rendered), &b)
	return !reflect.DeepEqual(a, b)
}

// imageOf is the image asked for; or else the one that runs, so that a new operator with
// a new default replaces no pod; or else the operator's default.
func imageOf(asked string, live map[string]string, fallback string) string {
	if asked != "" {
		return asked
	}
	if last, ok := recordedTemplate(live); ok && last.Template.Spec != nil {
		for _, c := range last.Template.Spec.Containers {
			if c.Image != nil {
				return *c.Image
			}
		}
	}
	return fallback
}

func hashes(inputs []templateInput) map[string]string {
	out := make(map[string]string, len(inputs))
	for _, input := range inputs {
		sum := sha256.Sum256([]byte(mustJSON(input.value)))
		out[input.name] = hex.EncodeToString(sum[:6])
	}
	return out
}

// mustJSON is for values of our own types, which always marshal.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marshalling %T: %v", v, err))
	}
	return string(b)
}

func mustParse(s string, into any) {
	if err := json.Unmarshal([]byte(s), into); err != nil {
		panic(fmt.Sprintf("parsing what was just marshalled: %v", err))
	}
}
