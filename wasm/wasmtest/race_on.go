//go:build race

package wasmtest

const raceDetector = true
