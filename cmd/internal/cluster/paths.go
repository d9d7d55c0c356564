package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Paths are the places of things within the data folder.
type Paths struct{ Data string }

func (p Paths) join(parts ...string) string {
	return filepath.Join(append([]string{p.Data}, parts...)...)
}

// Kubeconfig is the administrator's.
func (p Paths) Kubeconfig() string { return p.join("kubeconfig") }

// ReaderKubeconfig is that of someone who may read everything but Secrets.
func (p Paths) ReaderKubeconfig() string { return p.join("reader.kubeconfig") }

// NATS is the folder of the embedded server, its keys and credentials.
func (p Paths) NATS() string { return p.join("nats") }

// NATSKeys is the folder of the keys that sign credentials.
func (p Paths) NATSKeys() string { return p.join("nats", "keys") }

// NATSAddress is a file with the server's URL.
func (p Paths) NATSAddress() string { return p.join("nats", "url") }

// NATSServer is the folder of an outside server's streams, if it is to lie
// here. It is not that of the embedded one, which must never be used by two.
func (p Paths) NATSServer() string { return p.join("nats", "server") }

// ObserverCredentials are those of a tool that subscribes.
func (p Paths) ObserverCredentials() string { return p.join("nats", "observer.creds") }

// PKI is the folder of the certificate authority.
func (p Paths) PKI() string { return p.join("pki") }

// Core is the folder of what the core keeps beside the log.
func (p Paths) Core() string { return p.join("core") }

// Key is the file with the key that the log is encrypted with.
func (p Paths) Key() string { return p.join("core", "key") }

// Mark is the file that says what the log is known to hold.
func (p Paths) Mark() string { return p.join("core", "mark") }

// Synced keeps which outside NATS servers said that they sync each write.
func (p Paths) Synced() string { return p.join("core", "synced") }

// rel is a path within the data folder, for messages.
func (p Paths) rel(path string) string {
	if short, err := filepath.Rel(p.Data, path); err == nil {
		return short
	}
	return path
}

// Compiled is the folder of compiled modules, shared by all nodes here.
func (p Paths) Compiled() string { return p.join("compiled") }

// Logs is the folder of the processes' own logs.
func (p Paths) Logs() string { return p.join("logs") }

// DebugSocket is where a process serves profiles of itself.
func (p Paths) DebugSocket(process string) string { return p.join("debug", process+".sock") }

// Node is the folder of one node.
func (p Paths) Node(name string) string { return p.join("nodes", name) }

// lockNode keeps a second node from using a node's folder.
func lockNode(folder string) (release func(), err error) {
	release, err = lock(folder, "a node of this name")
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("%w, or give this one another name with --name", err)
	}
	return release, err
}

// errLocked ends what is said of a folder that another process uses.
var errLocked = errors.New("stop it first, or set WEFT_DATA to another folder")

// lock keeps a second process of the same kind from using the same folder. The
// kernel gives it up when the process ends, however it ends.
func lock(folder, what string) (release func(), err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	path := filepath.Join(folder, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s already runs on %s (process %s): %w", what, folder, holder, errLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	// The number is for the message above alone; the lock does not need it.
	_ = file.Truncate(0)
	_, _ = fmt.Fprint(file, os.Getpid())
	return func() { _ = file.Close() }, nil
}

// writeSecret writes a file that only its owner can read, whole or not at all.
func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
