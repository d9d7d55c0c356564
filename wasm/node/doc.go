// Package node is a node's agent: it takes what is desired of the node from a
// core.NodeLink, makes it so with a wasm.Runtime, and reports what is. It must
// not run guest code itself, nor decide where pods belong.
//
// [Agent] owns the link and one keeper for each pod. A keeper is a loop around
// two pure functions: next says what to do with a pod's containers now, and
// statusOf what to report of them.
package node
