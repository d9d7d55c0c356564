package nats

import (
	"context"
	"encoding/json"
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

// SyncState returns SyncAlways if that is known, or if the monitoring of all
// configured servers says so. Without Config.MonitorURLs it is SyncUnknown.
func (c *Conn) SyncState(ctx context.Context) (SyncState, error) {
	if c.config.Synced {
		return SyncAlways, nil
	}
	state := SyncUnknown
	for _, url := range c.config.MonitorURLs {
		always, err := syncAlways(ctx, url)
		if err != nil {
			return SyncUnknown, fmt.Errorf("read sync_always: %w: %w", bus.ErrUnavailable, err)
		}
		if !always {
			return SyncDelayed, nil
		}
		state = SyncAlways
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
