package spawn_test

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/weftrun/weft/wasm/spawn"
)

func TestMain(m *testing.M) {
	if os.Getenv("SPAWN_TEST_CHILD") != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func TestStart(t *testing.T) {
	for _, tied := range []bool{false, true} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{"SPAWN_TEST_CHILD=1"}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var waiters sync.WaitGroup
		gone, err := spawn.Start(cmd, tied, &waiters)
		if err != nil {
			t.Fatal(err)
		}
		if group, err := syscall.Getpgid(cmd.Process.Pid); err != nil || group != cmd.Process.Pid {
			t.Errorf("it is in the group %d, %v, want its own, %d", group, err, cmd.Process.Pid)
		}
		if err := stdin.Close(); err != nil {
			t.Fatal(err)
		}
		<-gone
		waiters.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 3 {
			t.Errorf("it ended with %d", code)
		}
	}
}

func TestStartFails(t *testing.T) {
	var waiters sync.WaitGroup
	if _, err := spawn.Start(exec.Command("/does/not/exist"), true, &waiters); err == nil {
		t.Error("what does not exist was started")
	}
	waiters.Wait()
}
