package host

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/weftrun/weft/wasm"
)

// stop is how a guest is asked to end: a file that it can read, and which has
// nothing to be read until then. That needs nothing of a guest's language but
// files, and a guest that waits for other things waits for this, too, by
// poll_oneoff.
type stop struct {
	once      sync.Once
	asked     chan struct{} // closed when the guest is asked to end
	listeners atomic.Int32  // descriptors of the file
	name      string        // the file's name in its folder
}

// AskStop asks the guest to end, and reports whether it listens: it has the
// stop file open. It may be called by anyone and again.
func (g *Guest) AskStop() bool {
	g.stop.once.Do(func() { close(g.stop.asked) })
	return g.stop.listeners.Load() > 0
}

// Asked returns a channel that is closed when the guest is asked to end.
func (g *Guest) Asked() <-chan struct{} { return g.stop.asked }

func (g *Guest) wasAsked() bool {
	select {
	case <-g.stop.asked:
		return true
	default:
		return false
	}
}

// stopText is what the stop file holds once there is something to be read.
const stopText = "TERM\n"

// stopFile is an open stop file.
type stopFile struct {
	guest *Guest
	at    int // how much of stopText was read
}

var _ file = (*stopFile)(nil)

func openStop(g *Guest) *stopFile {
	g.stop.listeners.Add(1)
	return &stopFile{guest: g}
}

func (*stopFile) filetype() byte { return typeCharacter }

func (*stopFile) stat() (filestat, error) {
	return filestat{ino: 2, filetype: typeCharacter, nlink: 1}, nil
}

func (f *stopFile) close() error {
	f.guest.stop.listeners.Add(-1)
	return nil
}

// read returns what of stopText was not read yet. It waits for the guest to be
// asked, unless the descriptor does not block.
func (f *stopFile) read(g *Guest, flags uint16, most int) (string, errno) {
	if !g.wasAsked() {
		if flags&flagNonblock != 0 {
			return "", eAGAIN
		}
		g.wait(func() bool {
			select {
			case <-g.stop.asked:
				return true
			case <-g.Done:
				return false
			}
		})
	}
	text := stopText[f.at:]
	text = text[:min(len(text), most)]
	f.at += len(text)
	return text, success
}

// stopDirectory is the folder that holds the stop file and nothing else.
type stopDirectory struct{}

var _ file = stopDirectory{}

func (stopDirectory) filetype() byte { return typeDirectory }

func (stopDirectory) stat() (filestat, error) {
	return filestat{ino: 1, filetype: typeDirectory, nlink: 1}, nil
}

func (stopDirectory) close() error { return nil }

// stopPath returns where the guest's environment wants the stop file, "" for
// nowhere.
func stopPath(env []string, mounts []*mount) (string, error) {
	name := ""
	for _, pair := range env { // the last one counts, as for the guest
		if value, ok := strings.CutPrefix(pair, wasm.StopVariable+"="); ok {
			name = value
		}
	}
	if name == "" {
		return "", nil
	}
	if !path.IsAbs(name) || path.Clean(name) != name || name == "/" {
		return "", fmt.Errorf("env: %s=%s must be a file's absolute path without . and .. in it", wasm.StopVariable, name)
	}
	for i, m := range mounts {
		if m.guest == path.Dir(name) {
			return "", fmt.Errorf("mounts[%d]: guest path %s is where %s wants the stop file, in a folder of its own", i, m.guest, wasm.StopVariable)
		}
	}
	return name, nil
}
