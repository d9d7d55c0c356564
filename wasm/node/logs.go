package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm/logfile"
)

// logServer answers the core's requests for logs.
type logServer struct{ agent *Agent }

// Logs implements core.NodeServer.
func (s logServer) Logs(ctx context.Context, q core.LogQuery, w io.Writer) error {
	k := s.agent.keeper(q.UID)
	if k == nil {
		return fmt.Errorf("pod %q does not run on this node", q.Pod)
	}
	path, run, err := k.logOf(q.Container, q.Previous)
	if err != nil {
		return err
	}
	options := logfile.Options{Tail: q.TailLines, Since: q.SinceTime, Follow: q.Follow && !q.Previous}
	if options.Follow {
		ended := make(chan struct{})
		options.Ended = ended
		stop := s.agent.whenEnded(ctx, q, run, ended)
		defer stop()
		// So that the reader is notified of its first line.
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return fmt.Errorf("follow log: %w", err)
		}
	}
	out := &lineWriter{w: w, timestamps: q.Timestamps, left: -1}
	if q.LimitBytes != nil {
		out.left = *q.LimitBytes
	}
	err = logfile.Read(ctx, path, options, out.line)
	if errors.Is(err, errLimit) || ctx.Err() != nil {
		return nil
	}
	return err
}

// view is what one needs to know of a container who asks for its log.
type view struct {
	name              string
	current, previous string // instances; empty if there was none
	live              bool   // the current one runs
	reason            string // why there was none yet
}

// show brings the views up to date, and whether a container waits for a
// ConfigMap, Secret or RuntimeClass.
func (k *keeper) show() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.starved = false
	for i, c := range k.containers {
		v := view{name: c.spec.Name, current: c.id, live: c.phase == running, reason: c.reason}
		if c.last != nil {
			_, v.previous, _ = strings.Cut(strings.TrimPrefix(c.last.ContainerID, "weft://"), "/")
		}
		if v.reason == "" {
			v.reason = creating
		}
		k.views[i] = v
		k.starved = k.starved || c.phase == starting || c.reason == configError || c.reason == sandboxError
	}
}

func (k *keeper) view(container string) (view, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.views {
		if v.name == container {
			return v, true
		}
	}
	return view{}, false
}

// logOf returns the file and the run whose log is asked for.
func (k *keeper) logOf(container string, previous bool) (path, run string, err error) {
	v, ok := k.view(container)
	switch {
	case !ok:
		return "", "", fmt.Errorf("container %s is not valid for pod %s", container, k.key.Name)
	case previous && v.previous == "":
		return "", "", fmt.Errorf("previous terminated container %q in pod %q not found", container, k.key.Name)
	case previous:
		run = v.previous
	case v.current == "":
		return "", "", fmt.Errorf("container %q in pod %q is waiting to start: %s", container, k.key.Name, v.reason)
	default:
		run = v.current
	}
	folder := k.key.Namespace + "_" + k.key.Name + "_" + string(k.uid)
	return filepath.Join(k.agent.config.Logs, folder, run+".log"), run, nil
}

// endPoll is how often a follower looks whether its container still runs.
const endPoll = 200 * time.Millisecond

// whenEnded closes ended once that run of the container does not go on any
// more, or its pod is gone.
func (a *Agent) whenEnded(ctx context.Context, q core.LogQuery, run string, ended chan struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(endPoll)
		defer tick.Stop()
		for {
			v, ok := view{}, false
			if k := a.keeper(q.UID); k != nil {
				v, ok = k.view(q.Container)
			}
			if !ok || !v.live || v.current != run {
				close(ended)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

var errLimit = errors.New("the limit of bytes is reached")

// lineWriter writes lines as the API answers them.
type lineWriter struct {
	w          io.Writer
	timestamps bool
	left       int64 // bytes; negative: no limit
	buf        []byte
}

func (l *lineWriter) line(line logfile.Line) error {
	l.buf = l.buf[:0]
	if l.timestamps {
		l.buf = line.Time.UTC().AppendFormat(l.buf, time.RFC3339Nano)
		l.buf = append(l.buf, ' ')
	}
	l.buf = append(l.buf, line.Text...)
	if !line.Partial {
		l.buf = append(l.buf, '\n')
	}
	if l.left >= 0 && int64(len(l.buf)) > l.left {
		l.buf = l.buf[:l.left]
	}
	if _, err := l.w.Write(l.buf); err != nil {
		return err
	}
	if l.left >= 0 {
		if l.left -= int64(len(l.buf)); l.left == 0 {
			return errLimit
		}
	}
	return nil
}
