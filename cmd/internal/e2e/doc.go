// Package e2e tests whole clusters from outside: the real binary, its
// processes, its files and its command line. Its tests must reach a cluster by
// nothing that a user does not have.
package e2e
