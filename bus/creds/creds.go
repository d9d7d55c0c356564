// Package creds makes the keys of a NATS account for Weft and issues
// credentials whose rights are those of the subject tree in package bus. It
// must not talk to a server.
package creds

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/weftrun/weft/bus"
)

// Authority holds the keys of one operator with two accounts: Weft's own, with
// one scoped signing key for each role, and the server's system account. It is
// immutable and may be used concurrently.
type Authority struct {
	operator, account, system nkeys.KeyPair
	roles                     map[bus.Role]nkeys.KeyPair

	// OperatorJWT, AccountJWT and SystemJWT are what a server is configured
	// with.
	OperatorJWT, AccountJWT, SystemJWT string
	// Account and System are the public keys of the two accounts.
	Account, System string
}

// Open reads the authority kept in a folder, or makes one there. The folder
// gets mode 0700, its files 0600. Rights follow this binary: when it grants
// others than the stored ones, AccountJWT is signed anew, and an outside
// server must be given the new one.
func Open(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	a := &Authority{roles: make(map[bus.Role]nkeys.KeyPair)}
	var err error
	if a.operator, err = openKey(dir, "operator", nkeys.CreateOperator, nkeys.PrefixByteOperator); err != nil {
		return nil, err
	}
	if a.account, err = openKey(dir, "account", nkeys.CreateAccount, nkeys.PrefixByteAccount); err != nil {
		return nil, err
	}
	if a.system, err = openKey(dir, "system", nkeys.CreateAccount, nkeys.PrefixByteAccount); err != nil {
		return nil, err
	}
	for _, role := range bus.Roles {
		if a.roles[role], err = openKey(dir, string(role), nkeys.CreateAccount, nkeys.PrefixByteAccount); err != nil {
			return nil, err
		}
	}
	if err := a.sign(dir); err != nil {
		return nil, fmt.Errorf("open authority %s: %w", dir, err)
	}
	return a, nil
}

func openKey(dir, name string, create func() (nkeys.KeyPair, error), prefix nkeys.PrefixByte) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, name+".nk")
	seed, err := os.ReadFile(path)
	switch {
	case err == nil:
		kp, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		public, err := kp.PublicKey()
		if err != nil || nkeys.Prefix(public) != prefix {
			return nil, fmt.Errorf("key %s: it is of another type", path)
		}
		return kp, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	kp, err := create()
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	if seed, err = kp.Seed(); err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	if err := writeFile(path, append(seed, '\n')); err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return kp, nil
}

// maxFile bounds a file of credentials, in bytes.
const maxFile = 64 << 10

// ReadFile reads a file of credentials, as Issue and nsc write them. The error names
// the file, and says whether it is none.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	_, err = jwt.ParseDecoratedJWT(data)
	if err == nil {
		_, err = jwt.ParseDecoratedUserNKey(data)
	}
	if err != nil || len(data) > maxFile {
		return nil, fmt.Errorf("%s holds no credentials, which are a JWT and a seed between dashed lines", path)
	}
	return data, nil
}

// writeFile replaces a file whole, so that a crash leaves the old or the new.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone when renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	// Without its keys, a server does not find its streams again.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// sign makes the JWTs, or takes the stored ones that say the same.
func (a *Authority) sign(dir string) error {
	var err error
	if a.Account, err = a.account.PublicKey(); err != nil {
		return err
	}
	if a.System, err = a.system.PublicKey(); err != nil {
		return err
	}
	operator, err := a.operator.PublicKey()
	if err != nil {
		return err
	}
	op := jwt.NewOperatorClaims(operator)
	op.Name = "weft"
	op.SystemAccount = a.System
	sys := jwt.NewAccountClaims(a.System)
	sys.Name = "SYS"
	account, err := a.accountClaims()
	if err != nil {
		return err
	}
	for _, j := range []struct {
		file   string
		claims jwt.Claims
		into   *string
	}{{"operator.jwt", op, &a.OperatorJWT}, {"system.jwt", sys, &a.SystemJWT}, {"account.jwt", account, &a.AccountJWT}} {
		if *j.into, err = a.signed(filepath.Join(dir, j.file), j.claims); err != nil {
			return fmt.Errorf("sign %s: %w", j.file, err)
		}
	}
	return nil
}

func (a *Authority) accountClaims() (*jwt.AccountClaims, error) {
	c := jwt.NewAccountClaims(a.Account)
	c.Name = "WEFT"
	c.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit,
		Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	for _, role := range bus.Roles {
		public, err := a.roles[role].PublicKey()
		if err != nil {
			return nil, err
		}
		scope := jwt.NewUserScope()
		scope.Key = public
		scope.Role = string(role)
		p := bus.PermissionsTemplate(role, "{{name()}}")
		scope.Template.Pub.Allow = p.Publish
		scope.Template.Sub.Allow = p.Subscribe
		if p.Respond {
			// Streams answer with many frames, so only time bounds the answers.
			scope.Template.Resp = &jwt.ResponsePermission{MaxMsgs: -1, Expires: bus.RespondFor}
		}
		c.SigningKeys.AddScopedSigner(scope)
	}
	var problems jwt.ValidationResults
	c.Validate(&problems)
	if err := errors.Join(problems.Errors()...); err != nil {
		return nil, err
	}
	return c, nil
}

func (a *Authority) signed(path string, claims jwt.Claims) (string, error) {
	token, err := claims.Encode(a.operator)
	if err != nil {
		return "", err
	}
	stored, err := os.ReadFile(path)
	if err == nil && sameClaims(string(stored), token) {
		return strings.TrimSpace(string(stored)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return token, writeFile(path, []byte(token+"\n"))
}

// sameClaims compares two JWTs but for when they were signed.
func sameClaims(a, b string) bool {
	texts := make([]string, 0, 2)
	for _, token := range []string{a, b} {
		claims, err := jwt.Decode(strings.TrimSpace(token))
		if err != nil {
			return false
		}
		data := claims.Claims()
		data.IssuedAt, data.ID = 0, ""
		texts = append(texts, claims.String())
	}
	return slices.Equal(texts[:1], texts[1:])
}

// Issue returns the content of a .creds file, signed with the key of the
// identity's role. It does not run out; write it with mode 0600.
func (a *Authority) Issue(who bus.Identity) ([]byte, error) {
	if err := who.Validate(); err != nil {
		return nil, fmt.Errorf("issue credentials: %w", err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("issue credentials for %s: %w", who, err)
	}
	public, err := user.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("issue credentials for %s: %w", who, err)
	}
	seed, err := user.Seed()
	if err != nil {
		return nil, fmt.Errorf("issue credentials for %s: %w", who, err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = bus.Escape(who.Name) // the scope's template puts it into subjects
	claims.IssuerAccount = a.Account
	claims.SetScoped(true)
	token, err := claims.Encode(a.roles[who.Role])
	if err != nil {
		return nil, fmt.Errorf("issue credentials for %s: %w", who, err)
	}
	data, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		return nil, fmt.Errorf("issue credentials for %s: %w", who, err)
	}
	return data, nil
}

// ServerConfig returns the settings that an outside NATS server needs, in the
// format of its configuration file. They hold no secrets. storeDir is where
// the server keeps its streams.
func (a *Authority) ServerConfig(storeDir string) string {
	return fmt.Sprintf(`# What Weft needs of a NATS server (2.12 or later). Add listen, tls and cluster
# as you like, then: nats-server -c this-file
max_payload: %d

jetstream {
  store_dir: %q
  # Without it, a power loss loses what Weft has acknowledged.
  sync_interval: always
}

operator: %s
system_account: %s
resolver: MEMORY
resolver_preload: {
  %s: %s
  %s: %s
}
`, bus.MaxPayload, storeDir, a.OperatorJWT, a.System, a.System, a.SystemJWT, a.Account, a.AccountJWT)
}
