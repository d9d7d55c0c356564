package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/meter"
)

// phase is how far an instance had come when it ended.
type phase int

const (
	instantiating phase = iota // none of its code ran
	starting                   // its start section may have run
	started
)

// The exit codes that are not the guest's own, as a shell would show them.
const (
	codeNotStarted = 128
	codeTrapped    = 134
	codeKilled     = 137
	codeTerminated = 143 // as a process that leaves SIGTERM to its default
)

// classify says how an instance ended, from what wazero returned.
func (i *instance) classify(p phase, err error) wasm.Exit {
	var exited *sys.ExitError
	switch {
	case err == nil:
		return wasm.Exit{Reason: wasm.Exited}
	case errors.As(err, &exited):
		if i.killed.Load() && exited.ExitCode() == sys.ExitCodeContextCanceled {
			return i.end()
		}
		return i.exitedWith(exited.ExitCode())
	case i.killed.Load():
		return i.end()
	case p == instantiating || p == starting && !strings.Contains(err.Error(), "wasm error"):
		return wasm.Exit{Reason: wasm.NotStarted, Code: codeNotStarted, Message: firstLine(err.Error())}
	}
	message := trapMessage(err.Error())
	if i.memory.refused.Load() {
		return i.starved(message)
	}
	return wasm.Exit{Reason: wasm.Trapped, Code: codeTrapped, Message: message}
}

// end is that of a guest which was stopped or killed.
func (i *instance) end() wasm.Exit {
	if i.stopped.Load() {
		return wasm.Exit{Reason: wasm.Killed, Code: codeTerminated}
	}
	return wasm.Exit{Reason: wasm.Killed, Code: codeKilled}
}

func (i *instance) exitedWith(code uint32) wasm.Exit {
	if code != 0 && i.memory.refused.Load() {
		return i.starved(fmt.Sprintf("it exited with code %d", code))
	}
	return wasm.Exit{Reason: wasm.Exited, Code: shellCode(code)}
}

func (i *instance) starved(how string) wasm.Exit {
	return wasm.Exit{
		Reason: wasm.OutOfMemory, Code: codeKilled,
		Message: fmt.Sprintf("it needed more than its limit of %d bytes of memory: %s", i.memory.limit, how),
	}
}

// shellCode keeps the lower 8 bits, as a shell does, but never makes a failure
// a success.
func shellCode(code uint32) int32 {
	if code > 255 && code&255 == 0 {
		return 255
	}
	return int32(code & 255)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// maxFrames is how many of the innermost functions a message names.
const maxFrames = 3

// trapMessage makes one line of wazero's error with its stack trace.
func trapMessage(s string) string {
	what, trace, _ := strings.Cut(s, "\nwasm stack trace:\n")
	what = strings.TrimPrefix(firstLine(what), "wasm error: ")
	var frames []string
	for line := range strings.Lines(trace) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), "(")
		if name = strings.TrimPrefix(name, "."); !ok || name == "" {
			continue
		}
		if frames = append(frames, name); len(frames) > maxFrames {
			break
		}
	}
	if len(frames) == 0 {
		return what
	}
	if frames[0] == meter.StackOverflow {
		what, frames = meter.StackOverflow, frames[1:]
	}
	return what + " in " + strings.Join(frames[:min(len(frames), maxFrames)], " < ")
}
