//go:build !race

package store_test

// histories is how many random histories are run.
const histories = 20
