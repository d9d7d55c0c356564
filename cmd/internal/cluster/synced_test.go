package cluster

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftrun/weft/bus/nats"
)

// TestRecallSync: servers that are down count as they were, and no others do.
func TestRecallSync(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	all := []string{"http://a", "http://b", "http://c"}
	unread := func(urls ...string) error { return &nats.UnreadError{URLs: urls} }
	for name, tt := range map[string]struct {
		before func(file string)
		urls   []string
		state  nats.SyncState
		err    error
		want   nats.SyncState
	}{
		"all say so":                     {nil, all, nats.SyncAlways, nil, nats.SyncAlways},
		"one is down at the first start": {nil, all, nats.SyncUnknown, unread("http://c"), nats.SyncUnknown},
		"one is down": {func(file string) { recallSync(file, all, nats.SyncAlways, nil, log) },
			all, nats.SyncUnknown, unread("http://c"), nats.SyncAlways},
		"most are down": {func(file string) { recallSync(file, all, nats.SyncAlways, nil, log) },
			all, nats.SyncUnknown, unread("http://b", "http://c"), nats.SyncUnknown},
		"the only one is down": {func(file string) { recallSync(file, all[:1], nats.SyncAlways, nil, log) },
			all[:1], nats.SyncUnknown, unread("http://a"), nats.SyncUnknown},
		"one that is new is down": {func(file string) { recallSync(file, all[:2], nats.SyncAlways, nil, log) },
			all, nats.SyncUnknown, unread("http://c"), nats.SyncUnknown},
		"one synced late meanwhile": {func(file string) {
			recallSync(file, all, nats.SyncAlways, nil, log)
			recallSync(file, all, nats.SyncDelayed, nil, log)
		}, all, nats.SyncUnknown, unread("http://c"), nats.SyncUnknown},
		"the file is damaged": {func(file string) {
			if err := os.WriteFile(file, []byte(`["http://c"`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, all, nats.SyncUnknown, unread("http://c"), nats.SyncUnknown},
		"another error": {func(file string) { recallSync(file, all, nats.SyncAlways, nil, log) },
			all, nats.SyncUnknown, errors.New("other"), nats.SyncUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "synced")
			if tt.before != nil {
				tt.before(file)
			}
			if got := recallSync(file, tt.urls, tt.state, tt.err, log); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
