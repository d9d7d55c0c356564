// Package nodelink is the protocol between the core and its nodes, both ends,
// over a bus. It must not decide what a node runs, nor run anything.
//
// The core's end is [Hub]: it publishes what is desired of each node as it is
// committed, takes in what nodes observe, keeps their Leases and statuses, and
// asks them for logs. The node's end is [Link], a core.NodeLink.
//
// Desired state flows on plain messages, which may be lost. Each carries the
// core's term and the node's own sequence number. A node that sees a gap pulls
// its whole set; so that the loss of the last message is seen too, the core
// says the newest number again, shortly after, with nothing in it (a mark).
// Each heartbeat carries the number that the node has reached and an order-free
// digest of what it holds; when they do not match, another mark makes the node
// pull. Observed state flows in calls of many statuses each, one call in
// flight, sent again until the core has committed them. What containers use is
// told as of now, a part of the pods in each call, and not sent again.
package nodelink
