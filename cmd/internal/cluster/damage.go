package cluster

import (
	"fmt"
	"log/slog"

	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core/store"
)

// logName is the stream of the log.
const logName = "WAL"

// inspectLog reads the log's files before the embedded server does, since that
// cuts a damaged file at the damage without a word. It refuses to start over
// anything but a last record that nobody was told is stored.
func inspectLog(s *settings.Settings, log *slog.Logger) error {
	p := Paths{s.Data}
	mark, err := store.ReadMark(p.Mark())
	if err != nil {
		log.Warn("it is not known what the log must hold", "err", err)
	}
	in, err := embedded.Inspect(p.NATS(), logName, store.CheckRecord)
	if err != nil {
		return err
	}
	d := in.Damage
	if s.AcceptLoss {
		log.Warn("what is damaged of the log is given up", "log", logName, "kept to record", in.Last, "acknowledged to", mark.Sequence, "damage", d)
		return embedded.Forget(p.NATS(), logName)
	}
	switch {
	case d != nil && d.Behind != 0:
		return damaged(s, fmt.Errorf("log %s: record %d: %w: %s; whole records follow it, from record %d on", logName, in.Last+1, store.ErrDamaged, d, d.Behind))
	case in.Last < mark.Sequence && d != nil:
		return damaged(s, fmt.Errorf("log %s: record %d: %w: %s; records up to %d were acknowledged", logName, in.Last+1, store.ErrDamaged, d, mark.Sequence))
	case in.Last < mark.Sequence:
		return damaged(s, fmt.Errorf("log %s: %w: its files end with record %d; records up to %d were acknowledged", logName, store.ErrLogCut, in.Last, mark.Sequence))
	case d != nil:
		log.Info("the last write was not finished, and is dropped: it was never acknowledged", "log", logName, "record", in.Last+1, "file", d.File)
	}
	return nil
}

// unopened says of a store that was not opened what can be done about it.
func unopened(s *settings.Settings, err error) error {
	if store.Damaged(err) {
		return damaged(s, err)
	}
	return err
}

// damaged says what can be done about a damaged log.
func damaged(s *settings.Settings, err error) error {
	if s.AcceptLoss {
		return fmt.Errorf("the log is damaged, and nothing can be read of it: %w: restore a backup: weft restore --force FILE", err)
	}
	where := "the streams of the NATS server"
	if len(s.NATS.URLs) == 0 {
		where = Paths{s.Data}.NATS()
	}
	return fmt.Errorf("the log is damaged, and nothing was changed: %w\n"+
		"  What to do: copy %s away first. Then restore a backup (weft restore --force FILE),\n"+
		"  or go on with what is whole and give up the rest for good (weft core --accept-loss, or weft up --accept-loss)", err, where)
}
