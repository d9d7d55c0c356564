package host

import (
	"os"
	"path"

	"github.com/tetratelabs/wazero/api"
)

const (
	lookupFollow = 1 // of a path's last name, if that is a link

	openCreate    = 1 << 0
	openFolder    = 1 << 1
	openExclusive = 1 << 2
	openTruncate  = 1 << 3
)

// pathOpen opens a path. Who asks for neither reading nor writing gets what the
// other flags need: what rights a program asks for is mostly its library's guess.
func pathOpen(g *Guest, mem api.Memory, p []uint64) errno {
	at, e := g.table.get(p[0], rightPathOpen)
	if e != success {
		return e
	}
	how, want, flags := uint16(p[4]), rights(p[5])&at.inherit, uint16(p[7])
	switch {
	case how > 15 || flags > 31 || how&openCreate != 0 && how&openFolder != 0:
		return eINVAL
	case how&openCreate != 0 && at.base&rightPathCreateFile == 0,
		how&openTruncate != 0 && at.base&rightPathSetSize == 0:
		return eNOTCAPABLE
	}
	if _, stop := at.file.(stopDirectory); stop {
		return g.openInStop(mem, p, flags)
	}
	l, e := g.locate(mem, p[0], p[2], p[3], rightPathOpen)
	if e != success {
		return e
	}
	o := opening{directory: how&openFolder != 0, follow: p[1]&lookupFollow != 0, appends: flags&flagAppend != 0}
	o.access = access(want, how&(openCreate|openTruncate) != 0 || o.appends)
	if how&openCreate != 0 {
		o.flags |= os.O_CREATE
	}
	if how&openExclusive != 0 {
		o.flags |= os.O_EXCL
	}
	if how&openTruncate != 0 {
		o.flags |= os.O_TRUNC
	}
	if flags&(flagDsync|flagRsync|flagSync) != 0 {
		o.flags |= os.O_SYNC
	}
	g.alive()
	w, root := g.world, l.folder.root
	if w.open.Add(1) > maxOpenInAll {
		w.open.Add(-1)
		return eNFILE
	}
	release := func(got opened) {
		w.open.Add(-1)
		got.discard()
	}
	got := offload(g, func() opened { return open(l.folder.mount, root, l.name, o) }, release)
	if got.e != success {
		release(got)
		return got.e
	}
	d := &descriptor{file: got.file, flags: flags, base: fileRights & at.inherit}
	switch {
	case got.file.filetype() == typeDirectory:
		d.base, d.inherit, d.flags = dirRights&(at.inherit|at.base), at.inherit, 0
	case o.access == os.O_RDONLY:
		d.base &^= rightFdWrite | rightFdAllocate | rightFdSetSize
	case o.access == os.O_WRONLY:
		d.base &^= rightFdRead
	}
	return g.install(mem, p[8], d)
}

// access is how a file is opened for these rights.
func access(want rights, changes bool) int {
	switch want & (rightFdRead | rightFdWrite) {
	case rightFdRead:
		return os.O_RDONLY
	case rightFdWrite:
		return os.O_WRONLY
	case 0:
		if !changes {
			return os.O_RDONLY
		}
	}
	return os.O_RDWR
}

// install gives a descriptor its number.
func (g *Guest) install(mem api.Memory, result uint64, d *descriptor) errno {
	n, e := g.table.add(d)
	if e != success {
		_ = g.closeFile(d)
		return e
	}
	if e = put32(mem, result, uint32(n)); e != success {
		g.table.entries[n] = nil
		_ = g.closeFile(d)
	}
	return e
}

// openInStop opens the folder of the stop file, or the file.
func (g *Guest) openInStop(mem api.Memory, p []uint64, flags uint16) errno {
	name, e := pathAt(mem, p[2], p[3])
	if e != success {
		return e
	}
	how := uint16(p[4])
	switch name = path.Clean(name); {
	case name == ".":
		return g.install(mem, p[8], &descriptor{file: stopDirectory{}, base: dirRights, inherit: fileRights | dirRights})
	case name != g.stop.name && how&openCreate != 0:
		return eROFS
	case name != g.stop.name:
		return eNOENT
	case how&openFolder != 0:
		return eNOTDIR
	case how&openExclusive != 0:
		return eEXIST
	case how&openTruncate != 0 || rights(p[5])&(rightFdRead|rightFdWrite) == rightFdWrite:
		return eROFS
	}
	return g.install(mem, p[8], &descriptor{
		file: openStop(g), flags: flags & flagNonblock,
		base: rightFdRead | rightFdStat | rightFdSetFlags | rightPoll,
	})
}

// statStop is path_filestat_get there.
func (g *Guest) statStop(mem api.Memory, p []uint64) errno {
	name, e := pathAt(mem, p[2], p[3])
	if e != success {
		return e
	}
	switch path.Clean(name) {
	case ".":
		return g.putStat(mem, p[4], stopDirectory{}.stat)
	case g.stop.name:
		return g.putStat(mem, p[4], (*stopFile)(nil).stat)
	}
	return eNOENT
}
