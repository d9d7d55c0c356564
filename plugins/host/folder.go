package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
)

// settle is how long a new file must be left alone before it is started, so
// that one that is being copied is not.
const settle = 200 * time.Millisecond

// dropped is a plugin found in the folder.
type dropped struct {
	process *process
	stamp   stamp
	cancel  context.CancelFunc
	ended   chan struct{}
}

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
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch plugin folder: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	if err := watcher.Add(h.config.Folder); err != nil {
		return fmt.Errorf("watch plugin folder %s: %w", h.config.Folder, err)
	}
	running := map[string]*dropped{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
			timer.Reset(settle)
		case err := <-watcher.Errors:
			h.config.Logger.Warn("watch plugin folder", "err", err)
			timer.Reset(settle)
		case <-timer.C:
			if h.scan(ctx, group, running) {
				timer.Reset(settle)
			}
		}
	}
}

// scan starts, replaces and stops plugins so that they are those in the
// folder. It returns true if a file is still changing.
func (h *Host) scan(ctx context.Context, group *errgroup.Group, running map[string]*dropped) (again bool) {
	found, again := h.executables()
	for path, d := range running {
		if now, ok := found[path]; !ok || now != d.stamp {
			h.config.Logger.Info("plugin file is gone or replaced", "plugin", d.process.plugin.Name)
			d.cancel()
			<-d.ended
			delete(running, path)
		}
	}
	for path, now := range found {
		if _, ok := running[path]; ok {
			continue
		}
		pctx, cancel := context.WithCancel(ctx)
		d := &dropped{
			process: newProcess(h.folderPlugin(path), h.config, h.refresh),
			stamp:   now, cancel: cancel, ended: make(chan struct{}),
		}
		running[path] = d
		h.add(d.process)
		h.config.Logger.Info("plugin file found", "plugin", d.process.plugin.Name)
		group.Go(func() error {
			defer close(d.ended)
			defer h.remove(d.process)
			return d.process.run(pctx)
		})
	}
	return again
}

func (h *Host) executables() (found map[string]stamp, changing bool) {
	found = map[string]stamp{}
	entries, err := os.ReadDir(h.config.Folder)
	if err != nil {
		h.config.Logger.Warn("read plugin folder", "err", err)
		return found, false
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
	return found, changing
}
