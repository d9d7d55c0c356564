// Command powercut cuts the power of a core, again and again: the core keeps
// its data on a file system within a file, writes go on at full load, the
// file's bytes are copied at a random moment, and a core is started on the
// copy. What the file system had not yet written is not in it. Everything that
// was acknowledged must be. It needs root, for loop devices; elsewhere it says
// so and does nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type options struct {
	binary string
	cuts   int
	seed   uint64
	size   int // of the disk, in MB
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	o := options{}
	flag.StringVar(&o.binary, "binary", "bin/weft", "the program")
	flag.IntVar(&o.cuts, "cuts", 50, "power cuts")
	flag.Uint64Var(&o.seed, "seed", 1, "what the moments are drawn from")
	flag.IntVar(&o.size, "size", 192, "size of the disk in MB")
	flag.Parse()
	if err := possible(); err != nil {
		fmt.Printf("powercut: SKIPPED: %v\n", err)
		return 0
	}
	verdict, err := trial(ctx, o)
	if err != nil {
		fmt.Printf("powercut: FAIL with seed %d: %v\n", o.seed, err)
		return 1
	}
	fmt.Printf("powercut: PASS: %s\n", verdict)
	return 0
}

// possible says why it cannot be done here.
func possible() error {
	if runtime.GOOS != "linux" {
		return errors.New("it needs Linux")
	}
	if os.Geteuid() != 0 {
		return errors.New("it needs root, to mount a disk")
	}
	for _, program := range []string{"mkfs.ext4", "mount", "umount", "cp"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("it needs loop devices: %w", err)
	}
	return nil
}

// disk is a file system in a file.
type disk struct{ image, at string }

func (d disk) mount() error   { return command("mount", "-o", "loop", d.image, d.at) }
func (d disk) unmount() error { return command("umount", d.at) }

// trial cuts the power o.cuts times; each core starts on what the last cut
// left.
func trial(ctx context.Context, o options) (verdict string, err error) {
	folder, err := os.MkdirTemp("", "weft-powercut-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return "", err
	}
	d := disk{image: filepath.Join(folder, "0.img"), at: filepath.Join(folder, "disk")}
	if err := prepare(d, o.size); err != nil {
		return "", err
	}
	random := rand.New(rand.NewPCG(o.seed, 0))
	known := newLedger()
	for cut := 1; cut <= o.cuts; cut++ {
		next := disk{image: filepath.Join(folder, fmt.Sprint(cut, ".img")), at: d.at}
		moment := 200*time.Millisecond + time.Duration(random.Int64N(int64(1200*time.Millisecond)))
		if err := round(ctx, o, d, next, known, cut, moment); err != nil {
			return "", fmt.Errorf("cut %d, after %s: %w", cut, moment, err)
		}
		if err := os.Remove(d.image); err != nil {
			return "", err
		}
		d = next
		fmt.Printf("cut %d of %d after %s: %s\n", cut, o.cuts, moment.Round(time.Millisecond), known)
	}
	if err := round(ctx, o, d, disk{}, known, 0, 0); err != nil {
		return "", fmt.Errorf("after the last cut: %w", err)
	}
	if known.control == 0 {
		return "", errors.New("every unsynced file survived every cut: the copies drop nothing, so this proves nothing")
	}
	return fmt.Sprintf("%d cuts, %s", o.cuts, known), nil
}

func prepare(d disk, size int) error {
	file, err := os.Create(d.image)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(int64(size)<<20), file.Close()); err != nil {
		return err
	}
	if err := os.Mkdir(d.at, 0o700); err != nil {
		return err
	}
	if err := command("mkfs.ext4", "-q", d.image); err != nil {
		return err
	}
	if err := d.mount(); err != nil {
		return err
	}
	data := filepath.Join(d.at, "weft")
	err = os.Mkdir(data, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(data, "weft.toml"), []byte("[api]\nlisten = \"127.0.0.1:0\"\n[nats]\nlisten = \"127.0.0.1:0\"\n"), 0o600)
	}
	return errors.Join(err, d.unmount())
}

// round starts a core on a disk, checks what it knows, and, if there is a next
// disk, cuts the power under load and leaves the copy there.
func round(ctx context.Context, o options, d, next disk, known *ledger, cut int, moment time.Duration) (err error) {
	if err := d.mount(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.unmount()) }()
	if err := known.checkControl(d.at, cut-1); err != nil {
		return err
	}
	c, err := start(ctx, o.binary, filepath.Join(d.at, "weft"))
	if err != nil {
		return err
	}
	defer c.kill()
	if err := known.check(ctx, c.client); err != nil {
		return err
	}
	if next.image == "" {
		return nil
	}
	load, stop := context.WithCancel(ctx)
	done := make(chan error, 1) // the one result
	go func() { done <- known.load(load, c.config, cut) }()
	select {
	case <-time.After(moment):
	case <-ctx.Done():
	}
	// A file that nobody synced: if it is whole in the copy, nothing is proven.
	if err := os.WriteFile(control(d.at, cut), []byte(strings.Repeat("unsynced", 4096)), 0o600); err != nil {
		stop()
		return errors.Join(err, <-done)
	}
	known.close() // what is acknowledged from here on is not asked for
	_ = c.cmd.Process.Signal(syscall.SIGSTOP)
	err = command("cp", "--sparse=always", d.image, next.image)
	c.kill()
	stop()
	return errors.Join(err, <-done, ctx.Err())
}

func control(at string, cut int) string { return filepath.Join(at, fmt.Sprint("control-", cut)) }

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
