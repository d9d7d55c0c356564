package feed_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/embedded"
)

func onEmbedded(t testing.TB) (*fixture, *embedded.Server) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Unsynced: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	b, err := server.Connect(t.Context(), theCore)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the server is closed next
	return start(t, b), server
}

// TestPlainClient is a tool that knows nothing of Weft but its documentation.
func TestPlainClient(t *testing.T) {
	f, server := onEmbedded(t)
	creds, err := server.Authority().Issue(observer)
	f.must(err)
	nc, err := natsgo.Connect(server.ClientURL(), natsgo.UserCredentialBytes(creds), natsgo.CustomInboxPrefix("_INBOX.observer.tool"))
	f.must(err)
	defer nc.Close()
	sub, err := nc.SubscribeSync("weft.v1.event.core.configmaps.>")
	f.must(err)
	request := func(method, body string) *natsgo.Msg {
		t.Helper()
		for range 50 { // until the feed serves
			m, err := nc.Request("weft.v1.api.observer.tool."+method, []byte(body), 5*time.Second)
			if err == nil {
				return m
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("%s is not answered", method)
		return nil
	}
	var page listed
	f.must(json.Unmarshal(request("list", `{"resource":"configmaps"}`).Data, &page))
	f.create(configMap("a", "m", "1"))
	f.set("a", "m", "2")
	next := func(bookmark bool) *natsgo.Msg {
		t.Helper()
		for {
			m, err := sub.NextMsg(15 * time.Second)
			f.must(err)
			if strings.HasSuffix(m.Subject, "._bookmark") == bookmark {
				return m
			}
		}
	}
	for _, want := range []string{"ADDED", "MODIFIED"} {
		m := next(false)
		if m.Subject != bus.EventSubject("", "configmaps", "a", "m") || !strings.Contains(string(m.Data), `"data":{"type":"`+want) {
			t.Errorf("%s: %s", m.Subject, m.Data)
		}
	}
	m := next(true)
	if m.Subject != bus.BookmarkSubject("", "configmaps", "a") {
		t.Errorf("%s: %s", m.Subject, m.Data)
	}
	var r resumed
	f.must(json.Unmarshal(request("resume", `{"resource":"configmaps","from":"`+page.Revision+`"}`).Data, &r))
	if len(r.Events) != 2 || r.More || r.Events[1].configMap(t).Data["v"] != "2" {
		t.Errorf("%+v", r)
	}
	m = request("resume", `{"resource":"configmaps","from":"99999999999"}`)
	if m.Header.Get("Weft-Error") != "1" || !strings.Contains(string(m.Data), `"code":410`) {
		t.Errorf("%v %s", m.Header, m.Data)
	}
}
