// Package bus is the contract between Weft and whatever carries its messages
// and keeps its log. It must not know Kubernetes, wasm, or any other package
// of Weft; only its sub-packages know NATS.
//
// Five things are carried, one small interface each, and [Bus] is all of them:
//
//   - [Logs]: append-only logs, fenced by the expected last sequence. An append
//     is durable when it returns.
//   - [PubSub]: messages to whoever listens now. They may be lost; whoever
//     cannot bear that numbers them and repairs the gap by a request.
//   - [Calls]: one request, one reply.
//   - [Streams]: flow-controlled byte streams in both directions, for bulk
//     answers, logs, exec and port-forward.
//   - [Leases] and [Blobs]: who leads, and large immutable content.
//
// Every connection has an [Identity]. What a role may publish and subscribe to
// is enforced by the carrier (see [Role]), and each identity has a prefix of
// its own for the replies it expects ([Identity.Inbox]): responders refuse a
// request whose reply subject lies outside the caller's prefix, because servers
// do not check reply subjects.
//
// Implementations: bus/nats (production), bus/embedded (a NATS server within
// the process), bus/memory (maps and goroutines, usable in a synctest bubble).
// All pass the suite in bus/bustest.
package bus

//go:generate go run ./internal/gen ../docs
