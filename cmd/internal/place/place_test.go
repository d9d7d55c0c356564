package place_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftrun/weft/bus/nats/natstest"
	"github.com/weftrun/weft/cmd/internal/place"
)

// places are a file and an object.
func places(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"file": filepath.Join(t.TempDir(), "one"), "object": natstest.Objects(t, "weft") + "/weft/one"}
}

var errCut = errors.New("it ends too early")

// whole is what is whole if it ends in a dot.
func whole(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err == nil && !bytes.HasSuffix(data, []byte(".")) {
		err = errCut
	}
	return err
}

func read(t *testing.T, path string) string {
	t.Helper()
	r, done, err := place.Seekable(t.Context(), path, nil, place.Access{})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for range 2 {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestKeep: what is kept is whole; what is not leaves what was there.
func TestKeep(t *testing.T) {
	broken := errors.New("the source broke")
	impatient := errors.New("the first line is wrong")
	for name, path := range places(t) {
		t.Run(name, func(t *testing.T) {
			keep := func(content io.Reader, check func(io.Reader) error) error {
				return place.Keep(t.Context(), path, content, check, place.Access{})
			}
			first := strings.Repeat("first ", 300_000) + "."
			if err := keep(strings.NewReader(first), whole); err != nil {
				t.Fatal(err)
			}
			if err := keep(strings.NewReader(first[:len(first)-1]), whole); !errors.Is(err, errCut) {
				t.Errorf("of what is cut: %v", err)
			}
			if err := keep(io.MultiReader(strings.NewReader(first), errReader{broken}), whole); !errors.Is(err, broken) {
				t.Errorf("of what breaks: %v", err)
			}
			if err := keep(strings.NewReader(first), func(io.Reader) error { return impatient }); !errors.Is(err, impatient) {
				t.Errorf("of what is refused at once: %v", err)
			}
			if got := read(t, path); got != first {
				t.Errorf("%d bytes are there, want the first %d", len(got), len(first))
			}
			if err := keep(strings.NewReader("second."), whole); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); got != "second." {
				t.Errorf("there is %.20q, want the second", got)
			}
			if name == "file" {
				if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
					t.Errorf("%d files are left: %v", len(left), err)
				}
			}
		})
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// TestCheck: what is no place is refused before anything is done for it.
func TestCheck(t *testing.T) {
	for path, want := range map[string]string{
		"": "is required", "s3://bucket/one": "s3:// is not known, nats:// and tls:// are", "nats://host/b": "the name of the object",
		"-": "", "some/file": "", "nats://host/b/n": "", "TLS://host/b/n/m": "",
	} {
		if err := place.Check(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

func TestNowhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "one")
	err := place.Keep(t.Context(), path, strings.NewReader("."), whole, place.Access{})
	if want := "open " + path + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		"nats://ada:lovelace@host/b/n": "nats://host/b/n", "tls://token@host:1/b/n": "tls://host:1/b/n",
		"nats://ada:love lace@%/b/n": "nats://...", "NATS://ada:lovelace@host/b/n": "nats://host/b/n",
		strings.Repeat("x", 300): strings.Repeat("x", 200) + "...",
		"nats://host/b/n":        "nats://host/b/n", "some/file": "some/file", "-": "-",
	} {
		if got := place.Shown(in); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}
