//go:build race

package store_test

// histories is how many random histories are run: fewer where each costs more.
const histories = 6
