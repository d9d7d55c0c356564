package coretest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Run runs one part until the test ends, and fails the test if the part does
// not end well then.
func Run(t testing.TB, part func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // 1: the part must be able to end alone
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Events keeps the events that parts record. The zero value is ready; its
// methods may be called concurrently.
type Events struct {
	mu    sync.Mutex
	lines []string
}

// Event keeps one event as a line: "source object type reason: message".
func (e *Events) Event(source string, about corev1.ObjectReference, kind, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lines = append(e.lines, fmt.Sprintf("%s %s %s %s: %s", source, about.Name, kind, reason, message))
}

// Lines returns all events so far in order.
func (e *Events) Lines() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

// Has tells whether some event's line contains part.
func (e *Events) Has(part string) bool {
	return slices.ContainsFunc(e.Lines(), func(line string) bool { return strings.Contains(line, part) })
}
