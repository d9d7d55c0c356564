package executor

// Sandboxing says what a child gives up once it has started. The zero value
// gives up all that this system lets it.
type Sandboxing struct {
	// NoFilter leaves out the filter of system calls.
	NoFilter bool `json:"noFilter,omitempty"`
}
