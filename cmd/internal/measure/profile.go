package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// profile has all processes whose sockets are in a folder profile themselves,
// into files in another, for 10 s. What it returns waits for that and adds a
// profile of each one's heap.
func profile(sockets, into, name string) func() error {
	paths, err := filepath.Glob(filepath.Join(sockets, "*.sock"))
	if err != nil || len(paths) == 0 {
		return func() error { return fmt.Errorf("find sockets in %s: %w", sockets, errors.Join(err, os.ErrNotExist)) }
	}
	name = strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(name)
	file := func(socket, what string) string {
		return filepath.Join(into, fmt.Sprintf("%s-%s.%s", name, strings.TrimSuffix(filepath.Base(socket), ".sock"), what))
	}
	var group errgroup.Group
	for _, path := range paths {
		group.Go(func() error { return fetch(path, "/debug/pprof/profile?seconds=10", file(path, "cpu")) })
	}
	return func() error {
		errs := []error{group.Wait()}
		for _, path := range paths {
			errs = append(errs, fetch(path, "/debug/pprof/heap", file(path, "heap")))
		}
		return errors.Join(errs...)
	}
}

// onSocket makes a client of the server on a Unix socket.
func onSocket(socket string) *http.Client {
	var dialer net.Dialer
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
}

// fetch writes what a process answers on its socket to a file.
func fetch(socket, path, file string) (err error) {
	client := onSocket(socket)
	defer client.CloseIdleConnections()
	answer, err := client.Get("http://weft" + path)
	if err != nil {
		return fmt.Errorf("fetch profile: %w", err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch profile from %s: %s", socket, answer.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, answer.Body)
	return errors.Join(err, out.Close())
}
