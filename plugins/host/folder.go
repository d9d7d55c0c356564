package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
)

// settle is how long a new file must be left alone before it is started, so
// that one that is being copied is not.
const settle = 200 * time.Millisecond

// lookAgain is how often the folder is read even if nobody told of a change:
// it may have been made anew, or lie where no one tells.
const lookAgain = 5 * time.Second

// dropped is a plugin found in the folder.
type dropped struct {
	process *process
	stamp   stamp
	cancel  context.CancelCauseFunc
	ended   chan struct{}
}

// errReplaced is why a program is ended in whose place another one was put.
var errReplaced = errors.New("its file was replaced")

// stamp tells one version of a file from another.
type stamp struct {
	size     int64
	modified time.Time
}

// watchFolder runs what lies in the plugin folder, and follows it.
func (h *Host) watchFolder(ctx context.Context, group *errgroup.Group) error {
	if err := os.MkdirAll(h.config.Folder, 0o700); err != nil {
		return fmt.Errorf("plugin folder: %w", err)
	}
	events, failures, stop := h.notify()
	defer stop()
	running := map[string]*dropped{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			timer.Reset(settle)
		case err := <-failures:
			h.config.Logger.Warn("watch plugin folder", "err", err)
			timer.Reset(settle)
		case <-timer.C:
			if h.scan(ctx, group, running) {
				timer.Reset(settle)
			} else {
				timer.Reset(lookAgain)
			}
		}
	}
}

// notify tells of changes in the folder. Where the system does not, for one
// because others watch all that may be watched, the channels stay silent.
func (h *Host) notify() (events <-chan fsnotify.Event, failures <-chan error, stop func()) {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		if err = watcher.Add(h.config.Folder); err == nil {
			return watcher.Events, watcher.Errors, func() { _ = watcher.Close() }
		}
		_ = watcher.Close()
	}
	h.config.Logger.Warn("the plugin folder is read from time to time, since it cannot be watched", "err", err)
	return nil, nil, func() {}
}

// scan starts, replaces and stops plugins so that they are those in the
// folder. It returns true if a file is still changing.
func (h *Host) scan(ctx context.Context, group *errgroup.Group, running map[string]*dropped) (again bool) {
	found, again, err := h.executables()
	if err != nil {
		h.config.Logger.Warn("read plugin folder", "err", err) // nothing is known, so nothing is stopped
		return false
	}
	for path, d := range running {
		now, there := found[path]
		if there && now == d.stamp {
			continue
		}
		h.config.Logger.Info("plugin file is gone or replaced", "plugin", d.process.plugin.Name)
		if there {
			// Its kinds are not given up for the moment until the new program
			// serves: nobody is told that nothing serves them.
			d.cancel(errReplaced)
			<-d.ended
			d.process.replaced()
			d.stamp = now
			h.launch(ctx, group, d)
			continue
		}
		d.cancel(nil)
		<-d.ended
		h.remove(d.process)
		delete(running, path)
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		if _, ok := running[path]; ok {
			continue
		}
		d := &dropped{process: newProcess(h.folderPlugin(path), h.config, h.refresh), stamp: found[path]}
		running[path] = d
		h.add(d.process)
		h.config.Logger.Info("plugin file found", "plugin", d.process.plugin.Name)
		h.launch(ctx, group, d)
	}
	return again
}

// launch runs the program of d until it is cancelled.
func (h *Host) launch(ctx context.Context, group *errgroup.Group, d *dropped) {
	own, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	d.cancel, d.ended = cancel, ended
	group.Go(func() error {
		defer close(ended)
		defer cancel(nil)
		return d.process.run(own)
	})
}

func (h *Host) executables() (found map[string]stamp, changing bool, err error) {
	found = map[string]stamp{}
	entries, err := os.ReadDir(h.config.Folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		path := filepath.Join(h.config.Folder, entry.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
			continue
		}
		if time.Since(info.ModTime()) < settle && time.Since(info.ModTime()) >= 0 {
			changing = true
			continue
		}
		found[path] = stamp{info.Size(), info.ModTime()}
	}
	return found, changing, nil
}
