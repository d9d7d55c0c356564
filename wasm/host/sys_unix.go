//go:build unix

package host

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// setAppend has each write go to the file's end, or not.
func (f *regular) setAppend(on bool) error {
	return control(f.File, func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		if flags &^= unix.O_APPEND; on {
			flags |= unix.O_APPEND
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		return err
	})
}

// control calls do with the file's descriptor. Errors are of the kind that the
// os package returns.
func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	failed := c.Control(func(fd uintptr) { err = do(int(fd)) })
	if failed != nil {
		return failed
	}
	return err
}

// place is where a path ends: a name in an open folder. What is done there
// follows no link, so that it stays within what the path led through.
type place struct {
	parent *os.File
	base   string
}

func (p place) stat() (mode uint32, err error) {
	var s unix.Stat_t
	err = control(p.parent, func(fd int) error { return unix.Fstatat(fd, p.base, &s, unix.AT_SYMLINK_NOFOLLOW) })
	return uint32(s.Mode), err
}

// isDir reports whether it is there and a folder.
func (p place) isDir() (bool, error) {
	mode, err := p.stat()
	return err == nil && mode&unix.S_IFMT == unix.S_IFDIR, err
}

func (p place) mkdir() error {
	return control(p.parent, func(fd int) error { return unix.Mkdirat(fd, p.base, 0o777) })
}

func (p place) unlink() error {
	return control(p.parent, func(fd int) error { return unix.Unlinkat(fd, p.base, 0) })
}

func (p place) rmdir() error {
	return control(p.parent, func(fd int) error { return unix.Unlinkat(fd, p.base, unix.AT_REMOVEDIR) })
}

func (p place) symlink(target string) error {
	return control(p.parent, func(fd int) error { return unix.Symlinkat(target, fd, p.base) })
}

func (p place) rename(to place) error {
	return control(p.parent, func(from int) error {
		return control(to.parent, func(fd int) error { return unix.Renameat(from, p.base, fd, to.base) })
	})
}

func (p place) link(to place) error {
	return control(p.parent, func(from int) error {
		return control(to.parent, func(fd int) error { return unix.Linkat(from, p.base, fd, to.base, 0) })
	})
}

func (p place) setTimes(t times) error {
	return control(p.parent, func(fd int) error {
		return unix.UtimesNanoAt(fd, p.base, t.specs(), unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (t times) specs() []unix.Timespec {
	return []unix.Timespec{t.access.spec(), t.change.spec()}
}

func (s stamp) spec() unix.Timespec {
	switch {
	case s.now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case !s.set:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return unix.NsecToTimespec(s.nanos)
}

// errNotDir and so on are what the checks of paths return.
const (
	errNotDir   = syscall.ENOTDIR
	errIsDir    = syscall.EISDIR
	errNotExist = syscall.ENOENT
	errExist    = syscall.EEXIST
	errBusy     = syscall.EBUSY
	errPerm     = syscall.EPERM
)

const openDirectoryFlag = unix.O_DIRECTORY

// setTimes is futimens.
func (f *regular) setTimes(t times) error {
	return control(f.File, func(fd int) error { return futimens(fd, t.specs()) })
}
