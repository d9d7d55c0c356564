package host

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// function is a function of WASI. It gets its parameters, and must do nothing
// to the guest's memory after it returned.
type function func(g *Guest, mem api.Memory, p []uint64) errno

// functions are those that are ours. What is not here (arguments, environment,
// proc_exit) is wazero's.
var functions = map[string]function{
	"clock_res_get":           clockResGet,
	"clock_time_get":          clockTimeGet,
	"fd_advise":               fdAdvise,
	"fd_allocate":             fdAllocate,
	"fd_close":                fdClose,
	"fd_datasync":             fdSync,
	"fd_fdstat_get":           fdFdstatGet,
	"fd_fdstat_set_flags":     fdFdstatSetFlags,
	"fd_fdstat_set_rights":    fdFdstatSetRights,
	"fd_filestat_get":         fdFilestatGet,
	"fd_filestat_set_size":    fdFilestatSetSize,
	"fd_filestat_set_times":   fdFilestatSetTimes,
	"fd_pread":                fdPread,
	"fd_prestat_get":          fdPrestatGet,
	"fd_prestat_dir_name":     fdPrestatDirName,
	"fd_pwrite":               fdPwrite,
	"fd_read":                 fdRead,
	"fd_readdir":              fdReaddir,
	"fd_renumber":             fdRenumber,
	"fd_seek":                 fdSeek,
	"fd_sync":                 fdSync,
	"fd_tell":                 fdTell,
	"fd_write":                fdWrite,
	"path_create_directory":   pathCreateDirectory,
	"path_filestat_get":       pathFilestatGet,
	"path_filestat_set_times": pathFilestatSetTimes,
	"path_link":               pathLink,
	"path_open":               pathOpen,
	"path_readlink":           pathReadlink,
	"path_remove_directory":   pathRemoveDirectory,
	"path_rename":             pathRename,
	"path_symlink":            pathSymlink,
	"path_unlink_file":        pathUnlinkFile,
	"poll_oneoff":             pollOneoff,
	"random_get":              randomGet,
	"sched_yield":             schedYield,
	"sock_accept":             notSocket,
	"sock_recv":               notSocket,
	"sock_send":               notSocket,
	"sock_shutdown":           notSocket,
}

type guestKey struct{}

// Bind returns a context for calls into the guest's module: what it calls of
// WASI finds the guest there.
func (g *Guest) Bind(ctx context.Context) context.Context {
	return context.WithValue(ctx, guestKey{}, g)
}

// build makes WASI of wazero's definitions and our functions.
func build(ctx context.Context, rt wazero.Runtime, defined wazero.CompiledModule) error {
	builder := rt.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	for name, d := range defined.ExportedFunctions() {
		var code api.GoModuleFunction
		if f := functions[name]; f != nil {
			code = api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
				stack[0] = uint64(f(ctx.Value(guestKey{}).(*Guest), mod.Memory(), stack))
			})
		} else if code, _ = d.GoFunction().(api.GoModuleFunction); code == nil {
			return fmt.Errorf("provide WASI: %s is not as expected", name)
		}
		builder.NewFunctionBuilder().
			WithGoModuleFunction(code, d.ParamTypes(), d.ResultTypes()).
			WithName(name).WithParameterNames(d.ParamNames()...).WithResultNames(d.ResultNames()...).
			Export(name)
	}
	if _, err := builder.Instantiate(ctx); err != nil {
		return fmt.Errorf("instantiate WASI: %w", err)
	}
	return nil
}

var le = binary.LittleEndian

// put32 and put64 write a result.
func put32(mem api.Memory, at uint64, v uint32) errno {
	if !mem.WriteUint32Le(uint32(at), v) {
		return eFAULT
	}
	return success
}

func put64(mem api.Memory, at, v uint64) errno {
	if !mem.WriteUint64Le(uint32(at), v) {
		return eFAULT
	}
	return success
}

// randomChunk takes about 0.1 ms to fill.
const randomChunk = 64 << 10

func randomGet(g *Guest, mem api.Memory, p []uint64) errno {
	buf, ok := mem.Read(uint32(p[0]), uint32(p[1]))
	if !ok {
		return eFAULT
	}
	begin := now()
	for len(buf) > 0 {
		n := min(len(buf), randomChunk)
		random(buf[:n])
		buf = buf[n:]
		g.breathe(&begin)
	}
	return success
}

func schedYield(g *Guest, _ api.Memory, _ []uint64) errno {
	g.alive()
	g.yield()
	return success
}
