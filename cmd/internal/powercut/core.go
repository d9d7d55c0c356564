package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// patience bounds the start of a core.
const patience = time.Minute

// running is a core.
type running struct {
	cmd    *exec.Cmd
	out    *bytes.Buffer
	ended  chan struct{}
	config *rest.Config
	client *kubernetes.Clientset
}

// start runs a core until it is ready.
func start(ctx context.Context, binary, data string) (*running, error) {
	_ = os.Remove(filepath.Join(data, "kubeconfig")) // of the core before
	c := &running{cmd: exec.Command(binary, "core"), out: &bytes.Buffer{}, ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), "WEFT_DATA="+data)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.cmd.Wait() // it is killed
		close(c.ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if c.ready(ctx, filepath.Join(data, "kubeconfig")) {
			return c, nil
		}
		select {
		case <-c.ended:
			return nil, fmt.Errorf("the core does not start: %s", c.out)
		case <-ctx.Done():
			c.kill()
			return nil, fmt.Errorf("the core is not ready: %w: %s", ctx.Err(), c.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *running) ready(ctx context.Context, kubeconfig string) bool {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return false
	}
	client, err := newClient(config)
	if err != nil {
		return false
	}
	if _, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return false
	}
	c.config, c.client = config, client
	return true
}

// kill ends the core and all that it started, at once.
func (c *running) kill() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may be gone
	<-c.ended
}
