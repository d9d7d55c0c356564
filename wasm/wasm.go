// Package wasm is the contract between a node and whatever runs WebAssembly
// modules for it. It must not know Kubernetes, an engine, or any other package
// of Weft.
//
// A [Runtime] prepares a [Module] once and runs it as many [Instance]s, each
// within a [Sandbox]: what the containers of one pod share.
package wasm

import (
	"context"
	"errors"
	"time"
)

// The sentinels of a Runtime.
var (
	// ErrInvalidModule: not a WebAssembly module that can run here; the text
	// says what it is and what to do.
	ErrInvalidModule = errors.New("wasm: invalid module")
	// ErrLimits: the limits do not suffice for the module, or are not allowed.
	ErrLimits = errors.New("wasm: limits")
	// ErrNotCompiled: the module is to be compiled by another process first, so
	// that those that run here are not disturbed.
	ErrNotCompiled = errors.New("wasm: not compiled yet")
	// ErrGone: the sandbox or the runtime behind it is gone; what ran in it
	// does not run any more.
	ErrGone = errors.New("wasm: gone")
	// ErrHandler: the runtime has no such handler.
	ErrHandler = errors.New("wasm: no such handler")
)

// StopVariable is the environment variable that says where a guest hears that
// it should stop. One that has it in its Env finds a file at that path, in a
// folder that holds nothing else. There is nothing to be read of it until the
// guest is asked to stop: then "TERM\n", and its end. An empty value means none.
const StopVariable = "WEFT_STOP_FILE"

// StopFile is the usual value of StopVariable.
const StopFile = "/run/weft/stop"

// StopFunction is what a module without _start may export, without parameters
// and results, to be called when it is asked to stop.
const StopFunction = "weft_stop"

// Runtime runs modules. Its methods may be called concurrently.
type Runtime interface {
	// Prepare checks and compiles the module in the file at path, whose
	// content has that digest ("sha256:<hex>"), unless it holds it already.
	// Callers may prepare one digest often and at once. The error is
	// ErrInvalidModule for content that can never run.
	Prepare(ctx context.Context, digest, path string) (Module, error)
	// OpenSandbox makes a sandbox with that ID, or returns the one that exists:
	// a restarted node finds its pods again. The error is ErrHandler if a new
	// one is to be of a handler that the runtime does not have.
	OpenSandbox(ctx context.Context, c SandboxConfig) (Sandbox, error)
	// Sandboxes returns the IDs of those that are open.
	Sandboxes(ctx context.Context) ([]string, error)
	// Usages returns what all instances that run have used so far. It is one
	// cheap call, to be made each few seconds for thousands of instances.
	Usages(ctx context.Context) (Usages, error)
}

// Module is a prepared module. It is immutable and shared.
type Module interface {
	Digest() string
	// MinMemory is what the module's memories need at the start, in bytes.
	MinMemory() int64
}

// SandboxConfig describes what the containers of one pod share.
type SandboxConfig struct {
	ID       string // unique on the node: the pod's UID
	Hostname string
	// Handler is how the sandbox is kept apart from others. Optional: the
	// runtime's usual way, which is the only one of most.
	Handler string
}

// Sandbox holds the instances of one pod.
type Sandbox interface {
	ID() string
	// Start starts an instance and returns once it runs or has ended. The
	// error is ErrLimits or ErrGone; a module that fails at once is no error
	// but an Instance with an Exit.
	Start(ctx context.Context, m Module, p Program) (Instance, error)
	// Instances returns those started and not yet released, by ID.
	Instances(ctx context.Context) (map[string]Instance, error)
	// Close kills what runs and frees everything.
	Close(ctx context.Context) error
}

// Program is how to run a module.
type Program struct {
	// ID is unique within the sandbox: container name and restart count.
	ID string
	// Args are the arguments with the program's name first.
	Args []string
	// Env holds NAME=value pairs.
	Env []string
	// Log receives standard output and error.
	Log Log
	// Limits of this instance.
	Limits Limits
	// Mounts is what the guest sees of the host's files.
	Mounts []Mount
}

// Log says where the lines that a guest writes go: to the file at Path, each
// as "<RFC 3339 nano time> <stdout|stderr> <F|P> <text>\n" (the format of
// Kubernetes' container runtime interface; P marks a part of a line of over
// 16 KiB). A file of MaxBytes is renamed with the suffix ".1" and begun anew.
type Log struct {
	Path     string
	MaxBytes int64 // 0: 10 MiB
}

// Limits bound an instance. 0 means the runtime's own default.
type Limits struct {
	MemoryBytes int64
	// CPUMillis caps CPU time in thousandths of a core; CPUShares weighs it
	// against others when cores are short.
	CPUMillis int64
	CPUShares int64
}

// Mount shows a host directory to the guest.
type Mount struct {
	Host, Guest string
	ReadOnly    bool
}

// Instance is one run of a module. Its methods may be called concurrently.
type Instance interface {
	ID() string
	StartedAt() time.Time
	// Wait returns how it ended, or ctx's error. It may be called any number
	// of times, before and after the end. A sandbox that vanished ends its
	// instances with reason Lost.
	Wait(ctx context.Context) (Exit, error)
	// Stop asks the guest to end and returns at once; one that does not is
	// killed when the grace period is over, with code 137. A guest that does not
	// listen, as it neither has its stop file open nor exports StopFunction, ends at
	// once with code 143, as a process that leaves SIGTERM to its default. A
	// second Stop may shorten the period, not prolong it. With a period of 0 or
	// less it is Kill.
	Stop(ctx context.Context, grace time.Duration) error
	// Kill ends it now.
	Kill(ctx context.Context) error
	// Usage returns what it has used so far.
	Usage(ctx context.Context) (Usage, error)
	// Release forgets an instance that has ended.
	Release(ctx context.Context) error
}

// Exit is how an instance ended.
type Exit struct {
	Reason Reason
	// Code is the exit code as a shell would see it: the guest's own, 137
	// killed, 134 trapped, 128 could not be started.
	Code int32
	// Message says more in one or two lines: a trap with the innermost
	// functions, say.
	Message               string
	StartedAt, FinishedAt time.Time
}

// Reason is why an instance ended.
type Reason string

// The reasons.
const (
	Exited      Reason = "exited"        // by itself; see Code
	Trapped     Reason = "trapped"       // by a WebAssembly trap
	OutOfMemory Reason = "out-of-memory" // it needed more than its limit
	Killed      Reason = "killed"        // by Kill, or Stop after its grace
	NotStarted  Reason = "not-started"   // it could not be instantiated
	Lost        Reason = "lost"          // its process died
)

// Usage is what an instance or a process uses.
type Usage struct {
	CPU time.Duration // since it was started
	// MemoryBytes is what it holds now: of an instance the size of its linear
	// memory, of a process what is resident.
	MemoryBytes int64
	// Throttled is how long an instance rested in all because of its CPU limit.
	Throttled time.Duration
}

// Usages is what the instances of a runtime had used at one time. The receiver
// owns it.
type Usages struct {
	Time time.Time
	// Instances are those that run, in no order.
	Instances []InstanceUsage
	// Processes are those that the runtime keeps besides the caller's own.
	// What instances in them use is part of what they use.
	Processes []ProcessUsage
}

// InstanceUsage is what one instance has used.
type InstanceUsage struct {
	Sandbox, ID string
	StartedAt   time.Time
	Usage
}

// ProcessUsage is what one process has used. Another life of it has another
// StartedAt, and begins to count anew.
type ProcessUsage struct {
	Name      string // unique in the runtime
	StartedAt time.Time
	Usage
}
