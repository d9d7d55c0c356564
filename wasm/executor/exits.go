package executor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weftrun/weft/wasm"
)

// keepExits is for how long exits lie there that nobody asks for.
const keepExits = 24 * time.Hour

// exits is a folder with a file for each instance that ended and was not
// released. Its methods may be called concurrently for different instances.
type exits struct{ dir string }

func openExits(dir string) (exits, error) {
	x := exits{dir: filepath.Join(dir, "exits")}
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return x, fmt.Errorf("open exits: %w", err)
	}
	return x, nil
}

// file escapes the IDs: they are the caller's and may hold slashes. The space
// between them is the one character that escaping never leaves.
func (x exits) file(sandbox, id string) string {
	return filepath.Join(x.dir, "x"+url.QueryEscape(sandbox)+" "+url.QueryEscape(id))
}

// write records an exit. A process that is killed leaves the file whole or
// torn; a torn one does not count.
func (x exits) write(s state) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("record exit: %w", err)
	}
	if err := os.WriteFile(x.file(s.Sandbox, s.ID), b, 0o600); err != nil {
		return fmt.Errorf("record exit: %w", err)
	}
	return nil
}

// read returns the exit of that instance, false if there is none.
func (x exits) read(sandbox, id string) (wasm.Exit, bool) {
	s, ok := readState(x.file(sandbox, id))
	if !ok {
		return wasm.Exit{}, false
	}
	return *s.Exit, true
}

func readState(path string) (state, bool) {
	var s state
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &s) != nil || s.Exit == nil {
		return s, false
	}
	return s, true
}

func (x exits) remove(sandbox, id string) error {
	if err := os.Remove(x.file(sandbox, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget exit: %w", err)
	}
	return nil
}

// all returns what is recorded, by sandbox, and removes what is too old.
func (x exits) all() (map[string][]state, error) {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return nil, fmt.Errorf("read exits: %w", err)
	}
	found := map[string][]state{}
	for _, e := range entries {
		path := filepath.Join(x.dir, e.Name())
		s, ok := readState(path)
		if !ok || !strings.HasPrefix(e.Name(), "x") || time.Since(s.Exit.FinishedAt) > keepExits {
			_ = os.Remove(path) // is tried again at the next start
			continue
		}
		found[s.Sandbox] = append(found[s.Sandbox], s)
	}
	return found, nil
}
