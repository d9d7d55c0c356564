package host

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/tetratelabs/wazero/api"
)

// directory is an open folder of the host's disk: what is below it can be
// reached from it, and nothing else.
type directory struct {
	mount *mount
	root  *os.Root // nil: a mount that was not used yet; thousands of guests never look at theirs
	list  *listing // nil: it was not read
}

var _ file = (*directory)(nil)

func (*directory) filetype() byte { return typeDirectory }

func (d *directory) stat() (filestat, error) {
	info, err := d.root.Stat(".")
	if err != nil {
		return filestat{}, err
	}
	return filestatOf(info), nil
}

func (d *directory) close() error {
	d.list.close()
	if d.root == nil {
		return nil
	}
	return d.root.Close()
}

func (d *directory) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) setTimes(t times) error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return (&regular{f}).setTimes(t)
}

// folder returns the open folder of that descriptor.
func (g *Guest) folder(fd uint64, need rights) (*directory, errno) {
	entry, e := g.table.get(fd, need)
	if e != success {
		return nil, e
	}
	d, ok := entry.file.(*directory)
	switch {
	case ok:
		return d, g.ready(d)
	case entry.file.filetype() == typeDirectory:
		return nil, eROFS // where the stop file is
	}
	return nil, eNOTDIR
}

// ready opens the folder of a mount.
func (g *Guest) ready(f file) errno {
	d, ok := f.(*directory)
	if !ok || d.root != nil {
		return success
	}
	type result struct {
		root *os.Root
		err  error
	}
	host := d.mount.host
	r := offload(g, func() result {
		root, err := os.OpenRoot(host)
		return result{root, err}
	}, func(r result) {
		if r.err == nil {
			_ = r.root.Close()
		}
	})
	if r.err != nil {
		return errnoOf(r.err)
	}
	d.root = r.root
	return success
}

// entry is one of a folder.
type entry struct {
	name     string
	ino      uint64
	filetype byte
}

// batch is how many entries are read at once, which bounds what the host holds
// for a guest.
const batch = 128

// listing reads a folder. Its cookies count entries.
type listing struct {
	file    *os.File
	first   uint64  // the cookie of the first of window
	window  []entry // read last
	drained bool    // nothing follows window
}

func (l *listing) close() {
	if l != nil {
		_ = l.file.Close()
	}
}

// listed is what at returns: entries from a cookie on, some of them, none at the
// end.
type listed struct {
	list    *listing // to go on with
	entries []entry
	err     error
}

// at reads a folder from that cookie on. It is offloaded, and owns l meanwhile.
func at(root *os.Root, l *listing, cookie uint64) listed {
	if l == nil || cookie < l.first || cookie == 0 {
		// From the beginning: there is no other way back.
		l.close()
		var err error
		if l, err = list(root); err != nil {
			return listed{err: err}
		}
	}
	for {
		if skip := cookie - l.first; skip < uint64(len(l.window)) {
			return listed{list: l, entries: l.window[skip:]}
		}
		if l.drained {
			return listed{list: l}
		}
		if err := l.more(root); err != nil {
			return listed{list: l, err: err}
		}
	}
}

func list(root *os.Root) (*listing, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	self, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &listing{file: f, window: []entry{
		{".", filestatOf(self).ino, typeDirectory},
		{"..", 0, typeDirectory}, // which the guest may not see
	}}, nil
}

func (l *listing) more(root *os.Root) error {
	found, err := l.file.ReadDir(batch)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	l.first += uint64(len(l.window))
	l.window = nil // the guest's side may still look at it
	l.drained = len(found) == 0
	for _, f := range found {
		e := entry{name: f.Name(), filetype: filetypeOf(f.Type())}
		info, err := root.Lstat(e.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since
		}
		if err == nil {
			e.ino = filestatOf(info).ino
		}
		l.window = append(l.window, e)
	}
	return nil
}

// direntBytes is the size of an entry without its name.
const direntBytes = 24

func fdReaddir(g *Guest, mem api.Memory, p []uint64) errno {
	if d, e := g.table.get(p[0], rightFdReaddir); e == success {
		if _, stop := d.file.(stopDirectory); stop {
			return g.putEntries(mem, p, func(cookie uint64) listed {
				all := []entry{{".", 1, typeDirectory}, {"..", 0, typeDirectory}, {g.stop.name, 2, typeCharacter}}
				return listed{entries: all[min(cookie, uint64(len(all))):]}
			})
		}
	}
	d, e := g.folder(p[0], rightFdReaddir)
	if e != success {
		return e
	}
	return g.putEntries(mem, p, func(cookie uint64) listed {
		root, l := d.root, d.list
		d.list = nil // should the guest end meanwhile
		got := offload(g, func() listed { return at(root, l, cookie) }, func(got listed) { got.list.close() })
		d.list = got.list
		return got
	})
}

// putEntries writes entries until the guest's buffer is full, the last one cut
// off if need be: that tells the guest that there are more.
func (g *Guest) putEntries(mem api.Memory, p []uint64, at func(cookie uint64) listed) errno {
	buf, ok := mem.Read(uint32(p[1]), uint32(p[2]))
	if !ok {
		return eFAULT
	}
	if len(buf) < direntBytes {
		return eINVAL
	}
	begin, used, cookie := now(), 0, p[3]
	for used < len(buf) {
		list := at(cookie)
		if list.err != nil {
			return errnoOf(list.err)
		}
		if len(list.entries) == 0 {
			break
		}
		for _, e := range list.entries {
			if used == len(buf) {
				break
			}
			cookie++
			var head [direntBytes]byte
			le.PutUint64(head[:], cookie)
			le.PutUint64(head[8:], e.ino)
			le.PutUint32(head[16:], uint32(len(e.name)))
			head[20] = e.filetype
			used += copy(buf[used:], head[:])
			used += copy(buf[used:], e.name)
		}
		g.breathe(&begin)
	}
	return put32(mem, p[4], uint32(used))
}
