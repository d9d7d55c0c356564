package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/weftrun/weft/core"
)

// maxTokens bounds the tokens of one file: each is compared at each request.
const maxTokens = 1000

// Tokens are bearer tokens of 256 bits, kept in a file as hashes only. It may
// be used concurrently; two processes must not write the same file.
type Tokens struct {
	path string

	mu    sync.RWMutex // guards known
	known []knownToken
}

type knownToken struct {
	Hash   string   `json:"hash"` // SHA-256 of the token, in hex
	User   string   `json:"user"`
	UID    string   `json:"uid,omitempty"`
	Groups []string `json:"groups,omitempty"`

	sum [sha256.Size]byte
}

// OpenTokens reads the tokens kept at path; a file that does not exist holds
// none. A file that others can read, or that holds unknown fields, is refused.
func OpenTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = checkPrivate(path)
	}
	if err == nil {
		t.known, err = parseTokens(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens %s: %w", path, err)
	}
	return t, nil
}

func parseTokens(data []byte) ([]knownToken, error) {
	var known []knownToken
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&known); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the list")
	}
	if len(known) > maxTokens {
		return nil, fmt.Errorf("%d tokens, at most %d are permitted", len(known), maxTokens)
	}
	for i := range known {
		sum, err := hex.DecodeString(known[i].Hash)
		if err != nil || len(sum) != sha256.Size {
			return nil, fmt.Errorf("[%d].hash: it must be a SHA-256 in hex", i)
		}
		if known[i].User == "" {
			return nil, fmt.Errorf("[%d].user: required", i)
		}
		copy(known[i].sum[:], sum)
	}
	return known, nil
}

// Issue makes a new token by which its bearer is user. It is not kept, only
// its hash is: what is returned is the only copy.
func (t *Tokens) Issue(user core.User) (string, error) {
	if user.Name == "" {
		return "", errors.New("issue token: the user has no name")
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(token))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTokens {
		return "", fmt.Errorf("issue token: there are %d already, revoke some", maxTokens)
	}
	known := append(slices.Clone(t.known), knownToken{
		Hash: hex.EncodeToString(sum[:]), User: user.Name, UID: user.UID, Groups: user.Groups, sum: sum,
	})
	if err := t.save(known); err != nil {
		return "", err
	}
	t.known = known
	return token, nil
}

// Revoke makes all tokens of a user worthless and returns how many they were.
func (t *Tokens) Revoke(name string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(t.known), func(k knownToken) bool { return k.User == name })
	revoked := len(t.known) - len(rest)
	if revoked == 0 {
		return 0, nil
	}
	if err := t.save(rest); err != nil {
		return 0, err
	}
	t.known = rest
	return revoked, nil
}

func (t *Tokens) save(known []knownToken) error {
	data, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return fmt.Errorf("encode tokens: %w", err)
	}
	return writeFile(t.path, append(data, '\n'))
}

// User returns whose token it is. All known ones are compared, each in
// constant time, so that the time taken tells nothing.
func (t *Tokens) User(token string) (core.User, bool) {
	sum := sha256.Sum256([]byte(token))
	t.mu.RLock()
	defer t.mu.RUnlock()
	found := -1
	for i := range t.known {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], t.known[i].sum[:]), i, found)
	}
	if found < 0 {
		return core.User{}, false
	}
	k := &t.known[found]
	return core.User{Name: k.User, UID: k.UID, Groups: slices.Clone(k.Groups)}, true
}
