package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/weftrun/weft/bus"
)

// SyncState says whether the server syncs each write to disk before it
// acknowledges it. Only then no acknowledged append is lost on power loss.
type SyncState string

// The states. A core demands an explicit setting to go on with any but Always.
const (
	SyncUnknown SyncState = "unknown"
	SyncAlways  SyncState = "always"
	SyncDelayed SyncState = "delayed" // by the server's sync_interval
)

// UnreadError says that the monitoring of some servers gave no answer, and that
// the others sync always.
type UnreadError struct {
	URLs []string // of those without an answer
	err  error
}

func (e *UnreadError) Error() string { return fmt.Sprintf("read sync_always: %v", e.err) }

// Unwrap returns why, and bus.ErrUnavailable.
func (e *UnreadError) Unwrap() []error { return []error{bus.ErrUnavailable, e.err} }

// SyncState returns SyncAlways if that is known, or if the monitoring of all
// configured servers says so. Without Config.MonitorURLs it is SyncUnknown. The
// error, of what it reads, is an *UnreadError.
func (c *Conn) SyncState(ctx context.Context) (SyncState, error) {
	if c.config.Synced {
		return SyncAlways, nil
	}
	state := SyncUnknown
	unread := &UnreadError{}
	for _, url := range c.config.MonitorURLs {
		always, err := syncAlways(ctx, url)
		switch {
		case err != nil:
			unread.URLs, unread.err = append(unread.URLs, url), errors.Join(unread.err, err)
		case !always:
			return SyncDelayed, nil
		default:
			state = SyncAlways
		}
	}
	if len(unread.URLs) > 0 {
		return SyncUnknown, unread
	}
	return state, nil
}

// maxVarz bounds what a monitoring answer may have, in bytes.
const maxVarz = 4 << 20

func syncAlways(ctx context.Context, url string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/varz", nil)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }() // it was read
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("get %s: %s", request.URL, response.Status)
	}
	var varz struct {
		JetStream struct {
			Config struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxVarz)).Decode(&varz); err != nil {
		return false, fmt.Errorf("get %s: %w", request.URL, err)
	}
	return varz.JetStream.Config.SyncAlways, nil
}
