package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/weftrun/weft/cmd/internal/place"
	"github.com/weftrun/weft/core/apiserver"
	"github.com/weftrun/weft/core/store"
)

// backupCommand writes or checks a backup.
type backupCommand struct {
	flags   *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams
	data    string

	access        place.Access
	keyFile       string
	verify, plain bool
}

func backup(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams, data string) *cobra.Command {
	b := &backupCommand{flags: flags, streams: streams, data: data}
	c := &cobra.Command{
		Use:   "backup PLACE",
		Short: "Write a backup of the whole cluster while it runs, or check one",
		Long: `Write a backup of the whole cluster while it runs: all objects at one revision,
Secrets among them, the keys and certificates that make it this cluster, and
pushed modules.

PLACE is ` + place.Usage + `.

The backup is encrypted, with the key of the log (core/key in the data folder)
or one of its own (--key-file, which is made if it is not there). Keep the key
apart from the backup, and do not lose it: nothing can be read without it.

All of it is read back and checked before this command says that it is written.
"weft restore" restores it.`,
		Example: `  weft backup --key-file backup.key cluster.backup
  weft backup --verify --key-file backup.key cluster.backup
  weft backup --key-file backup.key nats://backups.example.com/weft/monday
  weft backup - | ssh elsewhere 'cat > cluster.backup'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := b.run(c.Context(), args[0]); err != nil {
				return fmt.Errorf("backup %s: %w", place.Shown(args[0]), err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&b.keyFile, "key-file", "", "file with the key, 32 bytes (default: core/key in the data folder)")
	c.Flags().BoolVar(&b.verify, "verify", false, "only check the backup that is there: every checksum, every object, all counted")
	b.access.Add(c.Flags())
	c.Flags().BoolVar(&b.plain, "no-modules", false, "leave out the modules of \"weft push\"")
	return c
}

func (b *backupCommand) run(ctx context.Context, path string) error {
	if err := place.Check(path); err != nil {
		return err
	}
	key, secret, err := b.key()
	if err != nil {
		return err
	}
	if b.verify {
		return b.check(ctx, path, key)
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
	var info store.BackupInfo
	err = place.Keep(ctx, path, content, func(r io.Reader) (err error) {
		info, err = (&store.BackupReader{}).Read(r, key)
		return err
	}, b.access)
	if err != nil {
		return err
	}
	return b.say("wrote %s: %s; encrypted with %s from %s: keep that file apart from the backup", place.Shown(path), describe(info), key, b.keyFile)
}

// check checks the backup at path.
func (b *backupCommand) check(ctx context.Context, path string, key store.Key) error {
	content, err := place.Open(ctx, path, b.streams.In, b.access)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }() // only read
	info, err := (&store.BackupReader{}).Read(content, key)
	if err != nil {
		return err
	}
	return b.say("%s is whole: %s", place.Shown(path), describe(info))
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
