// Package executor runs a wasm.Runtime in a process of its own, so that a guest
// can hurt neither the agent nor another executor. It must not know which
// runtime that is, nor what a pod is.
//
// [Main] is the child's side: it serves a Runtime over a Unix socket. [Client]
// is the agent's: it is a wasm.Runtime itself, starts the child, watches it,
// and starts another when it dies or hangs.
//
// # The wire
//
// Frames of JSON with their length in front, in both directions over one
// connection. The first is a hello with the nonce that the child was given over
// its standard input; a connection with another nonce is closed. A request has
// a number that its reply repeats; replies come in any order. What the child
// says by itself has the number 0: that an instance has ended. Such an event
// never overtakes the reply that its instance began with.
//
// # What survives
//
// An exit is written to Dir/exits before it is told, so that it is known
// although the agent, the executor or both died since. It lies there until the
// instance is released or its sandbox closed. A child that does not die with
// its parent is found again by the nonce and socket in Dir/executor.json.
package executor
