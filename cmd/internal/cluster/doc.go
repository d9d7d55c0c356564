// Package cluster assembles the parts of Weft into its processes: the core, a
// node, an executor, the plugin process of the built-in kinds, and "weft up",
// which is all of them. It must not hold behaviour of its own that a part
// should have.
package cluster
