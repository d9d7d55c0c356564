package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// patience bounds each wait.
const patience = 2 * time.Minute

// cluster is a running weft with its own data folder.
type cluster struct {
	*kubernetes.Clientset
	config *rest.Config
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	data   string    // its folder
	begin  time.Time // when its process was started
	ready  time.Duration
}

// newFolder makes a data folder with the settings that measurements need.
func newFolder(o *options) (string, error) {
	folder, err := os.MkdirTemp("", "weft-measure-")
	if err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	text := fmt.Sprintf("[api]\nlisten = \"127.0.0.1:0\"\n[nats]\nlisten = \"127.0.0.1:0\"\n[node]\nmodule_path = [%q]\n", o.modules)
	if o.profiles != "" || o.sockets {
		text = "debug_sockets = true\n" + text
	}
	return folder, os.WriteFile(filepath.Join(folder, "weft.toml"), []byte(text), 0o600)
}

// start starts weft with a command, up or core, and waits until its API is
// ready.
func start(ctx context.Context, o *options, folder, command string) (*cluster, error) {
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := os.Remove(kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // it says where the last cluster was
	}
	c := &cluster{data: folder, cmd: exec.Command(o.binary, command), stderr: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), "WEFT_DATA="+folder)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to handle
	c.cmd.Stderr = c.stderr
	if o.keepLogs {
		c.cmd.Stderr = os.Stderr
	}
	c.begin = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", o.binary, err)
	}
	if err := c.awaitAPI(ctx, kubeconfig); err != nil {
		return nil, errors.Join(err, c.stop(), c.said())
	}
	return c, nil
}

func (c *cluster) said() error {
	if text := bytes.TrimSpace(c.stderr.Bytes()); len(text) > 0 {
		return fmt.Errorf("weft said: %s", text)
	}
	return nil
}

func (c *cluster) awaitAPI(ctx context.Context, kubeconfig string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var client *http.Client
	for {
		if client == nil {
			if config, err := clientcmd.BuildConfigFromFlags("", kubeconfig); err == nil {
				c.config = config
				if client, err = rest.HTTPClientFor(config); err != nil {
					return err
				}
			}
		}
		if client != nil && ok(ctx, client, c.config.Host+"/readyz") {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the API: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
	c.ready = time.Since(c.begin)
	var err error
	c.Clientset, err = c.client()
	return err
}

func ok(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// client makes a client with a connection of its own, without limits, that
// speaks protobuf.
func (c *cluster) client() (*kubernetes.Clientset, error) {
	config := rest.CopyConfig(c.config)
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.Dial = (&net.Dialer{}).DialContext // else clients share a connection
	return kubernetes.NewForConfig(config)
}

// plain makes a client of HTTP alone, for answers that are only to be read.
func (c *cluster) plain() (*http.Client, error) {
	settings, err := rest.TLSConfigFor(c.config)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: settings, DisableCompression: true,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1, for it costs this side least
	}}, nil
}

// awaitNode waits until a node is ready, and returns how long that took from
// the start of the process.
func (c *cluster) awaitNode(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	watch, err := c.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("watch nodes: %w", err)
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		node, ok := event.Object.(*corev1.Node)
		if !ok {
			continue
		}
		for i := range node.Status.Conditions {
			if cond := &node.Status.Conditions[i]; cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue &&
				!cond.LastHeartbeatTime.Time.Before(c.begin.Truncate(time.Second)) {
				return time.Since(c.begin), nil
			}
		}
	}
	return 0, fmt.Errorf("wait for a node: %w", context.Cause(ctx))
}

// stop ends weft as Ctrl-C does.
func (c *cluster) stop() error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("end weft: %w", errors.Join(err, c.said()))
	}
	return nil
}
