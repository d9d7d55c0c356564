package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/weftrun/weft/core/apiserver"
	"github.com/weftrun/weft/core/store"
)

// backupCommand writes or checks a backup.
type backupCommand struct {
	flags   *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams
	data    string

	keyFile       string
	verify, plain bool
}

func backup(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams, data string) *cobra.Command {
	b := &backupCommand{flags: flags, streams: streams, data: data}
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of the whole cluster while it runs, or check one",
		Long: `Write a backup of the whole cluster while it runs: all objects at one revision,
Secrets among them, the keys and certificates that make it this cluster, and
pushed modules. FILE may be - for standard output.

The backup is encrypted, with the key of the log (core/key in the data folder)
or one of its own (--key-file, which is made if it is not there). Keep the key
apart from the backup, and do not lose it: nothing can be read without it.

All of it is read back and checked before this command says that it is written.
"weft restore" restores it.`,
		Example: `  weft backup --key-file backup.key cluster.backup
  weft backup --verify --key-file backup.key cluster.backup
  weft backup - | ssh elsewhere 'cat > cluster.backup'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := b.run(c.Context(), args[0]); err != nil {
				return fmt.Errorf("backup %s: %w", args[0], err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&b.keyFile, "key-file", "", "file with the key, 32 bytes (default: core/key in the data folder)")
	c.Flags().BoolVar(&b.verify, "verify", false, "only check FILE: every checksum, every object, all counted")
	c.Flags().BoolVar(&b.plain, "no-modules", false, "leave out the modules of \"weft push\"")
	return c
}

func (b *backupCommand) run(ctx context.Context, path string) error {
	key, secret, err := b.key()
	if err != nil {
		return err
	}
	if b.verify {
		info, err := check(path, b.streams.In, key)
		if err != nil {
			return err
		}
		return b.say("%s is whole: %s", path, describe(info))
	}
	client, err := restClient(b.flags)
	if err != nil {
		return err
	}
	request := client.Post().AbsPath("/weft/v1/backup").SetHeader(apiserver.BackupKeyHeader, base64.StdEncoding.EncodeToString(secret))
	if b.plain {
		request = request.Param("modules", "false")
	}
	content, err := request.Stream(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }() // it was read, or is given up
	if path == "-" {
		// What follows the manifest would be an error, so all of it is read.
		info, err := (&store.BackupReader{}).Read(io.TeeReader(content, b.streams.Out), key)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(b.streams.ErrOut, "wrote %s, %s\n", describe(info), key)
		return err
	}
	info, err := write(path, content, key)
	if err != nil {
		return err
	}
	return b.say("wrote %s: %s; encrypted with %s from %s: keep that file apart from the backup", path, describe(info), key, b.keyFile)
}

func (b *backupCommand) say(format string, args ...any) error {
	_, err := fmt.Fprintf(b.streams.Out, format+"\n", args...)
	return err
}

func describe(info store.BackupInfo) string {
	return fmt.Sprintf("%d objects and %d files of revision %d, %s", info.Objects, info.Files, info.Revision, info.Written.Format("2006-01-02 15:04:05 MST"))
}

// key reads the key, or makes one in a file that the user has named.
func (b *backupCommand) key() (store.Key, []byte, error) {
	if b.keyFile == "" {
		b.keyFile = filepath.Join(b.data, "core", "key")
	}
	if _, err := os.Stat(b.keyFile); err != nil && (b.verify || b.keyFile == filepath.Join(b.data, "core", "key")) {
		return store.Key{}, nil, fmt.Errorf("the key: %w: name its file with --key-file", err)
	}
	key, err := store.LoadOrCreateKey(b.keyFile)
	if err != nil {
		return store.Key{}, nil, err
	}
	secret, err := os.ReadFile(b.keyFile)
	return key, secret, err
}

// write keeps a backup under path once it was read back and is whole.
func write(path string, content io.Reader, key store.Key) (info store.BackupInfo, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return info, err
	}
	if info, err = check(file.Name(), nil, key); err != nil {
		return info, err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return info, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return info, err
	}
	return info, errors.Join(dir.Sync(), dir.Close())
}

func check(path string, in io.Reader, key store.Key) (store.BackupInfo, error) {
	if path == "-" {
		return (&store.BackupReader{}).Read(in, key)
	}
	file, err := os.Open(path)
	if err != nil {
		return store.BackupInfo{}, err
	}
	defer func() { _ = file.Close() }() // only read
	return (&store.BackupReader{}).Read(file, key)
}
