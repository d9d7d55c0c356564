package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is one of a part's.
type process struct {
	part    *part
	pid     int
	command string
}

// processes are those of the part whose command line contains text, by the
// part's own copy of the binary.
func (p *part) processes(text string) []process {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var found []process
	for _, path := range paths {
		line, err := os.ReadFile(filepath.Join(path, "cmdline"))
		if err != nil || !bytes.HasPrefix(line, []byte(p.binary+"\x00")) {
			continue // it has ended, or is another's
		}
		command := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		pid, err := strconv.Atoi(filepath.Base(path))
		if err == nil && strings.Contains(command, text) {
			found = append(found, process{p, pid, command})
		}
	}
	return found
}

// usage is what a process holds that may leak.
type usage struct{ descriptors, goroutines int }

// idle waits until every process is there, and returns what each holds. Either
// core may lead later, and then holds what the one does that leads now.
func (c *cluster) idle(ctx context.Context) (map[string]usage, error) {
	for begin := time.Now(); ; wait(ctx, 200*time.Millisecond) {
		all, err := c.usages(ctx)
		if err != nil && ctx.Err() == nil && time.Since(begin) < time.Minute {
			continue
		}
		if err != nil {
			return nil, err
		}
		var most usage
		for _, core := range c.cores {
			one := all[core.name]
			most = usage{max(most.descriptors, one.descriptors), max(most.goroutines, one.goroutines)}
		}
		for _, core := range c.cores {
			all[core.name] = most
		}
		return all, nil
	}
}

// usages are those of all processes, by their names.
func (c *cluster) usages(ctx context.Context) (map[string]usage, error) {
	all := map[string]usage{}
	for _, t := range c.targets() {
		if t.text == serveNATS {
			continue // is not ours
		}
		found := t.processes()
		if len(found) != 1 {
			return nil, fmt.Errorf("%s: %d processes", t.name, len(found))
		}
		sockets, err := filepath.Glob(filepath.Join(found[0].part.folder, "debug", strings.TrimPrefix(t.text, "weft ")+"*.sock"))
		if err != nil || len(sockets) != 1 {
			return nil, fmt.Errorf("%s: %d debug sockets", t.name, len(sockets))
		}
		if all[t.name], err = usageOf(ctx, sockets[0], found[0].pid); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return all, nil
}

// usageOf is that of the process that serves a debug socket.
func usageOf(ctx context.Context, socket string, pid int) (usage, error) {
	var u usage
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.descriptors = len(entries)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weft/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return u, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return u, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return u, err
	}
	_, err = fmt.Sscanf(string(text), "goroutine profile: total %d", &u.goroutines)
	return u, err
}
