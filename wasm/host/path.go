package host

import (
	"os"
	"path"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// maxPath is how long a path may be, in bytes, as Linux has it.
const maxPath = 4096

// pathAt reads a path from the guest's memory.
func pathAt(mem api.Memory, at, length uint64) (string, errno) {
	if uint32(length) > maxPath {
		return "", eNAMETOOLONG
	}
	b, ok := mem.Read(uint32(at), uint32(length))
	switch {
	case !ok:
		return "", eFAULT
	case len(b) == 0:
		return "", eNOENT
	case strings.IndexByte(string(b), 0) >= 0:
		return "", eINVAL
	case b[0] == '/':
		return "", ePERM
	}
	return string(b), success
}

// location is a path below a folder.
type location struct {
	folder *directory
	name   string
}

// locate reads a path and the descriptor that it is relative to.
func (g *Guest) locate(mem api.Memory, fd, at, length uint64, need rights) (location, errno) {
	folder, e := g.folder(fd, need)
	if e != success {
		return location{}, e
	}
	name, e := pathAt(mem, at, length)
	return location{folder, name}, e
}

// changing is locate for what writes.
func (g *Guest) changing(mem api.Memory, fd, at, length uint64, need rights) (location, errno) {
	l, e := g.locate(mem, fd, at, length, need)
	if e == success && l.folder.mount.readOnly {
		return l, eROFS
	}
	return l, e
}

// split opens the folder that the path's last name is in, for calls that do not
// follow a link there. slash: the path ends in one, so that it must be a folder.
// An error other than of the system means the folder itself.
func (l location) split() (p place, slash bool, err error) {
	name := strings.TrimRight(l.name, "/")
	dir, base := path.Split(name)
	if base == "." || base == ".." {
		if name = path.Clean(name); name == "." {
			return place{}, false, errBusy
		}
		dir, base = path.Split(name)
		if base == ".." {
			return place{}, false, errPerm
		}
	}
	if dir == "" {
		dir = "."
	}
	parent, err := l.folder.root.OpenFile(dir, os.O_RDONLY|openDirectoryFlag, 0)
	return place{parent, base}, len(name) < len(l.name), err
}

// in does something at the path's end. It is offloaded.
func (l location) in(do func(p place, slash bool) error) error {
	p, slash, err := l.split()
	if err != nil {
		return err
	}
	defer p.parent.Close()
	return do(p, slash)
}

// mustBeDir is what a slash at a path's end means.
func mustBeDir(p place, slash bool) error {
	if !slash {
		return nil
	}
	switch dir, err := p.isDir(); {
	case err != nil:
		return err
	case !dir:
		return errNotDir
	}
	return nil
}

// run offloads what a path is needed for.
func (g *Guest) run(do func() error) errno {
	g.alive()
	return errnoOf(offload(g, do, nil))
}

func pathCreateDirectory(g *Guest, mem api.Memory, p []uint64) errno {
	l, e := g.changing(mem, p[0], p[1], p[2], rightPathCreateDirectory)
	if e != success {
		return e
	}
	return g.run(func() error {
		return l.in(func(p place, _ bool) error { return p.mkdir() })
	})
}

func pathRemoveDirectory(g *Guest, mem api.Memory, p []uint64) errno {
	l, e := g.changing(mem, p[0], p[1], p[2], rightPathRemoveDirectory)
	if e != success {
		return e
	}
	return g.run(func() error {
		return l.in(func(p place, _ bool) error { return p.rmdir() })
	})
}

func pathUnlinkFile(g *Guest, mem api.Memory, p []uint64) errno {
	l, e := g.changing(mem, p[0], p[1], p[2], rightPathUnlink)
	if e != success {
		return e
	}
	return g.run(func() error {
		return l.in(func(p place, slash bool) error {
			if err := mustBeDir(p, slash); err != nil {
				return err
			}
			if dir, err := p.isDir(); err == nil && dir {
				return errIsDir // which some systems call EPERM
			}
			return p.unlink()
		})
	})
}

func pathRename(g *Guest, mem api.Memory, p []uint64) errno {
	from, e := g.changing(mem, p[0], p[1], p[2], rightPathRenameSource)
	if e != success {
		return e
	}
	to, e := g.changing(mem, p[3], p[4], p[5], rightPathRenameTarget)
	if e != success {
		return e
	}
	if from.folder.mount != to.folder.mount {
		return eXDEV
	}
	return g.run(func() error {
		return from.in(func(old place, slash bool) error {
			if err := mustBeDir(old, slash); err != nil {
				return err
			}
			return to.in(func(p place, slash bool) error {
				if slash {
					if dir, err := old.isDir(); err != nil || !dir {
						return errNotDir
					}
				}
				return old.rename(p)
			})
		})
	})
}

func pathLink(g *Guest, mem api.Memory, p []uint64) errno {
	from, e := g.changing(mem, p[0], p[2], p[3], rightPathLinkSource)
	if e != success {
		return e
	}
	to, e := g.changing(mem, p[4], p[5], p[6], rightPathLinkTarget)
	if e != success {
		return e
	}
	switch {
	case p[1]&lookupFollow != 0:
		return eINVAL // as most hosts have it: POSIX leaves it open
	case from.folder.mount != to.folder.mount:
		return eXDEV
	}
	return g.run(func() error {
		return from.in(func(old place, slash bool) error {
			if err := mustBeDir(old, slash); err != nil {
				return err
			}
			if dir, err := old.isDir(); err == nil && dir {
				return errPerm
			}
			return to.in(func(p place, slash bool) error {
				if slash {
					if _, err := p.stat(); err == nil {
						return errExist
					}
					return errNotExist
				}
				return old.link(p)
			})
		})
	})
}

func pathSymlink(g *Guest, mem api.Memory, p []uint64) errno {
	target, e := pathAt(mem, p[0], p[1]) // an absolute one is refused
	if e != success {
		return e
	}
	l, e := g.changing(mem, p[2], p[3], p[4], rightPathSymlink)
	if e != success {
		return e
	}
	// Guests cannot leave a mount through a link. But others who use the folder
	// may follow one, so none is made that leads out.
	if leaves(l.name, target) {
		return ePERM
	}
	return g.run(func() error {
		return l.in(func(p place, slash bool) error {
			if slash {
				switch dir, err := p.isDir(); {
				case err != nil:
					return err
				case dir:
					return errExist
				}
				return errNotDir
			}
			return p.symlink(target)
		})
	})
}

// leaves reports whether a link of that name leads out of the folder that the
// name is relative to.
func leaves(name, target string) bool {
	end := path.Join(path.Dir(strings.TrimRight(name, "/")), target)
	return end == ".." || strings.HasPrefix(end, "../")
}

func pathReadlink(g *Guest, mem api.Memory, p []uint64) errno {
	l, e := g.locate(mem, p[0], p[1], p[2], rightPathReadlink)
	if e != success {
		return e
	}
	buf, ok := mem.Read(uint32(p[3]), uint32(p[4]))
	if !ok {
		return eFAULT
	}
	type result struct {
		target string
		err    error
	}
	g.alive()
	r := offload(g, func() result {
		target, err := l.folder.root.Readlink(l.name)
		return result{target, err}
	}, nil)
	if r.err != nil {
		return errnoOf(r.err)
	}
	return put32(mem, p[5], uint32(copy(buf, r.target)))
}

func pathFilestatGet(g *Guest, mem api.Memory, p []uint64) errno {
	if d, e := g.table.get(p[0], rightPathStat); e == success {
		if _, stop := d.file.(stopDirectory); stop {
			return g.statStop(mem, p)
		}
	}
	l, e := g.locate(mem, p[0], p[2], p[3], rightPathStat)
	if e != success {
		return e
	}
	look := l.folder.root.Lstat
	if p[1]&lookupFollow != 0 {
		look = l.folder.root.Stat
	}
	g.alive()
	return g.putStat(mem, p[4], func() (filestat, error) {
		info, err := look(l.name)
		if err != nil {
			return filestat{}, err
		}
		return filestatOf(info), nil
	})
}

// stamp is one of a file's times.
type stamp struct {
	set, now bool
	nanos    int64
}

// times are those of a file that are to be set.
type times struct{ access, change stamp }

// timesOf reads the parameters of the functions that set times.
func timesOf(atime, mtime, fst uint64) (times, errno) {
	flags := uint16(fst)
	if flags > 15 || flags&3 == 3 || flags&12 == 12 {
		return times{}, eINVAL
	}
	return times{
		access: stamp{flags&1 != 0, flags&2 != 0, int64(atime)},
		change: stamp{flags&4 != 0, flags&8 != 0, int64(mtime)},
	}, success
}

// time returns the zero time for one that stays.
func (s stamp) time() time.Time {
	switch {
	case s.now:
		return time.Now()
	case s.set:
		return time.Unix(0, s.nanos)
	}
	return time.Time{}
}

func pathFilestatSetTimes(g *Guest, mem api.Memory, p []uint64) errno {
	l, e := g.changing(mem, p[0], p[2], p[3], rightPathSetTimes)
	if e != success {
		return e
	}
	t, e := timesOf(p[4], p[5], p[6])
	if e != success {
		return e
	}
	if p[1]&lookupFollow != 0 {
		return g.run(func() error {
			return l.folder.root.Chtimes(l.name, t.access.time(), t.change.time())
		})
	}
	return g.run(func() error {
		return l.in(func(p place, slash bool) error {
			if err := mustBeDir(p, slash); err != nil {
				return err
			}
			return p.setTimes(t)
		})
	})
}
