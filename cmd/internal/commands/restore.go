package commands

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weftrun/weft/cmd/internal/cluster"
	"github.com/weftrun/weft/cmd/internal/place"
)

func restore() *cobra.Command {
	var f flags
	var access place.Access
	var keyFile string
	var force bool
	c := &cobra.Command{
		Use:   "restore PLACE",
		Short: "Make the data folder the cluster of a backup, while no core runs on it",
		Long: `Make the data folder the cluster of a backup, while no core runs on it. The
backup is checked first, and restored whole or not at all, also when this
command is killed.

PLACE is ` + place.Usage + `.

What a new machine needs is in the backup: the objects, the certificates that
clients trust, the keys that credentials are signed with, tokens, and pushed
modules. A new history begins: resource versions jump, and watches of before
start over.`,
		Example: `  weft restore --key-file backup.key cluster.backup
  weft restore --key-file backup.key nats://backups.example.com/weft/monday
  weft restore --force cluster.backup # in place of what is there`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, log, err := f.start()
			if err != nil {
				return err
			}
			return untilSignal(func(ctx context.Context) error {
				file, done, err := place.Seekable(ctx, args[0], c.InOrStdin(), access)
				if err != nil {
					return fmt.Errorf("open the backup: %w", err)
				}
				defer done()
				r := cluster.Restore{Settings: s, Backup: file, KeyFile: keyFile, Force: force, Logger: log}
				info, aside, err := r.Run(ctx)
				if err != nil {
					return err
				}
				out := c.OutOrStdout()
				fmt.Fprintf(out, "restored %d objects and %d files of revision %d, backed up %s\n", info.Objects, info.Files, info.Revision, info.Written.Format("2006-01-02 15:04:05 MST"))
				if aside != "" {
					fmt.Fprintf(out, "what was there is kept in %s: delete it when you need it no more\n", aside)
				}
				_, err = fmt.Fprintln(out, "start the cluster: weft core, or weft up")
				return err
			})
		},
	}
	f.add(c)
	access.Add(c.Flags())
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the backup's key (default: core/key in the data folder)")
	c.Flags().BoolVar(&force, "force", false, "replace a cluster that is there; it is moved aside")
	return c
}
