package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers on a unix socket with mux, and returns a client of it.
func serve(t *testing.T, mux *http.ServeMux) *client.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	served := make(chan struct{})
	go func() {
		srv.Serve(l)
		close(served)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
	})
	return client.New(path)
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCall(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/vm.set", func(w http.ResponseWriter, r *http.Request) {
		var req api.SetRequest
		if err := api.Decode(r, &req); err != nil {
			api.WriteError(w, err)
			return
		}
		if req.Memory.Set || !req.CPUs.Set {
			t.Errorf("request came as %+v", req)
		}
		api.WriteJSON(w, banger.VM{ID: "00000001", Spec: banger.Spec{Name: req.VM, CPUs: req.CPUs.Value}})
	})
	mux.HandleFunc("POST /v1/vm.list", func(w http.ResponseWriter, r *http.Request) {
		if err := api.Decode(r, &struct{}{}); err != nil {
			t.Error(err)
		}
		api.WriteJSON(w, []banger.VM{{ID: "00000001"}, {ID: "00000002"}})
	})
	c := serve(t, mux)
	vm, err := c.SetVM(limited(t), api.SetRequest{VM: "web", CPUs: api.Some(3)})
	if err != nil || vm.Name != "web" || vm.CPUs != 3 {
		t.Errorf("got %+v, %v", vm, err)
	}
	vms, err := c.ListVMs(limited(t))
	if err != nil || len(vms) != 2 {
		t.Errorf("got %+v, %v", vms, err)
	}
}

func TestErrorsComeBackWhole(t *testing.T) {
	want := banger.Errorf(banger.WrongState, "web is running").WithRemedy("banger stop web").WithLog("/log")
	mux := http.NewServeMux()
	fail := func(w http.ResponseWriter, r *http.Request) { api.WriteError(w, want) }
	mux.HandleFunc("POST /v1/vm.show", fail)
	mux.HandleFunc("POST /v1/vm.start", fail)
	mux.HandleFunc("POST /v1/vm.logs", fail)
	mux.HandleFunc("POST /v1/vm.exec", fail)
	c, ctx := serve(t, mux), limited(t)
	_, show := c.ShowVM(ctx, api.VMRequest{VM: "web"})
	_, start := c.StartVM(ctx, api.VMRequest{VM: "web"})
	logs := c.LogsVM(ctx, api.LogsRequest{VM: "web"}, &bytes.Buffer{})
	_, exec := c.ExecVM(ctx, api.ExecRequest{VM: "web"}, api.ExecStreams{})
	for i, err := range []error{show, start, logs, exec} {
		var got *banger.Error
		if !errors.As(err, &got) || *got != *want {
			t.Errorf("%d came back as %#v", i, err)
		}
	}
	if _, err := c.DaemonStatus(ctx); banger.CodeOf(err) != banger.Internal {
		t.Errorf("an answer of something else: %v", err)
	}
}

func TestNoDaemon(t *testing.T) {
	t.Chdir(t.TempDir()) // paths of sockets are short
	l, err := net.Listen("unix", "dead")
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{"dead", "missing", "dead/below"} {
		c := client.New(path)
		_, err := c.DaemonStatus(limited(t))
		if !errors.Is(err, client.ErrNoDaemon) || banger.CodeOf(err) != banger.HostUnready || banger.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := c.ExecVM(limited(t), api.ExecRequest{}, api.ExecStreams{}); !errors.Is(err, client.ErrNoDaemon) {
			t.Errorf("exec at %s: %v", path, err)
		}
	}
}

func TestConnectionBreaks(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/vm.show", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("POST /v1/vm.logs", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half a lo")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	c := serve(t, mux)
	if _, err := c.ShowVM(limited(t), api.VMRequest{}); banger.CodeOf(err) != banger.Lost || errors.Is(err, client.ErrNoDaemon) {
		t.Errorf("show: %v", err)
	}
	var log bytes.Buffer
	err := c.LogsVM(limited(t), api.LogsRequest{}, &log)
	if banger.CodeOf(err) != banger.Lost || log.String() != "half a lo" {
		t.Errorf("logs: %q, %v", &log, err)
	}
}

func TestContext(t *testing.T) {
	mux := http.NewServeMux()
	ctx, cancel := context.WithCancel(limited(t))
	mux.HandleFunc("POST /v1/vm.show", func(_ http.ResponseWriter, r *http.Request) {
		api.Decode(r, &api.VMRequest{}) // only then the server watches the connection
		cancel()
		<-r.Context().Done()
	})
	if _, err := serve(t, mux).ShowVM(ctx, api.VMRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
