package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weftrun/weft/bus/creds"
)

// problem is what is wrong with a value.
type problem struct{ key, text string }

// report adds a problem.
type report func(key, format string, args ...any)

// Validate says everything that is wrong.
func (s *Settings) Validate() error {
	var errs []error
	for _, p := range s.problems(nil) {
		errs = append(errs, fmt.Errorf("%s: %s", p.key, p.text))
	}
	return errors.Join(errs...)
}

// problems finds everything that is wrong. What is unread has no value that
// others could contradict.
func (s *Settings) problems(unread map[string]bool) []problem {
	var found []problem
	bad := func(key, format string, args ...any) {
		found = append(found, problem{key, fmt.Sprintf(format, args...)})
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, s.LogLevel) {
		bad("log_level", "%q is not one of %s", s.LogLevel, strings.Join(levels, ", "))
	}
	s.API.validate(bad)
	s.NATS.validate(bad)
	if !unread["nats"] && !unread["nats.urls"] {
		s.NATS.validateTogether(bad)
	}
	quantity(bad, "core.blob_limit", s.Core.BlobLimit, "256Mi")
	s.Plugins.validate(bad)
	s.Node.validate(bad)
	return found
}

// quantity reports what is no positive one.
func quantity(bad report, key, text, example string) {
	if q, err := resource.ParseQuantity(text); err != nil || q.Sign() <= 0 {
		bad(key, "%q is no positive quantity, such as %s", text, example)
	}
}

// listens reports what is no address to listen on.
func listens(bad report, key, address string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		bad(key, "%q is no host and port, such as 127.0.0.1:6443", address)
		return
	}
	if host != "" && !isHost(host) {
		bad(key, "%q: the host %q is no IP address and no DNS name", address, host)
	}
	if !isPort(port) {
		bad(key, "%q: the port %q is not from 0 to 65535", address, port)
	}
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// isHost tells whether a text is an IP address or a DNS name.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return len(validation.IsDNS1123Subdomain(strings.ToLower(text))) == 0
}

func (a *API) validate(bad report) {
	listens(bad, "api.listen", a.Listen)
	for i, name := range a.Names {
		if !isHost(name) {
			bad(fmt.Sprintf("api.names[%d]", i), "%q is no IP address and no DNS name", name)
		}
	}
}

func (n *NATS) validate(bad report) {
	listens(bad, "nats.listen", n.Listen)
	n.validateURLs(bad)
	for i, text := range n.Monitoring {
		if u, err := url.Parse(text); err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Hostname() == "" {
			bad(fmt.Sprintf("nats.monitoring[%d]", i), "%q is no http:// or https:// URL, such as http://127.0.0.1:8222", shown(text))
		}
	}
	if !slices.Contains([]int{1, 3, 5}, n.Replicas) {
		bad("nats.replicas", "%d is not one of 1, 3, 5", n.Replicas)
	}
}

// validateURLs asks for what NATS's client takes, and a host: without one it
// would try this machine.
func (n *NATS) validateURLs(bad report) {
	web := 0
	for i, text := range n.URLs {
		full := text
		if !strings.Contains(text, "://") {
			full = "nats://" + text
		}
		u, err := url.Parse(full)
		if err != nil || u.Hostname() == "" || !isPort(u.Port()) && u.Port() != "" || strings.Contains(text, ",") {
			bad(fmt.Sprintf("nats.urls[%d]", i), "%q is no address of a NATS server, such as nats://127.0.0.1:4222", shown(text))
			continue
		}
		switch u.Scheme {
		case "nats", "tls":
		case "ws", "wss":
			web++
		default:
			bad(fmt.Sprintf("nats.urls[%d]", i), "%q: %s:// is not one of nats://, tls://, ws://, wss://", shown(text), u.Scheme)
		}
	}
	if web > 0 && web < len(n.URLs) {
		bad("nats.urls", "ws:// and wss:// cannot be mixed with others")
	}
}

// shown is an address without the password that may be in it.
func shown(address string) string {
	if at := strings.LastIndex(address, "@"); at >= 0 {
		return "..." + address[at:]
	}
	return address
}

// validateTogether reports settings that would not be used. Those that are as
// without a file harm nobody.
func (n *NATS) validateTogether(bad report) {
	if len(n.URLs) > 0 {
		if n.Listen != DefaultNATS {
			bad("nats.listen", "no server is embedded, and so nothing listens there, where nats.urls names an outside one: set one of the two")
		}
		return
	}
	for _, of := range []struct {
		key string
		set bool
	}{
		{"nats.credentials", n.Credentials != ""},
		{"nats.monitoring", len(n.Monitoring) > 0},
		{"nats.replicas", n.Replicas != 1},
		{"nats.assume_synced", n.AssumeSynced},
	} {
		if of.set {
			bad(of.key, "it is for an outside NATS server: set nats.urls as well")
		}
	}
}

// CheckFiles says which files that a process needs at its start cannot be read.
func (s *Settings) CheckFiles() error {
	if s.NATS.Credentials == "" {
		return nil
	}
	if _, err := creds.ReadFile(s.NATS.Credentials); err != nil {
		return fmt.Errorf("settings: %s: nats.credentials: %w: \"weft credentials ROLE NAME\" makes such a file where the core runs", s.Source, err)
	}
	return nil
}
