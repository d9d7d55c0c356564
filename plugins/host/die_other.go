//go:build !linux

package host

import "os/exec"

// isolate relies on the lifeline alone.
func isolate(*exec.Cmd) {}
