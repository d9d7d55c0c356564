//go:build !linux

package host

import "os/exec"

// isolate relies on the lifeline alone.
func isolate(*exec.Cmd) (confined bool) { return false }

// refusesNamespace says no: there are none.
func refusesNamespace(error) bool { return false }

// isolateGuard is not called: there are no guards.
func isolateGuard(*exec.Cmd) {}
