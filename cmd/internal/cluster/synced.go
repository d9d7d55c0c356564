package cluster

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"

	"github.com/weftrun/weft/bus/nats"
)

// recallSync decides what counts of NATS servers of which some did not say whether
// they sync each write, because they are down perhaps: a core must be able to start
// then. It counts that those said so when it was last read, which is kept in file,
// if most of them say so now. err is what SyncState returned with state.
func recallSync(file string, monitoring []string, state nats.SyncState, err error, log *slog.Logger) nats.SyncState {
	unread, some := errors.AsType[*nats.UnreadError](err)
	switch {
	case state == nats.SyncAlways:
		rememberSync(file, monitoring, log)
	case state == nats.SyncDelayed:
		rememberSync(file, nil, log)
	case some && 2*len(unread.URLs) < len(monitoring):
		known := rememberedSync(file)
		if slices.ContainsFunc(unread.URLs, func(url string) bool { return !slices.Contains(known, url) }) {
			return state
		}
		log.Warn("whether these NATS servers sync each write cannot be read now; they did when it was read last", "monitoring", unread.URLs, "err", err)
		return nats.SyncAlways
	}
	return state
}

// rememberSync keeps which servers sync each write, by their monitoring. That it
// cannot is no reason not to start.
func rememberSync(file string, monitoring []string, log *slog.Logger) {
	if slices.Equal(rememberedSync(file), monitoring) {
		return
	}
	data, err := json.Marshal(monitoring)
	if err == nil {
		err = writeSecret(file, data)
	}
	if err != nil {
		log.Warn("that NATS servers sync each write is not kept for the next start", "err", err)
	}
}

// rememberedSync returns what rememberSync kept. What cannot be read counts for
// nothing.
func rememberedSync(file string) []string {
	data, err := os.ReadFile(file)
	var known []string
	if err != nil || json.Unmarshal(data, &known) != nil {
		return nil
	}
	return known
}
