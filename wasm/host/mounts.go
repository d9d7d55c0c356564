package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/tetratelabs/wazero"
	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
)

// mounts returns the file system of a guest that sees these folders.
func mounts(list []wasm.Mount) (wazero.FSConfig, error) {
	config := wazero.NewFSConfig()
	for i, m := range list {
		if !path.IsAbs(m.Guest) {
			return nil, fmt.Errorf("mounts[%d]: guest path %q must be absolute", i, m.Guest)
		}
		info, err := os.Stat(m.Host)
		if err != nil {
			return nil, fmt.Errorf("mounts[%d]: %w", i, err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("mounts[%d]: %s is not a folder; only folders can be mounted", i, m.Host)
		}
		var tree experimentalsys.FS = &confined{FS: sysfs.DirFS(m.Host), dir: m.Host}
		if m.ReadOnly {
			tree = &sysfs.ReadFS{FS: tree}
		}
		config = config.(sysfs.FSConfig).WithSysFSMount(tree, path.Clean(m.Guest))
	}
	return config, nil
}

// confined keeps a guest within a mounted folder. A symbolic link that leads
// out of it, left there by the host, is not followed, and a guest cannot make
// one: the links it makes only lead downwards, so that no renaming turns them
// outwards. So nothing that guests do between the check and the use matters; a
// host process that puts links there at that moment is not guarded against.
type confined struct {
	experimentalsys.FS
	dir string
}

// check refuses a path that leaves the folder through a link.
func (c *confined) check(name string) experimentalsys.Errno {
	if !strings.Contains(name, "/") && (name == "" || name == ".") {
		return 0
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return experimentalsys.EIO
	}
	defer root.Close()
	_, err = root.Stat(name)
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return 0
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c.checkNew(root, name)
	}
	if strings.Contains(err.Error(), "escapes from parent") {
		return experimentalsys.EACCES
	}
	return 0
}

// checkNew judges a path that leads to nothing: a link that dangles outwards
// must not become a new file there.
func (c *confined) checkNew(root *os.Root, name string) experimentalsys.Errno {
	info, err := root.Lstat(name)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		target, err := root.Readlink(name)
		if err != nil || path.IsAbs(target) || strings.Contains(target, "..") {
			return experimentalsys.EACCES
		}
	}
	return 0
}

// checkParent is for calls that do not follow a link at the path's end.
func (c *confined) checkParent(name string) experimentalsys.Errno {
	return c.check(path.Dir(path.Clean(name)))
}

func (c *confined) OpenFile(name string, flag experimentalsys.Oflag, perm fs.FileMode) (experimentalsys.File, experimentalsys.Errno) {
	if errno := c.check(name); errno != 0 {
		return nil, errno
	}
	return c.FS.OpenFile(name, flag, perm)
}

func (c *confined) Lstat(name string) (sys.Stat_t, experimentalsys.Errno) {
	if errno := c.checkParent(name); errno != 0 {
		return sys.Stat_t{}, errno
	}
	return c.FS.Lstat(name)
}

func (c *confined) Stat(name string) (sys.Stat_t, experimentalsys.Errno) {
	if errno := c.check(name); errno != 0 {
		return sys.Stat_t{}, errno
	}
	return c.FS.Stat(name)
}

func (c *confined) Mkdir(name string, perm fs.FileMode) experimentalsys.Errno {
	if errno := c.checkParent(name); errno != 0 {
		return errno
	}
	return c.FS.Mkdir(name, perm)
}

func (c *confined) Chmod(name string, perm fs.FileMode) experimentalsys.Errno {
	if errno := c.check(name); errno != 0 {
		return errno
	}
	return c.FS.Chmod(name, perm)
}

func (c *confined) Rename(from, to string) experimentalsys.Errno {
	if errno := c.checkParent(from); errno != 0 {
		return errno
	}
	if errno := c.checkParent(to); errno != 0 {
		return errno
	}
	return c.FS.Rename(from, to)
}

func (c *confined) Rmdir(name string) experimentalsys.Errno {
	if errno := c.checkParent(name); errno != 0 {
		return errno
	}
	return c.FS.Rmdir(name)
}

func (c *confined) Unlink(name string) experimentalsys.Errno {
	if errno := c.checkParent(name); errno != 0 {
		return errno
	}
	return c.FS.Unlink(name)
}

func (c *confined) Link(from, to string) experimentalsys.Errno {
	if errno := c.check(from); errno != 0 {
		return errno
	}
	if errno := c.checkParent(to); errno != 0 {
		return errno
	}
	return c.FS.Link(from, to)
}

func (c *confined) Symlink(target, name string) experimentalsys.Errno {
	if path.IsAbs(target) || strings.Contains(target, "..") {
		return experimentalsys.EPERM
	}
	if errno := c.checkParent(name); errno != 0 {
		return errno
	}
	return c.FS.Symlink(target, name)
}

func (c *confined) Readlink(name string) (string, experimentalsys.Errno) {
	if errno := c.checkParent(name); errno != 0 {
		return "", errno
	}
	return c.FS.Readlink(name)
}

func (c *confined) Utimens(name string, atim, mtim int64) experimentalsys.Errno {
	if errno := c.check(name); errno != 0 {
		return errno
	}
	return c.FS.Utimens(name, atim, mtim)
}
