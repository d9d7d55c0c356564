package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// serveNATS is the first argument with which this program is a NATS server.
const serveNATS = "nats-server"

// outsideServers is how many NATS servers a cluster has that are not embedded:
// one may be lost.
const outsideServers = 3

// runNATS is a NATS server with the configuration that Weft prints, as an
// operator of such a cluster completes it, until it is asked to end.
func runNATS(args []string) error {
	flags := flag.NewFlagSet(serveNATS, flag.ContinueOnError)
	var file, name, listen, monitor, cluster, routes, store string
	for _, f := range []struct {
		to          *string
		name, usage string
	}{
		{&file, "config", "what weft nats-config printed"}, {&name, "name", "of the server"}, {&listen, "listen", "address for clients"},
		{&monitor, "monitor", "address of the monitoring"}, {&cluster, "cluster", "address for the other servers"},
		{&routes, "routes", "addresses of all servers"}, {&store, "store", "folder"},
	} {
		flags.StringVar(f.to, f.name, "", f.usage)
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	at := func(address string, host *string, port *int) {
		_, e := fmt.Sscanf(strings.Replace(address, ":", " ", 1), "%s %d", host, port)
		err = errors.Join(err, e)
	}
	// The servers are not to tell clients of each other: these are to take the
	// way that can be cut.
	o.Cluster = server.ClusterOpts{Name: "chaos", NoAdvertise: true}
	at(listen, &o.Host, &o.Port)
	at(monitor, &o.HTTPHost, &o.HTTPPort)
	at(cluster, &o.Cluster.Host, &o.Cluster.Port)
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	for route := range strings.SplitSeq(routes, ",") {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: route})
	}
	o.ServerName, o.StoreDir, o.NoSigs = name, store, true
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// startOutside starts NATS servers, and two cores on them.
func (c *cluster) startOutside(ctx context.Context) error {
	monitors, err := c.startServers(ctx)
	if err != nil {
		return err
	}
	for i, core := range c.cores {
		api, err := freeAddress()
		if err != nil {
			return err
		}
		if err := core.behind(c.nats); err != nil {
			return err
		}
		err = c.configure(core, fmt.Sprintf("[api]\nlisten = %q\n[nats]\nurls = [%s]\nmonitoring = [%s]\nreplicas = %d\n[node]\nname = %q\n",
			api, core.urls(), monitors, outsideServers, core.name))
		if err != nil {
			return err
		}
		says := "core is ready"
		if i > 0 {
			says = "another core leads, this one stands by"
			if err := core.inherit(ctx, c.cores[0]); err != nil {
				return err
			}
		}
		if err := core.launch(); err != nil {
			return err
		}
		if err := core.said(ctx, says); err != nil {
			return err
		}
	}
	return nil
}

// inherit copies what all cores of a cluster have in common.
func (p *part) inherit(ctx context.Context, first *part) error {
	for _, folder := range []string{"pki", "core", "nats"} {
		out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Join(first.folder, folder), p.folder).CombinedOutput()
		if err != nil {
			return fmt.Errorf("copy %s: %w: %s", folder, err, out)
		}
	}
	return nil
}

// startServers starts the NATS servers, and returns where they are monitored,
// as a list of TOML.
func (c *cluster) startServers(ctx context.Context) (monitors string, err error) {
	text, err := c.command(ctx, "nats-config")
	if err != nil {
		return "", err
	}
	file := filepath.Join(c.o.data, "nats.conf")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	var urls, monitor, routes []string
	for range c.nats {
		for _, list := range []*[]string{&monitor, &routes} {
			address, err := freeAddress()
			if err != nil {
				return "", err
			}
			*list = append(*list, address)
		}
		urls = append(urls, fmt.Sprintf("%q", "http://"+monitor[len(monitor)-1]))
	}
	for i, address := range c.nats {
		name := fmt.Sprint("nats-", i)
		p, err := c.newPart(self, name, serveNATS, "-config", file, "-name", name, "-listen", address, "-monitor", monitor[i],
			"-cluster", routes[i], "-routes", strings.Join(routes, ","), "-store", filepath.Join(c.o.data, name, "store"))
		if err != nil {
			return "", err
		}
		c.servers = append(c.servers, p)
		if err := p.launch(); err != nil {
			return "", err
		}
	}
	for _, p := range c.servers {
		if err := p.said(ctx, "Server is ready"); err != nil {
			return "", err
		}
	}
	return strings.Join(urls, ", "), nil
}
