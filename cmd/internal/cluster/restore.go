package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core/store"
)

// Restore is "weft restore".
type Restore struct {
	Settings *settings.Settings
	Backup   io.ReadSeeker // it is read several times
	KeyFile  string        // empty for the key of the log
	Force    bool          // also over a folder or a log that is in use
	Logger   *slog.Logger
}

// The folders of a restore within the data folder: what is being made, and what
// was made whole and must only be moved into place.
const (
	restoreFolder = ".restore"
	restoreNew    = "new"
	restoreReady  = "ready"
	restoreDone   = "done" // what is left of it once all was moved
	restoreMoves  = "moves.json"
)

// replaced is what a restore puts in the place of what was there, by name in
// the data folder. The mark belongs to the log that is replaced.
var replaced = []string{"nats/streams", "nats/keys", "pki", "core/tokens.json", "core/key", "core/mark"}

// Run restores a backup, whole or not at all. It returns what the backup holds,
// and the folder where what was replaced is kept; empty if there was nothing.
func (r *Restore) Run(ctx context.Context) (info store.BackupInfo, aside string, err error) {
	p := Paths{r.Settings.Data}
	release, err := lock(p.Core(), "a core")
	if err != nil {
		return info, "", err
	}
	defer release()
	if err := finishRestore(p.Data, r.Logger); err != nil {
		return info, "", err
	}
	key, err := r.key()
	if err != nil {
		return info, "", err
	}
	// First all of it is checked: nothing is changed for a backup that is none.
	if info, err = (&store.BackupReader{}).Read(r.Backup, key); err != nil {
		return info, "", err
	}
	if err := r.refuseUsed(); err != nil {
		return info, "", err
	}
	stage := r.stage
	if len(r.Settings.NATS.URLs) > 0 {
		stage = r.outside
	}
	if err := stage(ctx, key); err != nil {
		return info, "", errors.Join(err, os.RemoveAll(p.join(restoreFolder)))
	}
	m, err := readMoves(p.Data)
	if err != nil {
		return info, "", err
	}
	aside = p.join(m.Aside)
	if err := finishRestore(p.Data, r.Logger); err != nil {
		return info, "", err
	}
	if _, err := os.Stat(aside); err != nil {
		aside = ""
	}
	return info, aside, nil
}

func (r *Restore) key() (store.Key, error) {
	path := r.KeyFile
	if path == "" {
		path = Paths{r.Settings.Data}.Key()
	}
	if _, err := os.Stat(path); err != nil {
		return store.Key{}, fmt.Errorf("the backup's key: %w: name the file with --key-file; if the backup was made without one, it is core/key of the data folder that it was made from", err)
	}
	return store.LoadOrCreateKey(path)
}

// refuseUsed refuses to replace a cluster, unless forced to.
func (r *Restore) refuseUsed() error {
	if r.Force {
		return nil
	}
	for _, name := range replaced {
		if name == "core/key" {
			continue // put there to read the backup
		}
		if len(r.Settings.NATS.URLs) > 0 && name == "nats/keys" {
			continue // the server's configuration was made from them
		}
		if _, err := os.Stat(filepath.Join(r.Settings.Data, name)); err == nil {
			return fmt.Errorf("the data folder %s is in use, it has %s: restore into an empty one, or replace what is there by --force (it is moved aside, not deleted)", r.Settings.Data, name)
		}
	}
	return nil
}

// stage makes everything anew beside what is there. Its last step says that it
// is whole.
func (r *Restore) stage(ctx context.Context, key store.Key) error {
	stage, err := r.stageFiles(key)
	if err != nil {
		return err
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: stage.NATS(), NoListen: true, Logger: r.Logger.With("part", "nats")})
	if err != nil {
		return err
	}
	defer server.Shutdown() // again does nothing
	conn, err := server.Connect(ctx, bus.Identity{Role: bus.RoleCore, Name: "restore"})
	if err != nil {
		return err
	}
	err = r.fill(ctx, conn, stage.Key(), key)
	err = errors.Join(err, conn.Close())
	server.Shutdown()
	if err != nil {
		return err
	}
	if err := writeMoves(stage.Data, nil); err != nil {
		return err
	}
	if err := syncTree(stage.Data); err != nil {
		return err
	}
	return r.stageReady()
}

// stageFiles makes the files of a cluster's identity, and keeps the log's key.
func (r *Restore) stageFiles(key store.Key) (Paths, error) {
	p := Paths{r.Settings.Data}
	stage := Paths{p.join(restoreFolder, restoreNew)}
	if err := os.RemoveAll(p.join(restoreFolder)); err != nil {
		return stage, fmt.Errorf("stage: %w", err)
	}
	if err := r.writeIdentity(stage.Data, key); err != nil {
		return stage, err
	}
	return stage, copyKey(p.Key(), stage.Key())
}

// stageReady says that what was made is whole.
func (r *Restore) stageReady() error {
	p := Paths{r.Settings.Data}
	stage := Paths{p.join(restoreFolder, restoreNew)}
	if err := os.Rename(stage.Data, p.join(restoreFolder, restoreReady)); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return errors.Join(syncFile(p.join(restoreFolder)), syncFile(p.Data))
}

// copyKey keeps the log's key, if there is one.
func copyKey(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("keep the log's key: %w", err)
	}
	secret, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = writeSecret(to, secret)
	}
	if err != nil {
		return fmt.Errorf("keep the log's key: %w", err)
	}
	return nil
}

// outside restores into an outside server. The folder's files are made beside
// what is there, as stage does, and are ready once the log is replaced.
func (r *Restore) outside(ctx context.Context, key store.Key) error {
	stage, err := r.stageFiles(key)
	if err != nil {
		return err
	}
	connecting, keep := *r.Settings, []string{"nats/streams"}
	if _, err := os.Stat(Paths{r.Settings.Data}.NATSKeys()); err == nil {
		keep = append(keep, "nats/keys") // the server's configuration was made from them
	} else if _, err := os.Stat(stage.NATSKeys()); err == nil {
		connecting.Data = stage.Data // or from the backup's
	}
	carrier, err := connectOutside(ctx, &connecting, bus.Identity{Role: bus.RoleCore, Name: r.Settings.Node.Name}, r.Logger)
	if err != nil {
		return err
	}
	defer carrier.close()
	return r.alone(ctx, carrier.bus, func(ctx context.Context) error {
		return r.overwrite(ctx, carrier.bus, stage, keep, key)
	})
}

// alone works with the leader's lease: a core that led or began to lead
// meanwhile would go on with the state of before.
func (r *Restore) alone(ctx context.Context, leases bus.Leases, work func(context.Context) error) error {
	holder, err := leaseHolder(Paths{r.Settings.Data}.Core())
	if err != nil {
		return err
	}
	var lease bus.Lease
	for begin := time.Now(); ; {
		lease, err = leases.Acquire(ctx, leaseName, holder, leaseTime)
		if err == nil {
			break
		}
		if !errors.Is(err, bus.ErrConflict) {
			return fmt.Errorf("take the leader's lease: %w", err)
		}
		if time.Since(begin) > 2*leaseTime { // that of a core that was killed has run out
			return fmt.Errorf("a core of this cluster leads: %w: stop all its cores first, then restore again", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leaseRetry):
		}
	}
	lost, err := hold(ctx, lease, r.Logger, func(ctx context.Context, _ *leadership) error { return work(ctx) })
	if lost != nil && err != nil {
		return fmt.Errorf("the restore ended with the leader's lease: %w: restore again", lost)
	}
	return err
}

// overwrite replaces the log of an outside server. All that can go wrong with
// the folder's files, except keep, comes before.
func (r *Restore) overwrite(ctx context.Context, b bus.Bus, stage Paths, keep []string, key store.Key) error {
	log, err := b.OpenLog(ctx, logName)
	if err != nil {
		return err
	}
	if _, last, err := log.Bounds(ctx); err != nil || last > 0 && !r.Force {
		return errors.Join(err, fmt.Errorf("the log of the NATS server is in use, it has %d records: replace what is there by --force", last))
	}
	if _, err := store.LoadOrCreateKey(stage.Key()); err != nil {
		return err
	}
	if err := writeMoves(stage.Data, keep); err != nil {
		return err
	}
	if err := syncTree(stage.Data); err != nil {
		return err
	}
	if err := r.fill(ctx, b, stage.Key(), key); err != nil {
		return err
	}
	return r.stageReady()
}

// writeIdentity writes the files of the backup that make the cluster what it
// is, under a folder.
func (r *Restore) writeIdentity(folder string, key store.Key) error {
	content := map[string][]byte{}
	reader := store.BackupReader{File: func(name string, piece []byte) error {
		if !isIdentity(name) {
			return nil
		}
		if content[name] = append(content[name], piece...); len(content[name]) > 1<<20 {
			return fmt.Errorf("file %s has more than 1 MiB", name)
		}
		return nil
	}}
	if err := r.read(&reader, key); err != nil {
		return err
	}
	for name, data := range content {
		if err := writeSecret(filepath.Join(folder, filepath.FromSlash(name)), data); err != nil {
			return err
		}
	}
	return nil
}

// isIdentity lets no backup write anywhere else.
func isIdentity(name string) bool {
	return path.Clean(name) == name && slices.ContainsFunc(identity, func(i string) bool {
		return name == i || strings.HasPrefix(name, i+"/") && !strings.Contains(name[len(i)+1:], "/")
	})
}

func (r *Restore) read(reader *store.BackupReader, key store.Key) error {
	if _, err := r.Backup.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read backup again: %w", err)
	}
	_, err := reader.Read(r.Backup, key)
	return err
}

// fill writes modules and objects; the objects' last record makes it all true.
func (r *Restore) fill(ctx context.Context, b bus.Bus, logKey string, key store.Key) error {
	if err := r.putModules(ctx, b, key); err != nil {
		return err
	}
	if _, err := r.Backup.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read backup again: %w", err)
	}
	own, err := store.LoadOrCreateKey(logKey)
	if err != nil {
		return err
	}
	config, err := storeConfig(ctx, b, own, r.Logger)
	if err != nil {
		return err
	}
	_, err = store.Restore(ctx, config, r.Backup, key)
	return err
}

// putModules puts the pushed modules into the cluster's store. One file is on
// its way at a time: its pieces go through a pipe.
func (r *Restore) putModules(ctx context.Context, b bus.Bus, key store.Key) error {
	var pipe *io.PipeWriter
	var done chan error
	reader := store.BackupReader{File: func(name string, piece []byte) error {
		digest, ok := strings.CutPrefix(name, modulePrefix)
		if !ok {
			return nil
		}
		if pipe == nil {
			var content *io.PipeReader
			content, pipe = io.Pipe()
			done = make(chan error, 1) // the one result
			go func() {
				_, err := b.PutBlob(ctx, digest, 1<<40, content)
				_ = content.CloseWithError(err)
				done <- err
			}()
		}
		if len(piece) > 0 {
			_, err := pipe.Write(piece)
			return err
		}
		_ = pipe.Close() // never fails
		pipe = nil
		return <-done
	}}
	err := r.read(&reader, key)
	if pipe != nil {
		_ = pipe.CloseWithError(err) // never fails
		err = errors.Join(err, <-done)
	}
	return err
}

// moves is what a restore that was made whole still has to do.
type moves struct {
	Aside string   `json:"aside"` // the folder for what is replaced
	Has   []string `json:"has"`   // what was made; of the rest nothing is to be there
	Keep  []string `json:"keep"`  // what stays as it is
}

func writeMoves(stage string, keep []string) error {
	m := moves{Aside: "replaced-" + time.Now().UTC().Format("20060102T150405"), Keep: keep}
	for _, name := range replaced {
		if _, err := os.Lstat(filepath.Join(stage, name)); err == nil {
			m.Has = append(m.Has, name)
		}
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return writeSecret(filepath.Join(stage, restoreMoves), data)
}

func readMoves(data string) (m moves, err error) {
	content, err := os.ReadFile(filepath.Join(data, restoreFolder, restoreReady, restoreMoves))
	if err == nil {
		err = json.Unmarshal(content, &m)
	}
	if err == nil && (m.Aside != filepath.Base(m.Aside) || !strings.HasPrefix(m.Aside, "replaced-")) {
		err = fmt.Errorf("%q is no folder's name", m.Aside)
	}
	if err != nil {
		return m, fmt.Errorf("finish the restore: %w", err)
	}
	return m, nil
}

// finishRestore moves into place what a restore has made whole, and drops what
// it has not. It may be ended at any moment and called again. The folder is
// locked.
func finishRestore(data string, log *slog.Logger) error {
	folder := filepath.Join(data, restoreFolder)
	ready := filepath.Join(folder, restoreReady)
	if _, err := os.Stat(ready); err != nil {
		if _, err := os.Stat(filepath.Join(folder, restoreNew)); err == nil {
			log.Warn("a restore was not finished, and has changed nothing in this folder", "folder", data)
		}
		return os.RemoveAll(folder)
	}
	m, err := readMoves(data)
	if errors.Is(err, fs.ErrNotExist) { // all was moved, and it was ended while it dropped the rest
		return os.RemoveAll(folder)
	}
	if err != nil {
		return err
	}
	for _, name := range replaced {
		if slices.Contains(m.Keep, name) {
			continue
		}
		made, place, aside := filepath.Join(ready, name), filepath.Join(data, name), filepath.Join(data, m.Aside, name)
		if err := replace(made, place, aside, slices.Contains(m.Has, name)); err != nil {
			return fmt.Errorf("finish the restore: %w", err)
		}
	}
	log.Info("a restore is finished", "folder", data)
	if err := syncFile(data); err != nil {
		return err
	}
	// Without its moves it must not be found again.
	if err := os.Rename(ready, filepath.Join(folder, restoreDone)); err != nil {
		return fmt.Errorf("finish the restore: %w", err)
	}
	if err := syncFile(folder); err != nil {
		return err
	}
	return os.RemoveAll(folder)
}

// replace moves made, if there was such a thing, to place, and what is there
// aside, unless that was done.
func replace(made, place, aside string, had bool) error {
	if _, err := os.Lstat(made); err != nil && had {
		return nil // it was moved before
	}
	if _, err := os.Lstat(place); err == nil {
		if err := os.MkdirAll(filepath.Dir(aside), 0o700); err != nil {
			return err
		}
		if err := os.Rename(place, aside); err != nil {
			return err
		}
	}
	if !had {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return err
	}
	if err := os.Rename(made, place); err != nil {
		return err
	}
	return syncFile(filepath.Dir(place))
}

// syncTree syncs all files and folders under a folder, and itself.
func syncTree(folder string) error {
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncFile(path)
	})
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return errors.Join(file.Sync(), file.Close())
}
