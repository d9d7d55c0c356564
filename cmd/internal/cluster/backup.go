package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/weftrun/weft/core/store"
)

// The folders and files of the data folder that make a cluster the one that
// its clients and nodes know, as they are named in a backup.
var identity = []string{"pki", "nats/keys", "core/tokens.json"}

// modulePrefix begins the name of a pushed module in a backup.
const modulePrefix = "modules/"

// backup writes a backup of the cluster.
func (c *coreParts) backup(ctx context.Context, w io.Writer, secret []byte, modules bool) error {
	key, err := store.NewKey(secret)
	if err != nil {
		return err
	}
	return c.store.Backup(ctx, w, key, func(yield func(store.BackupFile, error) bool) {
		for file, err := range identityFiles(c.settings.Data) {
			if !yield(file, err) || err != nil {
				return
			}
		}
		if !modules {
			return
		}
		for file, err := range c.modules(ctx) {
			if !yield(file, err) || err != nil {
				return
			}
		}
	})
}

func identityFiles(data string) iter.Seq2[store.BackupFile, error] {
	return func(yield func(store.BackupFile, error) bool) {
		for _, name := range identity {
			paths, err := filesUnder(filepath.Join(data, name))
			if err != nil {
				yield(store.BackupFile{}, fmt.Errorf("read the cluster's identity: %w", err))
				return
			}
			for _, path := range paths {
				content, err := os.ReadFile(path)
				short := filepath.ToSlash(strings.TrimPrefix(path, data+string(filepath.Separator)))
				if !yield(store.BackupFile{Name: short, Content: bytes.NewReader(content)}, err) || err != nil {
					return
				}
			}
		}
	}
}

// filesUnder lists the regular files of a folder, or the one file that path is;
// of nothing, none. Temporary files are left out.
func filesUnder(path string) (files []string, err error) {
	err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there are no tokens, say
		}
		if err == nil && entry.Type().IsRegular() && !strings.HasPrefix(entry.Name(), ".") {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// modules yields the pushed modules. One that is gone meanwhile is left out.
func (c *coreParts) modules(ctx context.Context) iter.Seq2[store.BackupFile, error] {
	return func(yield func(store.BackupFile, error) bool) {
		found, err := c.carrier.bus.ListBlobs(ctx)
		if err != nil {
			yield(store.BackupFile{}, err)
			return
		}
		for _, blob := range found {
			_, content, err := c.carrier.bus.GetBlob(ctx, blob.Name)
			if err != nil {
				yield(store.BackupFile{}, err)
				return
			}
			more := yield(store.BackupFile{Name: modulePrefix + blob.Name, Content: content}, nil)
			if err := content.Close(); err != nil && more {
				yield(store.BackupFile{}, err)
				return
			}
			if !more {
				return
			}
		}
	}
}
