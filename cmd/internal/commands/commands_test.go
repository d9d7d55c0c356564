package commands

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRefusals(t *testing.T) {
	t.Setenv("WEFT_DATA", t.TempDir())
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"credentials"}, "accepts 2 arg(s), received 0\nusage: weft credentials ROLE NAME [flags]"},
		{[]string{"credentials", "node", "A_B"}, `no node may be called "A_B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		{[]string{"restore"}, "accepts 1 arg(s), received 0\nusage: weft restore PLACE [flags]"},
	} {
		command, ok := Daemon(c.args)
		if !ok {
			t.Fatalf("%v is no command", c.args)
		}
		command.SetOut(io.Discard)
		err := command.Execute()
		if err == nil {
			t.Errorf("%v: accepted", c.args)
			continue
		}
		if diff := cmp.Diff(c.want, err.Error()); diff != "" {
			t.Errorf("%v: %s", c.args, diff)
		}
	}
}
