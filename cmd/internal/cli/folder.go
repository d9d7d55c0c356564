package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// folder is a temporary folder of converted manifests, made when the first is
// added, that remembers what each stands for.
type folder struct {
	mu    sync.Mutex
	path  string
	names map[string]string // temporary path: original name

	leftOut []error // why manifests could not be converted
}

// add writes a file that stands for name and returns its path.
func (f *folder) add(name, extension string, data []byte) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.path == "" {
		path, err := os.MkdirTemp("", "weft-")
		if err != nil {
			return "", fmt.Errorf("convert %s: %w", name, err)
		}
		f.path, f.names = path, map[string]string{}
	}
	path := filepath.Join(f.path, fmt.Sprintf("%d%s", len(f.names), extension))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("convert %s: %w", name, err)
	}
	f.names[path] = name
	return path, nil
}

// restore puts the original names back into a message.
func (f *folder) restore(message string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, name := range f.names {
		message = strings.ReplaceAll(message, path, name)
	}
	return message
}

func (f *folder) remove() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.path != "" {
		_ = os.RemoveAll(f.path) // what is left is in the system's temporary folder
		f.path = ""
	}
}
