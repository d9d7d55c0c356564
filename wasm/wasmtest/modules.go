// Package wasmtest has what tests of runtimes and their users need: a contract
// suite for wasm.Runtime, a scripted fake, and tiny modules. It must not be
// imported by anything but tests and simulations.
package wasmtest

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

//go:embed modules/*.wasm
var modules embed.FS

// Module returns one of the tiny modules: badstop, exit, foreign, graceful,
// hungry, lastcall, library, nap, overflow, park, print, reactor, spin,
// startspin, stubborn, trap. Their sources, with what they do, lie beside them.
func Module(name string) []byte {
	b, err := modules.ReadFile("modules/" + name + ".wasm")
	if err != nil {
		panic("wasmtest: no module " + name)
	}
	return b
}

// Digest returns the digest of a module's content as a runtime wants it.
func Digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// WriteModule writes that module to a folder that ends with the test, and
// returns its digest and path.
func WriteModule(tb testing.TB, name string) (digest, path string) {
	tb.Helper()
	content := Module(name)
	path = filepath.Join(tb.TempDir(), name+".wasm")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return Digest(content), path
}
