// Package guard makes this program the guard of a plugin, if it is started as
// one. It must do no more; to import it is enough.
package guard

import (
	"os"

	"github.com/weftrun/weft/plugins/host/guard"
)

// Argument is the only argument of a guard. It is no command for people.
const Argument = "plugin-guard"

// A guard needs nothing of what Kubernetes' packages set up while they are
// initialised, in 50 ms and 8 MB. Since this package needs little, Go
// initialises it before them, and a guard goes no further.
var _ = become()

func become() bool {
	if len(os.Args) == 2 && os.Args[1] == Argument {
		os.Exit(guard.Run())
	}
	return false
}
