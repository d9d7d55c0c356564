package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver"
	"github.com/weftrun/weft/core/auth"
)

// entrance is where clients of the API come in.
type entrance struct {
	url       string // that other cores and clients reach it under
	paths     Paths
	authority *auth.Authority
	front     *apiserver.Front
	listener  net.Listener
}

// openEntrance listens. The cluster's authority is made if there is none.
func openEntrance(ctx context.Context, s *settings.Settings, log *slog.Logger) (*entrance, error) {
	paths := Paths{s.Data}
	authority, err := auth.OpenAuthority(paths.PKI())
	if err != nil {
		return nil, err
	}
	listener, err := listen(ctx, s.API.Listen, settings.DefaultAPI, lastAPI(paths))
	if err != nil {
		return nil, err
	}
	e := &entrance{url: "https://" + advertised(listener.Addr().String(), s.API.Names), paths: paths, authority: authority, listener: listener}
	names := append([]string{"localhost", "127.0.0.1", "::1", hostOf(e.url)}, s.API.Names...)
	tls, err := authority.ServerConfig(names...)
	if err == nil {
		e.front, err = apiserver.NewFront(tls, log.With("part", "api"))
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// advertised is the host and port for others: where everything is listened to,
// the first of the names, or else the machine's own address.
func advertised(listens string, names []string) string {
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return listens
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return listens
	}
	if len(names) > 0 {
		return net.JoinHostPort(names[0], port)
	}
	return net.JoinHostPort(address(), port)
}

// serve answers until ctx ends, and closes the entrance.
func (e *entrance) serve(ctx context.Context) error { return e.front.Serve(ctx, e.listener) }

func (e *entrance) close() error { return e.listener.Close() }

// writeKubeconfigs writes those of the administrator and of a reader.
func (e *entrance) writeKubeconfigs() error {
	for path, user := range map[string]core.User{e.paths.Kubeconfig(): admin, e.paths.ReaderKubeconfig(): reader} {
		if err := (auth.Kubeconfig{Server: e.url, Authority: e.authority, User: user}).WriteFile(path); err != nil {
			return fmt.Errorf("write kubeconfig: %w", err)
		}
	}
	return nil
}

func hostOf(url string) string {
	host := strings.TrimPrefix(url, "https://")
	if i := strings.LastIndex(host, ":"); i >= 0 {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}
