package host

import (
	"io/fs"

	"github.com/tetratelabs/wazero/sys"
)

// Kinds of files, as WASI numbers them.
const (
	typeUnknown   = 0
	typeBlock     = 1
	typeCharacter = 2
	typeDirectory = 3
	typeRegular   = 4
	typeSocket    = 6
	typeSymlink   = 7
)

// Flags of a descriptor.
const (
	flagAppend   = 1 << 0
	flagDsync    = 1 << 1
	flagNonblock = 1 << 2
	flagRsync    = 1 << 3
	flagSync     = 1 << 4
)

// filestat is what a guest is told of a file.
type filestat struct {
	dev, ino            uint64
	filetype            byte
	nlink, size         uint64
	atime, mtime, ctime int64 // nanoseconds since 1970
}

// file is what a descriptor leads to.
type file interface {
	filetype() byte
	// stat is offloaded, as close is.
	stat() (filestat, error)
	close() error
}

// descriptor is an entry of a guest's table.
type descriptor struct {
	file          file
	base, inherit rights
	flags         uint16
	preopen       string // the guest's path of a folder that is there from the start
}

// maxOpen is how many descriptors a guest may have, and maxOpenInAll how many
// files and folders all guests of a World: the process needs descriptors, too.
const (
	maxOpen      = 1024
	maxOpenInAll = 16 << 10
)

// table holds a guest's descriptors. It belongs to the guest's goroutine.
type table struct {
	entries []*descriptor // nil where free
}

// get returns the descriptor of that number if it has these rights.
func (t *table) get(fd uint64, need rights) (*descriptor, errno) {
	n := uint32(fd)
	if int64(n) >= int64(len(t.entries)) || t.entries[n] == nil {
		return nil, eBADF
	}
	d := t.entries[n]
	if need&^d.base != 0 {
		return nil, d.lacks(need)
	}
	return d, success
}

// lacks says why a descriptor has not these rights.
func (d *descriptor) lacks(need rights) errno {
	missing, kind := need&^d.base, d.file.filetype()
	switch {
	case kind == typeDirectory && missing&(fileRights&^dirRights) != 0:
		return eISDIR
	case kind != typeDirectory && missing&(dirRights&^fileRights) != 0:
		return eNOTDIR
	case missing&(rightFdRead|rightFdWrite) != 0:
		return eBADF
	case missing&(rightFdSeek|rightFdTell) != 0 && kind != typeRegular:
		return eSPIPE
	}
	return eNOTCAPABLE
}

// add takes the lowest free number.
func (t *table) add(d *descriptor) (int, errno) {
	for n, e := range t.entries {
		if e == nil {
			t.entries[n] = d
			return n, success
		}
	}
	if len(t.entries) >= maxOpen {
		return 0, eMFILE
	}
	t.entries = append(t.entries, d)
	return len(t.entries) - 1, success
}

// filetypeOf returns the kind of file that a mode means.
func filetypeOf(mode fs.FileMode) byte {
	switch mode.Type() {
	case 0:
		return typeRegular
	case fs.ModeDir:
		return typeDirectory
	case fs.ModeSymlink:
		return typeSymlink
	case fs.ModeDevice:
		return typeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		return typeCharacter
	case fs.ModeSocket:
		return typeSocket
	}
	return typeUnknown
}

func filestatOf(info fs.FileInfo) filestat {
	s := sys.NewStat_t(info)
	return filestat{
		dev: s.Dev, ino: s.Ino, filetype: filetypeOf(info.Mode()), nlink: s.Nlink, size: uint64(s.Size),
		atime: s.Atim, mtime: s.Mtim, ctime: s.Ctim,
	}
}
