// Package plugins is what the author of a controller plugin needs: implement
// core.Controller, hand it to [Serve] in main, and put the binary into the
// plugin folder. It must not decide anything itself.
//
// The contract of the processes is in plugins/wire (controllers.proto); a
// plugin in another language serves that and needs nothing of this package.
package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins/wire"
)

// ServiceName is the name under which a plugin serves its controllers.
const ServiceName = "controllers"

// LifelineEnv names the environment variable that holds the number of a file
// descriptor which is closed when the host ends. A plugin ends with it: so none
// is left behind when the host is killed.
const LifelineEnv = "WEFT_PLUGIN_LIFELINE"

// Handshake is what host and plugin must agree upon. The cookie is no secret:
// it keeps a person from running a plugin by hand without an explanation.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{
		ProtocolVersion:  1,
		MagicCookieKey:   "WEFT_PLUGIN",
		MagicCookieValue: "controllers-v1",
	}
}

// Serve serves the controllers to the core that started this process, and
// returns when the core no longer needs it or is gone. It is to be the last
// call of main; started by hand it explains itself and exits.
func Serve(controllers ...core.Controller) error {
	server, err := wire.NewServer(controllers...)
	if err != nil {
		return err
	}
	stop, err := lifeline()
	if err != nil {
		return err
	}
	defer stop()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: Handshake(),
		Plugins:         goplugin.PluginSet{ServiceName: &Bridge{Controllers: server}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, wire.ServerOptions()...)...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
	return nil
}

// lifeline ends the process when the host does. A spinning controller cannot
// keep it from ending.
func lifeline() (stop func(), err error) {
	text := os.Getenv(LifelineEnv)
	if text == "" {
		return func() {}, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q: the number of an open file descriptor is wanted", LifelineEnv, text)
	}
	file := os.NewFile(uintptr(fd), "lifeline")
	go func() {
		_, err := io.Copy(io.Discard, file)
		if !errors.Is(err, os.ErrClosed) {
			os.Exit(0)
		}
	}()
	return func() { _ = file.Close() }, nil
}

// Bridge joins the contract to go-plugin, on both sides.
type Bridge struct {
	goplugin.NetRPCUnsupportedPlugin
	// Controllers is set in the plugin, and nil in the host.
	Controllers *wire.Server
}

// GRPCServer is called in the plugin.
func (b *Bridge) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	wire.RegisterControllersServer(s, b.Controllers)
	return nil
}

// GRPCClient is called in the host, and returns a wire.ControllersClient.
func (b *Bridge) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return wire.NewControllersClient(conn), nil
}
