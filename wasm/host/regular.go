package host

import (
	"io/fs"
	"os"
	"syscall"
)

// regular is an open file of the host's disk. Its methods are offloaded.
type regular struct{ *os.File }

var _ file = (*regular)(nil)

func (*regular) filetype() byte { return typeRegular }

func (f *regular) stat() (filestat, error) {
	info, err := f.Stat()
	if err != nil {
		return filestat{}, err
	}
	return filestatOf(info), nil
}

func (f *regular) close() error { return f.Close() }
func (f *regular) sync() error  { return f.Sync() }

// extend makes the file that long at least.
func (f *regular) extend(size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// opening is how a path is to be opened.
type opening struct {
	access int // os.O_RDONLY and so on
	flags  int // os.O_CREATE and so on
	appends,
	directory, follow bool
}

// opened is an open file, or why there is none.
type opened struct {
	file file
	e    errno
}

func (o opened) discard() {
	if o.file != nil {
		_ = o.file.close()
	}
}

// open opens a path below a folder. What is neither file nor folder is refused:
// to open a pipe or a device may wait for ever, or do something.
func open(m *mount, root *os.Root, name string, o opening) opened {
	look := root.Stat
	if !o.follow {
		look = root.Lstat
	}
	info, err := look(name)
	switch {
	case os.IsNotExist(err) && o.flags&os.O_CREATE != 0: // to be made
	case err != nil:
		return opened{e: errnoOf(err)}
	case o.flags&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return opened{e: eEXIST}
	case info.Mode()&fs.ModeSymlink != 0:
		return opened{e: eLOOP}
	case info.IsDir():
		return openDirectory(m, root, name, o)
	case o.directory:
		return opened{e: eNOTDIR}
	case !info.Mode().IsRegular():
		return opened{e: eACCES}
	}
	if m.readOnly && (o.access != os.O_RDONLY || o.flags&(os.O_CREATE|os.O_TRUNC) != 0) {
		return opened{e: eROFS}
	}
	// Not to wait, should it have become a pipe since.
	f, err := root.OpenFile(name, o.access|o.flags|syscall.O_NONBLOCK, 0o666)
	if err != nil {
		return opened{e: errnoOf(err)}
	}
	r := &regular{f}
	info, err = f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = syscall.EACCES
	case o.appends:
		err = r.setAppend(true)
	}
	if err != nil {
		_ = f.Close()
		return opened{e: errnoOf(err)}
	}
	return opened{file: r}
}

func openDirectory(m *mount, root *os.Root, name string, o opening) opened {
	if o.access != os.O_RDONLY || o.flags&os.O_TRUNC != 0 {
		return opened{e: eISDIR}
	}
	sub, err := root.OpenRoot(name)
	if err != nil {
		return opened{e: errnoOf(err)}
	}
	return opened{file: &directory{mount: m, root: sub}}
}
