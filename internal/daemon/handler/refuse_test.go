package handler_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/daemon/handler"
)

// What makes no sense is refused before anything is looked at: the handler has
// nothing to look at.
func TestRefused(t *testing.T) {
	mux := (&handler.Handler{Log: slog.New(slog.DiscardHandler)}).Mux()
	for _, c := range []struct{ op, body, want string }{
		{api.BundleShow, `{"dir":"relative"}`, "not absolute"},
		{api.BundleBuild, `{"dir":"../up"}`, "not absolute"},
		{api.BundleVerify, `{"dir":"."}`, "not absolute"},
		{api.VMExec, `{"vm":"h","argv":["a\u0000"]}`, "NUL"},
		{api.VMExec, `{"vm":"h","tty":true,"rows":-1}`, "no terminal"},
		{api.VMExec, `{"vm":"h","tty":true,"cols":65536}`, "no terminal"},
		{api.VMExec, `{"vm":"h","argv":null}`, "null"},
		{api.VMExec, `{"vm":"h","argv":["ls",null]}`, "null"},
		{api.VMExec, `{"vm":"h","argv":["ls",{"base64":"*"}]}`, "base64"},
		{api.VMExec, `{"vm":"h","argv":["ls",{"base64":"YQBi"}]}`, "NUL"},
		{api.VMExec, `{"vm":"h","tty":null}`, `field \"tty\": null`},
		{api.VMDelete, `{"vm":"h","force":null}`, `field \"force\": null`},
		{api.VMCreate, `{"no_start":null}`, `field \"no_start\": null`},
		{api.DaemonStop, `{"replace":null}`, `field \"replace\": null`},
		{api.VMStop, `{"vm":"h","timeout_seconds":-1}`, "timeout"},
		{api.VMShow, `null`, "not a JSON object"},
	} {
		r := httptest.NewRequest(http.MethodPost, api.Prefix+c.op, strings.NewReader(c.body))
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", api.StreamProtocol)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s", c.op, c.body, w.Code, w.Body)
		}
	}
}
