// Package compiler compiles modules in processes of their own, so that the one
// which runs guests loses no time to it, and a module that makes the compiler
// hang, break or take gigabytes hurts nobody. It must not know how modules are
// compiled, nor what becomes of the code.
//
// [Pool] is the side of whoever wants a module compiled, [Main] the child's. A
// child is started when it is needed, works with low priority on one module
// after the other, and ends when nothing is left to do for a while, or when its
// standard input ends.
//
// # The wire
//
// Lines of JSON: a boot and then jobs on the child's standard input, an answer
// to each job on its standard output.
package compiler
