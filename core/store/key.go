package store

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the length of an encryption key in bytes.
const KeySize = chacha20poly1305.KeySize

// Key seals and opens records. It is immutable and safe for concurrent use.
// It prints as its id, never as the secret.
type Key struct {
	id   [8]byte
	aead cipher.AEAD
}

// NewKey makes a Key of KeySize secret bytes.
func NewKey(secret []byte) (Key, error) {
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return Key{}, fmt.Errorf("use encryption key of %d bytes: %w", len(secret), err)
	}
	sum := sha256.Sum256(secret)
	return Key{id: [8]byte(sum[:8]), aead: aead}, nil
}

// ID names the key without giving it away; records carry it.
func (k Key) ID() string { return hex.EncodeToString(k.id[:]) }

// String returns the id.
func (k Key) String() string { return "key " + k.ID() }

// GoString returns the id, so that %#v does not show the secret either.
func (k Key) GoString() string { return k.String() }

// LoadOrCreateKey reads the key from the file at path, or makes one there of
// mode 0600 if there is no file. It refuses a file that others may read, and
// one that does not hold exactly KeySize bytes. Of processes that create it at
// once, all get the same key.
func LoadOrCreateKey(path string) (Key, error) {
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := createKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("create encryption key: %w", err)
	}
	return loadKey(path)
}

func loadKey(path string) (Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Key{}, fmt.Errorf("load encryption key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Key{}, fmt.Errorf("load encryption key %s: it must be a regular file, not %s", path, info.Mode().Type())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Key{}, fmt.Errorf("load encryption key %s: its mode is %04o, others must have no rights: chmod 600", path, mode)
	}
	if info.Size() != KeySize {
		return Key{}, fmt.Errorf("load encryption key %s: it has %d bytes, must have %d", path, info.Size(), KeySize)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("load encryption key: %w", err)
	}
	return NewKey(secret)
}

// createKey links a complete, synced file into place, so that no crash leaves
// half a key and no second creator replaces the first one's.
func createKey(path string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // the link stays
	secret := make([]byte, KeySize)
	_, _ = rand.Read(secret) // never fails
	_, err = f.Write(secret)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
