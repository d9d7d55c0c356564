package creds_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/creds"
)

func open(t *testing.T, dir string) *creds.Authority {
	t.Helper()
	a, err := creds.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpenAgainIsTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a, b := open(t, dir), open(t, dir)
	if a.AccountJWT != b.AccountJWT || a.OperatorJWT != b.OperatorJWT || a.SystemJWT != b.SystemJWT {
		t.Error("opening again makes other tokens")
	}
	// Stored rights that are not those of this binary are replaced.
	if err := os.WriteFile(filepath.Join(dir, "account.jwt"), []byte(a.SystemJWT), 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir)
	claims, err := jwt.DecodeAccountClaims(c.AccountJWT)
	if err != nil || claims.Subject != a.Account {
		t.Errorf("account %v, %v", claims, err)
	}
}

func TestBrokenKeys(t *testing.T) {
	for _, content := range []string{"", "garbage", "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "account.nk"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := creds.Open(dir); err == nil {
			t.Errorf("key %q is taken", content)
		}
	}
}

func TestIssue(t *testing.T) {
	a := open(t, t.TempDir())
	data, err := a.Issue(bus.Identity{Role: bus.RoleNode, Name: "rack.7"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.ParseDecoratedJWT(data)
	if err != nil {
		t.Fatal(err)
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	if user.Name != "rack%2E7" || user.IssuerAccount != a.Account || !user.HasEmptyPermissions() {
		t.Errorf("got %s", user)
	}
	if _, err := a.Issue(bus.Identity{Role: "root", Name: "x"}); err == nil {
		t.Error("an unknown role is issued")
	}
}

func TestServerConfigIsAccepted(t *testing.T) {
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "keys"))
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(a.ServerConfig(filepath.Join(dir, "store"))), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !options.SyncAlways || options.MaxPayload != bus.MaxPayload || options.SystemAccount != a.System {
		t.Errorf("got %+v", options)
	}
}
