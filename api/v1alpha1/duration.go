package v1alpha1

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a span of time written in hours, minutes and seconds, such as 1h30m.
//
// It is a type of its own, and not metav1.Duration, because only then can the schema
// bound its length, without which the API server refuses rules about it as too costly.
//
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=32
type Duration struct {
	time.Duration `json:"-"`
}

// MarshalJSON writes the duration as Go prints it.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(d.String())
}

// UnmarshalJSON reads what time.ParseDuration reads.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as \"1h30m\": %w", err)
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("a duration is written in hours, minutes and seconds such as 1h30m: %w", err)
	}
	d.Duration = parsed
	return nil
}
