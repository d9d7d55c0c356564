package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/wasm/logfile"
)

// logServer answers the core's requests for logs.
type logServer struct{ agent *Agent }

// Logs implements core.NodeServer.
func (s logServer) Logs(ctx context.Context, q core.LogQuery, w io.Writer) error {
	folder := filepath.Join(s.agent.config.Logs, filepath.Base(q.Namespace+"_"+q.Pod+"_"+string(q.UID)))
	current, previous := newestLogs(folder, q.Container)
	path := current
	if q.Previous {
		path = previous
	}
	if path == "" {
		return fmt.Errorf("container %q in pod %q has no log of that run on this node", q.Container, q.Pod)
	}
	options := logfile.Options{Tail: q.TailLines, Since: q.SinceTime, Follow: q.Follow && !q.Previous}
	if options.Follow {
		ended := make(chan struct{})
		options.Ended = ended
		stop := s.agent.whenEnded(ctx, q, ended)
		defer stop()
	}
	out := &lineWriter{w: w, timestamps: q.Timestamps, left: -1}
	if q.LimitBytes != nil {
		out.left = *q.LimitBytes
	}
	err := logfile.Read(ctx, path, options, out.line)
	if errors.Is(err, errLimit) || ctx.Err() != nil {
		return nil
	}
	return err
}

// newestLogs returns the log files of a container's newest run and of the one
// before it; empty if there is none.
func newestLogs(folder, container string) (current, previous string) {
	newest, before := -1, -1
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", ""
	}
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), container+".")
		var run int
		if n, err := fmt.Sscanf(rest, "%d.log", &run); !ok || err != nil || n != 1 || !strings.HasSuffix(rest, ".log") {
			continue
		}
		if run > newest {
			newest, before = run, newest
		} else if run > before {
			before = run
		}
	}
	name := func(run int) string {
		if run < 0 {
			return ""
		}
		return filepath.Join(folder, fmt.Sprintf("%s.%d.log", container, run))
	}
	return name(newest), name(before)
}

// whenEnded closes ended once the container that q asks about does not run any
// more, or its pod is gone.
func (a *Agent) whenEnded(ctx context.Context, q core.LogQuery, ended chan struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { //nolint:forbidigo // stop waits for it
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			k := a.keeper(q.UID)
			if k == nil || !k.runs(q.Container) {
				close(ended)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		cancel()
		<-done
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
