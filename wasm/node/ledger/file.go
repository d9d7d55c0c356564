package ledger

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The header: magic, the format's number, and the salt of the file's key.
const (
	magic      = "weftnode"
	format     = 1
	saltSize   = 32
	headerSize = len(magic) + 1 + saltSize
)

// maxRecord bounds a record in bytes: more than any object has.
const maxRecord = 8 << 20

// sealer seals the records of one file.
type sealer struct {
	aead   cipher.AEAD
	number uint64 // of the next record
}

func newSealer(secret, salt []byte) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, secret, salt, "weft node ledger", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealer{aead: aead}, err
}

func (s *sealer) nonce() []byte {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], s.number)
	return nonce[:]
}

// seal appends a sealed record with its length.
func (s *sealer) seal(b, plain []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(plain)+s.aead.Overhead()))
	b = s.aead.Seal(b, s.nonce(), plain, nil)
	s.number++
	return b
}

// newHeader begins a file.
func newHeader() (header, salt []byte) {
	salt = make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	return append(append([]byte(magic), format), salt...), salt
}

// errDamaged begins every error about a file that cannot be read whole.
var errDamaged = errors.New("it is damaged")

// read takes a file's records into a state. torn is how many bytes at its end
// are no record, because they were never written whole.
func read(secret, file []byte, take func(*record) error) (torn int, err error) {
	switch {
	case len(file) < headerSize:
		return 0, fmt.Errorf("%w: its header is not whole", errDamaged)
	case string(file[:len(magic)]) != magic:
		return 0, fmt.Errorf("%w: its header is not that of a ledger", errDamaged)
	case file[len(magic)] != format:
		return 0, fmt.Errorf("its format is %d, this version of Weft knows %d", file[len(magic)], format)
	}
	s, err := newSealer(secret, file[len(magic)+1:headerSize])
	if err != nil {
		return 0, err
	}
	for rest := file[headerSize:]; len(rest) > 0; s.number++ {
		size := 0
		if len(rest) >= 4 {
			size = int(binary.BigEndian.Uint32(rest))
		}
		if unwritten(rest, size) && !s.whole(rest, size) {
			return len(rest), nil
		}
		if size > len(rest)-4 || size < s.aead.Overhead() {
			return 0, fmt.Errorf("%w: record %d has a length of %d", errDamaged, s.number, size)
		}
		plain, err := s.aead.Open(nil, s.nonce(), rest[4:4+size], nil)
		if err != nil {
			return 0, fmt.Errorf("%w: record %d does not open: %w", errDamaged, s.number, err)
		}
		r, err := parseRecord(plain)
		if err == nil {
			err = take(&r)
		}
		if err != nil {
			return 0, fmt.Errorf("%w: record %d: %w", errDamaged, s.number, err)
		}
		rest = rest[4+size:]
	}
	return 0, nil
}

// unwritten tells whether what is left of a file is the beginning of a record,
// or room that was made and never filled.
func unwritten(rest []byte, size int) bool {
	return len(rest) < 4 || (size <= maxRecord && len(rest) < 4+size) || len(bytes.TrimLeft(rest, "\x00")) == 0
}

// whole tells whether what is left begins with a record that is all there, and
// of whose length one bit is wrong: its end was not torn off, and others follow.
func (s *sealer) whole(rest []byte, size int) bool {
	for bit := range 32 {
		n := size ^ 1<<bit
		if n < s.aead.Overhead() || n > len(rest)-4 {
			continue
		}
		if _, err := s.aead.Open(nil, s.nonce(), rest[4:4+n], nil); err == nil {
			return true
		}
	}
	return false
}

// loadKey returns the node's key, and makes one if there is none.
func loadKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		return secret, replace(path, secret, true)
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: its mode is %04o, others must have no rights: chmod 600", path, mode)
	}
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) != 32 {
		return nil, fmt.Errorf("%s: it has %d bytes, must have 32", path, len(secret))
	}
	return secret, err
}

// replace writes a file of mode 0600, whole or not at all.
func replace(path string, data []byte, sync bool) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil && sync {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil && sync {
		err = syncFolder(filepath.Dir(path))
	}
	return err
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
