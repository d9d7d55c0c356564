package host

import (
	"io"

	"github.com/tetratelabs/wazero/api"
)

func fdAdvise(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdAdvise)
	if e != success {
		return e
	}
	if d.file.filetype() == typeDirectory {
		return eBADF
	}
	if advice := uint32(p[3]); advice > 5 || int64(p[1]) < 0 || int64(p[2]) < 0 {
		return eINVAL
	}
	return success // it is advice: what it says would only matter to the cache
}

func fdAllocate(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdAllocate)
	if e != success {
		return e
	}
	f, ok := d.file.(*regular)
	offset, length := int64(p[1]), int64(p[2])
	switch end := offset + length; {
	case !ok:
		return eNODEV
	case offset < 0 || length <= 0:
		return eINVAL
	case end < 0:
		return eFBIG
	default:
		return errnoOf(offload(g, func() error { return f.extend(end) }, nil))
	}
}

func fdClose(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], 0)
	if e != success {
		return e
	}
	g.table.entries[uint32(p[0])] = nil
	return g.closeFile(d)
}

// closeFile closes what the table no longer holds.
func (g *Guest) closeFile(d *descriptor) errno {
	switch d.file.(type) {
	case *regular, *directory:
		if d.preopen == "" {
			g.world.open.Add(-1)
		}
		return errnoOf(offload(g, d.file.close, nil)) // some disks write only now
	}
	return errnoOf(d.file.close())
}

func fdSync(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdSync)
	if e != success {
		return e
	}
	f, ok := d.file.(interface{ sync() error })
	if !ok {
		return eINVAL
	}
	if e := g.ready(d.file); e != success {
		return e
	}
	return errnoOf(offload(g, f.sync, nil))
}

func fdFdstatGet(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], 0)
	if e != success {
		return e
	}
	buf, ok := mem.Read(uint32(p[1]), 24)
	if !ok {
		return eFAULT
	}
	clear(buf)
	buf[0] = d.file.filetype()
	le.PutUint16(buf[2:], d.flags)
	le.PutUint64(buf[8:], uint64(d.base))
	le.PutUint64(buf[16:], uint64(d.inherit))
	return success
}

func fdFdstatSetFlags(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdSetFlags)
	if e != success {
		return e
	}
	const fixed = flagDsync | flagRsync | flagSync // when it is opened
	flags := uint16(p[1])
	switch f := d.file.(type) {
	case *directory, stopDirectory:
		return eISDIR
	case *regular:
		if flags&fixed != d.flags&fixed && flags&fixed != 0 {
			return eNOTSUP
		}
		if appends := flags&flagAppend != 0; appends != (d.flags&flagAppend != 0) {
			if err := f.setAppend(appends); err != nil {
				return errnoOf(err)
			}
		}
	default:
		if flags&fixed != 0 {
			return eNOTSUP
		}
	}
	d.flags = d.flags&fixed | flags&(flagAppend|flagNonblock)
	return success
}

func fdFdstatSetRights(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], 0)
	if e != success {
		return e
	}
	base, inherit := rights(p[1]), rights(p[2])
	if base&^d.base != 0 || inherit&^d.inherit != 0 {
		return eNOTCAPABLE
	}
	d.base, d.inherit = base, inherit
	return success
}

func fdFilestatGet(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdStat)
	if e != success {
		return e
	}
	if e := g.ready(d.file); e != success {
		return e
	}
	return g.putStat(mem, p[1], d.file.stat)
}

// putStat writes what stat, which is offloaded, returns.
func (g *Guest) putStat(mem api.Memory, at uint64, stat func() (filestat, error)) errno {
	buf, ok := mem.Read(uint32(at), 64)
	if !ok {
		return eFAULT
	}
	type result struct {
		filestat
		err error
	}
	s := offload(g, func() result {
		s, err := stat()
		return result{s, err}
	}, nil)
	if s.err != nil {
		return errnoOf(s.err)
	}
	le.PutUint64(buf, s.dev)
	le.PutUint64(buf[8:], s.ino)
	le.PutUint64(buf[16:], uint64(s.filetype))
	le.PutUint64(buf[24:], s.nlink)
	le.PutUint64(buf[32:], s.size)
	le.PutUint64(buf[40:], uint64(s.atime))
	le.PutUint64(buf[48:], uint64(s.mtime))
	le.PutUint64(buf[56:], uint64(s.ctime))
	return success
}

func fdFilestatSetSize(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdSetSize)
	if e != success {
		return e
	}
	f, ok := d.file.(*regular)
	if size := int64(p[1]); !ok || size < 0 {
		return eINVAL
	}
	if d.base&rightFdWrite == 0 {
		return eINVAL // as ftruncate has it
	}
	size := int64(p[1])
	return errnoOf(offload(g, func() error { return f.Truncate(size) }, nil))
}

func fdFilestatSetTimes(g *Guest, _ api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], rightFdSetTimes)
	if e != success {
		return e
	}
	t, e := timesOf(p[1], p[2], p[3])
	if e != success {
		return e
	}
	f, ok := d.file.(interface{ setTimes(times) error })
	if !ok {
		return eINVAL
	}
	if dir, ok := d.file.(*directory); ok && dir.mount.readOnly {
		return eROFS
	}
	if e := g.ready(d.file); e != success {
		return e
	}
	return errnoOf(offload(g, func() error { return f.setTimes(t) }, nil))
}

func fdPrestatGet(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], 0)
	if e != success || d.preopen == "" {
		return eBADF
	}
	return put64(mem, p[1], uint64(len(d.preopen))<<32) // tag 0: a folder
}

func fdPrestatDirName(g *Guest, mem api.Memory, p []uint64) errno {
	d, e := g.table.get(p[0], 0)
	switch {
	case e != success || d.preopen == "":
		return eBADF
	case uint64(uint32(p[2])) < uint64(len(d.preopen)):
		return eNAMETOOLONG
	case !mem.WriteString(uint32(p[1]), d.preopen):
		return eFAULT
	}
	return success
}

func fdRenumber(g *Guest, _ api.Memory, p []uint64) errno {
	from, e := g.table.get(p[0], 0)
	if e != success {
		return e
	}
	to, e := g.table.get(p[1], 0)
	if e != success || from == to {
		return e
	}
	g.table.entries[uint32(p[1])] = from
	g.table.entries[uint32(p[0])] = nil
	_ = g.closeFile(to) // as dup2: the descriptor is replaced all the same
	return success
}

func fdSeek(g *Guest, mem api.Memory, p []uint64) errno {
	return seek(g, mem, p[0], int64(p[1]), uint32(p[2]), p[3], rightFdSeek)
}

func fdTell(g *Guest, mem api.Memory, p []uint64) errno {
	return seek(g, mem, p[0], 0, io.SeekCurrent, p[1], rightFdTell)
}

func seek(g *Guest, mem api.Memory, fd uint64, offset int64, whence uint32, result uint64, need rights) errno {
	d, e := g.table.get(fd, need)
	if e != success {
		return e
	}
	if whence > io.SeekEnd {
		return eINVAL
	}
	f, ok := d.file.(*regular)
	if !ok {
		return eSPIPE
	}
	if whence == io.SeekCurrent { // no system call that could wait
		at, err := f.Seek(offset, io.SeekCurrent)
		if err != nil {
			return errnoOf(err)
		}
		return put64(mem, result, uint64(at))
	}
	type place struct {
		at  int64
		err error
	}
	at := offload(g, func() place {
		at, err := f.Seek(offset, int(whence))
		return place{at, err}
	}, nil)
	if at.err != nil {
		return errnoOf(at.err)
	}
	return put64(mem, result, uint64(at.at))
}

func notSocket(g *Guest, _ api.Memory, p []uint64) errno {
	if _, e := g.table.get(p[0], 0); e != success {
		return e
	}
	return eNOTSOCK
}
