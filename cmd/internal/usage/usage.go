// Package usage says how a command is called to who called it wrongly. It must
// not know any command.
package usage

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Tell adds the command's usage line to what it says of wrong arguments.
func Tell(c *cobra.Command) {
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return fmt.Errorf("%w\nusage: %s", err, c.UseLine())
		}
		return nil
	}
}
