package main

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Sweep is the kind in Go, as sweep.yaml describes it.
type Sweep struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   Spec   `json:"spec"`
	Status Status `json:"status"`
}

// Spec is what a user asks for. The schema has set the defaults.
type Spec struct {
	Image       string   `json:"image"`
	Args        []string `json:"args,omitempty"`
	Values      []string `json:"values"`
	Parallelism int32    `json:"parallelism"`
	Retries     int32    `json:"retries"`
	Suspend     bool     `json:"suspend"`
}

// Status is how it stands.
type Status struct {
	Phase              string             `json:"phase,omitempty"`
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Total              int32              `json:"total"`
	Running            int32              `json:"running"`
	Succeeded          int32              `json:"succeeded"`
	Failed             int32              `json:"failed"`
	FailedValues       []string           `json:"failedValues,omitempty"`
	CompletionTime     *metav1.Time       `json:"completionTime,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}
