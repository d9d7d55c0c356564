// Package sim runs whole clusters over a bus in memory, in pretended time, with
// faults that a seed chooses, and checks what must hold. It has tests alone.
//
// Of a cluster everything is real but what guests run in (wasmtest.Fake), the
// bus (bus/memory), and processes: a core is killed by cutting off its
// connection and then ending it, so that nothing that it does after the cut has
// an effect; a node's agent is ended and started again on its ledger; plugins
// answer errors for a while.
//
// A seed repeats the faults, what clients do and when; how goroutines interleave
// at one moment of the pretended time is the scheduler's.
package sim
