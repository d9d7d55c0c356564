// Package house holds the rules of the repository itself, as tests: who may
// import whom. It has no other content.
package house
