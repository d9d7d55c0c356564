package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// maxGrowth is how much memory of the cluster's first process all that is
// thrown at it here may cost, in bytes.
const maxGrowth = 300 << 20

// maxMessage is the longest answer to a refused request, in bytes.
const maxMessage = 16 << 10

// hostile sends what no client should. Every answer must be a Status that says
// what is wrong, over HTTP/1 and HTTP/2, and the server must stay small.
func (c *shared) hostile(t *testing.T) {
	t.Parallel()
	c.weft(t, "create", "namespace", "hostile")
	c.weft(t, "-n", "hostile", "create", "configmap", "victim", "--from-literal=a=b")
	before := c.memory(t)
	t.Run("bodies", c.hostileBodies)
	t.Run("requests", c.hostileRequests)
	t.Run("endless", c.endless)
	t.Run("strangers", c.strangers)
	t.Run("crowd", c.crowd)
	if grown := c.memory(t) - before; grown > maxGrowth {
		t.Errorf("the cluster's process has grown by %d MiB", grown>>20)
	}
	if out := c.weft(t, "-n", "hostile", "get", "configmap", "victim", "-o", "jsonpath={.data}"); out != `{"a":"b"}` {
		t.Errorf("the victim has become %s", out)
	}
}

// memory is what the first process of the cluster occupies, in bytes.
func (c *shared) memory(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		t.Skipf("memory cannot be read here: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatal("no VmRSS in the status of the process")
	return 0
}

// client speaks one version of HTTP as one of the cluster's users.
func (c *shared) client(t *testing.T, kubeconfig string, http2 bool) (*http.Client, string) {
	t.Helper()
	config := c.config(t, kubeconfig)
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{TLSClientConfig: tlsConfig, Protocols: protocols, MaxIdleConnsPerHost: 10}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}, config.Host
}

// attack is a request that must be refused.
type attack struct {
	method, path, contentType string
	body                      func() io.Reader // nil for none
	code                      int
	message                   string // that the Status must contain
}

const (
	maps   = "/api/v1/namespaces/hostile/configmaps"
	victim = maps + "/victim"
)

func text(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }

// large is JSON of a size in MiB.
func large(mib int) func() io.Reader {
	return func() io.Reader {
		head := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"large"},"data":{"x":"`
		return io.MultiReader(strings.NewReader(head), io.LimitReader(letters{}, int64(mib)<<20), strings.NewReader(`"}}`))
	}
}

// letters reads as x without end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func deep(open, end string) string {
	return strings.Repeat(open, 100_000) + strings.Repeat(end, 100_000)
}

func copyBomb() string {
	var b strings.Builder
	b.WriteString(`[{"op":"add","path":"/data/c0","value":"` + strings.Repeat("x", 1<<16) + `"}`)
	for i := range 500 {
		fmt.Fprintf(&b, `,{"op":"copy","from":"/data","path":"/data/d%d"}`, i)
	}
	return b.String() + "]"
}

func (c *shared) hostileBodies(t *testing.T) {
	const jsonPatch, merge, strategic = "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"
	object := func(rest string) func() io.Reader {
		return text(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"h"` + rest)
	}
	c.refuse(t, map[string]attack{
		"100 MB":                 {"POST", maps, "application/json", large(100), 413, "too large"},
		"100 MB of a patch":      {"PATCH", victim, merge, large(100), 413, "too large"},
		"label of 1 MB":          {"POST", maps, "application/json", object(`,"labels":{"l":"` + strings.Repeat("v", 1<<20) + `"}}}`), 422, "must be no more than 63"},
		"label key of 1 MB":      {"POST", maps, "application/json", object(`,"labels":{"` + strings.Repeat("k", 1<<20) + `":"v"}}}`), 422, "must be no more than"},
		"deep JSON":              {"POST", maps, "application/json", object(`},"data":` + deep(`{"a":`, `}`)), 400, "deep"},
		"deep arrays":            {"POST", maps, "application/json", text(deep("[", "]")), 400, "deep"},
		"deep merge patch":       {"PATCH", victim, merge, text(deep(`{"a":`, `}`)), 400, "deep"},
		"deep strategic patch":   {"PATCH", victim, strategic, text(deep(`{"a":`, `}`)), 400, "deep"},
		"deep JSON patch":        {"PATCH", victim, jsonPatch, text(`[{"op":"add","path":"/data","value":` + deep("[", "]") + `}]`), 400, "deep"},
		"deep apply":             {"PATCH", victim + "?fieldManager=h", "application/apply-patch+yaml", text(deep("[", "]")), 400, "depth"},
		"deep YAML":              {"PATCH", victim + "?fieldManager=h", "application/apply-patch+yaml", text(deepYAML()), 400, "deep"},
		"YAML of laughs":         {"PATCH", victim + "?fieldManager=h", "application/apply-patch+yaml", text(laughs()), 400, ""},
		"copies":                 {"PATCH", victim, jsonPatch, text(copyBomb()), 422, ""},
		"too many operations":    {"PATCH", victim, jsonPatch, text("[" + strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 20_000) + `{}]`), 413, "10000"},
		"no array":               {"PATCH", victim, jsonPatch, text("{}"), 400, "array of operations"},
		"null operation":         {"PATCH", victim, jsonPatch, text("[null]"), 400, "null"},
		"null patch":             {"PATCH", victim, merge, text("null"), 400, ""},
		"bad protobuf":           {"POST", maps, "application/vnd.kubernetes.protobuf", text("k8s\x00\xff\xff\xff\xff\xff\xff\xff\xff"), 400, ""},
		"no protobuf":            {"POST", maps, "application/vnd.kubernetes.protobuf", text("hello"), 400, ""},
		"duplicate key":          {"POST", maps + "?fieldValidation=Strict", "application/json", object(`},"data":{"a":"1","a":"2"}}`), 400, "duplicate field"},
		"unknown field":          {"POST", maps + "?fieldValidation=Strict", "application/json", object(`},"dota":{}}`), 400, `unknown field "dota"`},
		"two documents":          {"POST", maps, "application/json", object(`}}{}`), 400, ""},
		"half a document":        {"POST", maps, "application/json", object(``), 400, ""},
		"nothing":                {"POST", maps, "application/json", text(""), 400, ""},
		"other kind":             {"POST", maps, "application/json", text(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"h"}}`), 400, "ConfigMap"},
		"wrong content type":     {"POST", maps, "text/plain", text("{}"), 415, "application/json"},
		"wrong patch type":       {"PATCH", victim, "application/json", text("{}"), 415, "application/merge-patch+json"},
		"name of 1 MB":           {"POST", maps, "application/json", text(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + strings.Repeat("n", 1<<20) + `"}}`), 422, "must be no more than 253"},
		"name with a path in it": {"POST", maps, "application/json", text(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"../secrets/s"}}`), 422, "metadata.name"},
		"another namespace":      {"POST", maps, "application/json", object(`,"namespace":"default"}}`), 400, "namespace"},
		"data over 1 MiB":        {"POST", maps, "application/json", large(2), 422, "may not be more than 1048576 bytes"},
	})
}

func deepYAML() string {
	var b strings.Builder
	for i := range 1000 {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// laughs doubles by each of its lines.
func laughs() string {
	b := "apiVersion: v1\nkind: ConfigMap\nl0: &l0 [x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 12; i++ {
		b += fmt.Sprintf("l%d: &l%d [%s*l%d]\n", i, i, strings.Repeat(fmt.Sprintf("*l%d,", i-1), 8), i-1)
	}
	return b
}

func (c *shared) hostileRequests(t *testing.T) {
	c.refuse(t, map[string]attack{
		"huge selector":        {"GET", maps + "?labelSelector=" + strings.Repeat("a,", 20_000), "", nil, 414, "longer than"},
		"bad selector":         {"GET", maps + "?labelSelector=" + url.QueryEscape("a b c"), "", nil, 400, "unable to parse"},
		"bad field selector":   {"GET", maps + "?fieldSelector=data.a%3Db", "", nil, 400, "field label not supported"},
		"limit in words":       {"GET", maps + "?limit=ten", "", nil, 400, "limit"},
		"negative limit":       {"GET", maps + "?limit=-1", "", nil, 400, "limit"},
		"absurd continue":      {"GET", maps + "?limit=1&continue=absurd", "", nil, 400, "continue"},
		"absurd revision":      {"GET", maps + "?resourceVersion=absurd", "", nil, 400, "resourceVersion"},
		"revision to come":     {"GET", maps + "?watch=true&resourceVersion=99999999999999&timeoutSeconds=1", "", nil, 504, "Too large resource version"},
		"match without one":    {"GET", maps + "?resourceVersionMatch=Exact", "", nil, 422, "resourceVersionMatch"},
		"unknown subresource":  {"GET", victim + "/entrails", "", nil, 404, ""},
		"unknown resource":     {"GET", "/api/v1/namespaces/hostile/wishes", "", nil, 404, ""},
		"unknown group":        {"GET", "/apis/no.such/v1/wishes", "", nil, 404, ""},
		"path with a slash":    {"GET", maps + "/..%2f..%2fsecrets", "", nil, 404, ""},
		"path with a zero":     {"GET", maps + "/%00", "", nil, 404, ""},
		"log of a map":         {"GET", victim + "/log", "", nil, 404, ""},
		"delete of everything": {"DELETE", "/api/v1/namespaces/hostile", "application/json", text("{"), 400, ""},
		"wrong precondition":   {"DELETE", victim, "application/json", text(`{"preconditions":{"uid":"x"}}`), 409, "UID"},
		"unknown method":       {"BREW", victim, "", nil, 405, ""},
	})
}

// refuse sends each attack over both versions of HTTP.
func (c *shared) refuse(t *testing.T, attacks map[string]attack) {
	t.Helper()
	for _, http2 := range []bool{false, true} {
		client, server := c.client(t, "kubeconfig", http2)
		for name, a := range attacks {
			t.Run(fmt.Sprintf("%s over HTTP/%d", name, map[bool]int{true: 2, false: 1}[http2]), func(t *testing.T) {
				var body io.Reader
				if a.body != nil {
					body = a.body()
				}
				request, err := http.NewRequestWithContext(t.Context(), a.method, server+a.path, body)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", a.contentType)
				response, err := client.Do(request)
				if err != nil {
					t.Fatalf("there is no answer: %.300v", err)
				}
				wantStatus(t, response, a.code, a.message)
			})
		}
	}
}

func wantStatus(t *testing.T, response *http.Response, code int, message string) {
	t.Helper()
	defer func() { _ = response.Body.Close() }() // it was read
	data, err := io.ReadAll(io.LimitReader(response.Body, maxMessage+1))
	if err != nil {
		t.Fatalf("the answer breaks: %v", err)
	}
	if len(data) > maxMessage {
		t.Errorf("the answer is longer than %d bytes: %.300s", maxMessage, data)
		return
	}
	var status metav1.Status
	if err := json.Unmarshal(data, &status); err != nil || status.Kind != "Status" || status.Message == "" {
		t.Errorf("code %d, but no Status with a message: %.300s", response.StatusCode, data)
		return
	}
	if response.StatusCode != code || int(status.Code) != code || !strings.Contains(status.Message, message) {
		t.Errorf("code %d, message %.500q, want %d and %q", response.StatusCode, status.Message, code, message)
	}
}

// endless sends bodies that do not end, or not as announced.
func (c *shared) endless(t *testing.T) {
	tlsConfig, err := rest.TLSConfigFor(c.config(t, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(c.config(t, "kubeconfig").Host, "https://")
	for name, test := range map[string]struct {
		header string
		chunk  string // sent again and again
	}{
		"chunks":    {"Transfer-Encoding: chunked", "10000\r\n" + strings.Repeat("[", 1<<16) + "\r\n"},
		"announced": {"Content-Length: 1099511627776", strings.Repeat(" ", 1<<16)},
	} {
		t.Run(name, func(t *testing.T) {
			dialer := &tls.Dialer{Config: tlsConfig.Clone()}
			conn, err := dialer.DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }() // the server has closed it
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n", maps, test.header); err != nil {
				t.Fatal(err)
			}
			var sending sync.WaitGroup
			sending.Go(func() {
				for sent := 0; sent < 1<<30; sent += len(test.chunk) {
					if _, err := io.WriteString(conn, test.chunk); err != nil {
						return // refused
					}
				}
				t.Error("the server took 1 GiB")
			})
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("there is no answer: %v", err)
			}
			wantStatus(t, response, http.StatusRequestEntityTooLarge, "too large")
			_ = conn.Close() // ends the sending
			sending.Wait()
		})
	}
}

// strangers are refused whoever they say they are.
func (c *shared) strangers(t *testing.T) {
	config := c.config(t, "kubeconfig")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.CAData)
	ask := func(t *testing.T, certificates []tls.Certificate, token string, code int, message string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), "GET", config.Host+"/api/v1/secrets", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", token)
		}
		response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, response, code, message)
	}
	t.Run("nobody", func(t *testing.T) {
		ask(t, nil, "", http.StatusForbidden, `User "system:anonymous" cannot list resource "secrets"`)
	})
	for name, token := range map[string]string{"wrong token": "Bearer " + strings.Repeat("x", 20_000), "basic": "Basic YWRtaW46YWRtaW4="} {
		t.Run(name, func(t *testing.T) { ask(t, nil, token, http.StatusUnauthorized, "Unauthorized") })
	}
	t.Run("other authority", func(t *testing.T) {
		ask(t, []tls.Certificate{forged(t)}, "", http.StatusForbidden, `User "system:anonymous"`) // it counts for nothing
	})
}

// forged is the administrator's certificate but for who signed it.
func forged(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weft-admin", Organization: []string{"system:masters"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	data, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{data}, PrivateKey: key}
}

// crowd holds many watches and many silent connections; others are served.
func (c *shared) crowd(t *testing.T) {
	client, server := c.client(t, "kubeconfig", true)
	client.Timeout = 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var opened sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for range 1000 {
		opened.Go(func() {
			request, err := http.NewRequestWithContext(ctx, "GET", server+maps+"?watch=true", nil)
			if err != nil {
				t.Error(err)
				return
			}
			response, err := client.Do(request)
			if err != nil {
				t.Errorf("watch: %v", err)
				return
			}
			mu.Lock()
			codes[response.StatusCode]++
			mu.Unlock()
			context.AfterFunc(ctx, func() { _ = response.Body.Close() }) // the watch ends here
		})
	}
	address := strings.TrimPrefix(server, "https://")
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // a stranger who does not look
	for range 500 {
		opened.Go(func() {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			if err != nil {
				return // refused: as good as kept waiting
			}
			_, _ = io.WriteString(conn, "GET /api HTTP/1.1\r\nHost: ") // and no more
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		})
	}
	opened.Wait()
	for code := range codes {
		if code != http.StatusOK && code != http.StatusTooManyRequests {
			t.Errorf("watches are answered %v", codes)
		}
	}
	begin := time.Now()
	if out := c.weft(t, "-n", "hostile", "get", "configmap", "victim", "-o", "name"); !strings.Contains(out, "victim") {
		t.Errorf("the victim is gone: %s", out)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a get takes %s", took)
	}
	t.Logf("watches answered: %v", codes)
}
