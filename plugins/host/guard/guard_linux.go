package guard

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Possible tells whether this system has guards.
const Possible = true

// setChildSubreaper is the kernel's PR_SET_CHILD_SUBREAPER.
const setChildSubreaper = 36

// patience is how long a guard waits for those that it has killed: one may run
// as another user, and not be killed. It is less than a host's.
const patience = 2 * time.Second

// Run is all that a guard does. It returns the code to exit with: the
// plugin's, where there was one.
func Run() (code int) {
	// The kernel kills the plugin with the thread that started it.
	runtime.LockOSThread()
	order, err := readOrder()
	if err != nil {
		say("a core starts this for a plugin, to end what the plugin has started: " + err.Error())
		return 2
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		// What leaves the plugin's family is then found by its environment.
		say("not all that the plugin starts can be seen to end with it: " + errno.Error())
	}
	signals := make(chan os.Signal, 1) // the first is enough
	signal.Notify(signals, syscall.SIGTERM)
	g := &guard{}
	if g.plugin, err = start(order); err != nil {
		return 2
	}
	go func() {
		<-signals
		g.end()
	}()
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(LifelineFD, "lifeline"))
		g.end()
	}()
	return g.reap()
}

// readOrder reads the order, and keeps what is the guard's alone from the
// plugin.
func readOrder() (Order, error) {
	for _, fd := range []int{OrderFD, ReportFD} {
		syscall.CloseOnExec(fd)
	}
	from := os.NewFile(OrderFD, "order")
	data, err := io.ReadAll(from)
	if err != nil {
		return Order{}, err
	}
	if err := from.Close(); err != nil {
		return Order{}, err
	}
	return decode(data)
}

// start starts the plugin, and says so.
func start(order Order) (pid int, err error) {
	pid, err = syscall.ForkExec(order.Path, order.Args, &syscall.ProcAttr{
		Env:   order.Env,
		Files: []uintptr{0, 1, 2, LifelineFD, DeathFD},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	})
	report := strconv.Itoa(pid)
	if err != nil {
		err = &os.PathError{Op: "fork/exec", Path: order.Path, Err: err}
		report = err.Error()
	}
	// Whoever does not hear it has ended, which is seen soon enough.
	_, _ = syscall.Write(ReportFD, []byte(report))
	// The plugin's end is to be heard even if this process is held up.
	_, _ = syscall.Close(ReportFD), syscall.Close(DeathFD)
	return pid, err
}

// guard has one plugin, which is still to be waited for.
type guard struct {
	plugin int
	ending atomic.Bool
}

// end begins to end all of it.
func (g *guard) end() {
	if !g.ending.Swap(true) {
		time.AfterFunc(patience, func() {
			say("what the plugin has started does not end, and is left: process" + list(descendants()))
			os.Exit(1)
		})
	}
	killAll()
}

// reap waits for the plugin, for what it has left behind, and then for all that
// is to end. Who starts another one before it is killed leaves it to this
// process when it ends, so that it is found after that.
func (g *guard) reap() (code int) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return code // nobody is left
		}
		if pid == g.plugin && (status.Exited() || status.Signaled()) {
			code = status.ExitStatus()
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
			g.end()
		} else if g.ending.Load() {
			killAll()
		}
	}
}

// say is for the plugin's log, or a person.
func say(text string) { _, _ = os.Stderr.WriteString(text + "\n") }

func list(processes []descendant) (text string) {
	for _, p := range processes {
		text += " " + strconv.Itoa(p.pid)
	}
	return text
}
