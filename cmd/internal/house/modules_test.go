package house

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var requirement = regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9]\S*\.\S*/\S+) (v\S+)`)

// TestExampleModulesAreInStep keeps the modules within this repository at the
// versions of the main one, so that they build from the same module cache.
func TestExampleModulesAreInStep(t *testing.T) {
	main := requirements(t, "../../../go.mod")
	files, err := filepath.Glob("../../../examples/plugins/*/go.mod")
	if err != nil || len(files) == 0 {
		t.Fatalf("example modules: %v, %v", files, err)
	}
	for _, file := range files {
		own := requirements(t, file)
		if len(own) < 10 {
			t.Errorf("%s: only %d requirements were found", file, len(own))
		}
		for name, version := range own {
			if wanted, ok := main[name]; ok && wanted != version {
				t.Errorf("%s requires %s %s, the main module %s: run go mod tidy there", file, name, version, wanted)
			}
		}
	}
}

func requirements(t *testing.T, file string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, match := range requirement.FindAllStringSubmatch(string(content), -1) {
		found[match[1]] = match[2]
	}
	return found
}
