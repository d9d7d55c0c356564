//go:build !linux

package spawn

import "syscall"

// tie does nothing: the end of its standard input tells a child.
func tie(*syscall.SysProcAttr) {}
