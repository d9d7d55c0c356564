package auth

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weftrun/weft/core"
)

var (
	admin  = core.User{Name: "admin", Groups: []string{core.GroupAdmins}}
	reader = core.User{Name: "rita", Groups: []string{core.GroupReaders}}
)

// whoami serves the name of the authenticated user, or 401.
func whoami(t *testing.T, ca *Authority, tokens *Tokens) *httptest.Server {
	t.Helper()
	config, err := ca.ServerConfig("127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	a := &Authenticator{Tokens: tokens}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := a.Authenticate(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(user.Name + " " + strings.Join(user.Groups, ",")))
	}))
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestKubeconfigsWork(t *testing.T) {
	dir := t.TempDir()
	ca, err := OpenAuthority(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := OpenTokens(filepath.Join(dir, "tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Issue(reader)
	if err != nil {
		t.Fatal(err)
	}
	server := whoami(t, ca, tokens)
	for _, c := range []struct {
		name string
		k    Kubeconfig
		want string
	}{
		{"certificate", Kubeconfig{User: admin}, "admin system:masters,system:authenticated"},
		{"token", Kubeconfig{User: reader, Token: token}, "rita weft:readers,system:authenticated"},
		{"wrong token", Kubeconfig{User: reader, Token: token + "x"}, "401"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "kube", strings.ReplaceAll(c.name, " ", "-"))
			c.k.Server, c.k.Authority = server.URL, ca
			if err := c.k.WriteFile(path); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if got := ask(t, path); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// ask sends a request as the kubeconfig says, and returns the answer or the
// status code.
func ask(t *testing.T, kubeconfig string) string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	if response.StatusCode != http.StatusOK {
		return response.Status[:3]
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestNobody: who says nothing is anonymous, and who says something wrong is refused.
func TestNobody(t *testing.T) {
	ca, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := whoami(t, ca, nil)
	client := server.Client()
	get := func(header string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			request.Header.Set("Authorization", header)
		}
		client.Transport.(*http.Transport).TLSClientConfig.RootCAs = ca.Pool()
		response, err := client.Do(request)
		if err != nil {
			return 0
		}
		_ = response.Body.Close() // only the code counts
		return response.StatusCode
	}
	for header, want := range map[string]int{"": 200, "Bearer": 401, "Bearer x": 401, "Basic YTpi": 401} {
		if code := get(header); code != want {
			t.Errorf("%q: code %d, want %d", header, code, want)
		}
	}
	certificate, key, err := other.Client(admin)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	transport := client.Transport.(*http.Transport)
	transport.CloseIdleConnections()
	transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	if code := get(""); code == http.StatusOK {
		t.Error("a certificate of another authority was taken")
	}
}

func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenAuthority(dir)
	if err != nil || !slices.Equal(first.PEM(), second.PEM()) {
		t.Errorf("the authority changed: %v", err)
	}
	for _, name := range []string{"ca.crt", "ca.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "ca.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a readable key was taken: %v", err)
	}
}

func TestTokensAreHashedAndRevoked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	tokens, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Issue(reader)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), token) {
		t.Errorf("the file holds the token itself: %v", err)
	}
	again, err := OpenTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	if user, ok := again.User(token); !ok || user.Name != "rita" {
		t.Errorf("user %v, %v", user, ok)
	}
	if n, err := again.Revoke("rita"); n != 1 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	if _, ok := again.User(token); ok {
		t.Error("a revoked token was taken")
	}
}

func TestRoles(t *testing.T) {
	nobody := core.User{Name: "x", Groups: []string{core.GroupAuthenticated}}
	anyone := core.User{Name: core.UserAnonymous, Groups: []string{core.GroupUnauthenticated}}
	of := func(verb, group, resource, sub, ns string) *authorizationv1.ResourceAttributes {
		return &authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Subresource: sub, Namespace: ns}
	}
	for _, c := range []struct {
		user core.User
		a    *authorizationv1.ResourceAttributes
		want string
	}{
		{admin, of("delete", "", "secrets", "", "default"), ""},
		{reader, of("list", "", "pods", "", "default"), ""},
		{reader, of("get", "", "pods", "log", "default"), ""},
		{reader, of("get", "", "pods", "exec", "default"), `pods is forbidden: User "rita" cannot get resource "pods/exec" in API group "" in the namespace "default"`},
		{reader, of("watch", "", "secrets", "", ""), `secrets is forbidden: User "rita" cannot watch resource "secrets" in API group "" at the cluster scope`},
		{reader, of("get", "*", "*", "", ""), `*.* is forbidden: User "rita" cannot get resource "*" in API group "*" at the cluster scope`},
		{reader, of("create", "apps", "deployments", "", "a"), `deployments.apps is forbidden: User "rita" cannot create resource "deployments" in API group "apps" in the namespace "a"`},
		{nobody, of("list", "", "pods", "", "default"), `pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default"`},
		{nobody, of("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", ""), ""},
		{anyone, of("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", ""), `selfsubjectaccessreviews.authorization.k8s.io is forbidden: User "system:anonymous" cannot create resource "selfsubjectaccessreviews" in API group "authorization.k8s.io" at the cluster scope`},
	} {
		err := Roles{}.Authorize(c.user, c.a, nil)
		if c.want == "" && err != nil || c.want != "" && (!apierrors.IsForbidden(err) || err.Error() != c.want) {
			t.Errorf("%s %v: got %v, want %q", c.user.Name, c.a, err, c.want)
		}
	}
	for _, c := range []struct {
		user       core.User
		verb, path string
		ok         bool
	}{
		{nobody, "get", "/version", true},
		{anyone, "get", "/version", true},
		{anyone, "get", "/readyz", true},
		{anyone, "get", "/readyz/x", false},
		{anyone, "post", "/readyz", false},
		{anyone, "get", "/", false},
		{anyone, "get", "/api", false},
		{anyone, "get", "/metrics", false},
		{nobody, "get", "/openapi/v3/api/v1", true},
		{nobody, "get", "/apisecret", false},
		{nobody, "get", "/weft/v1/blobs", false},
		{reader, "get", "/weft/v1/blobs", true},
		{reader, "post", "/weft/v1/plan", true},
		{reader, "put", "/weft/v1/blobs", false},
		{admin, "put", "/weft/v1/blobs", true},
	} {
		err := Roles{}.Authorize(c.user, nil, &authorizationv1.NonResourceAttributes{Verb: c.verb, Path: c.path})
		if (err == nil) != c.ok || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("%s %s %s: %v", c.user.Name, c.verb, c.path, err)
		}
	}
}

func FuzzParseTokens(f *testing.F) {
	f.Add([]byte(`[{"hash":"00","user":"a"}]`))
	f.Add([]byte(`[]x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		known, err := parseTokens(data)
		for _, k := range known {
			if err == nil && k.User == "" {
				t.Error("a token of nobody was taken")
			}
		}
	})
}

// TestForwarded: what a core forwards is done as the user that it names; from
// anyone else the headers mean nothing.
func TestForwarded(t *testing.T) {
	ca, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := whoami(t, ca, nil)
	ask := func(user core.User, headers http.Header) string {
		certificate, key, err := ca.Client(user)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}}}}
		defer client.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = headers
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }() // only read
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(body))
	}
	aCore := core.User{Name: "system:weft:core", Groups: []string{core.GroupCores}}
	for _, c := range []struct {
		name    string
		user    core.User
		headers http.Header
		want    string
	}{
		{"a core", aCore, http.Header{core.HeaderRemoteUser: {"rita"}, core.HeaderRemoteGroup: {"weft:readers", "b"}}, "rita weft:readers,b,system:authenticated"},
		{"a core for nobody", aCore, nil, "authenticate: a core forwards a request and names 0 users, not one"},
		{"a core for two", aCore, http.Header{core.HeaderRemoteUser: {"a", "b"}}, "authenticate: a core forwards a request and names 2 users, not one"},
		{"a core with a wrong token", aCore, http.Header{"Authorization": {"Bearer x"}, core.HeaderRemoteUser: {"a"}}, "authenticate: the bearer token is not valid"},
		{"anyone else", reader, http.Header{core.HeaderRemoteUser: {"admin"}, core.HeaderRemoteGroup: {core.GroupAdmins}}, "rita weft:readers,system:authenticated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ask(c.user, c.headers); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestValidAt: a certificate that the clock stands outside of is named with the
// clock, whichever of the two is wrong.
func TestValidAt(t *testing.T) {
	a, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		by   time.Duration
		want []string
	}{
		"now":              {0, nil},
		"a day back":       {-24 * time.Hour, []string{"ca.crt is valid from", "this machine's clock says", "set the clock"}},
		"eleven years on":  {11 * 365 * 24 * time.Hour, []string{"ca.crt expired at", "this machine's clock says", "set the clock if that is wrong"}},
		"an hour back":     {-time.Hour, []string{"set the clock"}},
		"nine years ahead": {9 * 365 * 24 * time.Hour, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := validAt(a.certificate, time.Now().Add(tt.by))
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}
