//go:build !linux

package host

import "os/exec"

// dieWithParent relies on the lifeline alone.
func dieWithParent(*exec.Cmd) {}
