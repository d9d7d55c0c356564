//go:build race

package compiler_test

// raced: the race detector keeps several times the memory of the program, and
// aborts where the limit refuses it more.
const raced = true
