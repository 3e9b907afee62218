package vmcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"
	"banger/internal/cli/sshexec"
	"banger/internal/cli/streams"
	"banger/internal/cli/vmcmd"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeDaemon speaks the API and keeps what it was asked. An operation ends as
// its handler says, at once unless it waits for something.
type fakeDaemon struct {
	t      *testing.T
	socket string

	mu      sync.Mutex
	asked   []string // "vm.stop {json}", in order
	answers map[string]any
	ops     map[string]chan banger.Event
	exec    func(context.Context, api.ExecRequest, api.ExecStreams) (api.ExecExit, error)
	copy    func(context.Context, api.CopyRequest, api.ExecStreams) (api.ExecExit, error)
}

// An operation is an answer that comes as events. With wait it does not end
// before it is cancelled.
type operation struct {
	events []banger.Event
	result banger.VM
	err    *banger.Error
	wait   bool
}

func newFakeDaemon(t *testing.T, answers map[string]any) *fakeDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "bv") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDaemon{t: t, socket: filepath.Join(dir, "s"), answers: answers, ops: map[string]chan banger.Event{}}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
		os.RemoveAll(dir)
	})
	return d
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := strings.TrimPrefix(r.URL.Path, api.Prefix)
	if id, ok := strings.CutPrefix(op, "op/"); ok {
		d.events(w, strings.TrimSuffix(id, "/events"))
		return
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(r.Body); err != nil {
		api.WriteError(w, err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, op+" "+body.String())
	if op == api.OpCancel {
		var req api.OpRequest
		_ = json.Unmarshal(body.Bytes(), &req)
		d.ops[req.Op] <- banger.Event{Type: banger.EventFailed, Error: banger.Errorf(banger.Canceled, "canceled")}
		api.WriteJSON(w, struct{}{})
		return
	}
	if (op == api.VMExec || op == api.VMConsole) && d.exec != nil {
		d.serveExec(w, r, body.Bytes())
		return
	}
	if op == api.VMCopy && d.copy != nil {
		d.serveCopy(w, r, body.Bytes())
		return
	}
	switch a := d.answers[op].(type) {
	case nil:
		api.WriteError(w, banger.Errorf(banger.NotFound, "no answer to %s", op))
	case error:
		api.WriteError(w, a)
	case operation:
		api.WriteJSON(w, api.OpStarted{Op: d.begin(a)})
	default:
		api.WriteJSON(w, a)
	}
}

// answer changes what op is answered with.
func (d *fakeDaemon) answer(op string, with any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[op] = with
}

func (d *fakeDaemon) begin(o operation) string {
	id := fmt.Sprintf("op%d", len(d.ops))
	ch := make(chan banger.Event, len(o.events)+2)
	d.ops[id] = ch
	for _, e := range o.events {
		ch <- e
	}
	switch {
	case o.wait:
	case o.err != nil:
		ch <- banger.Event{Type: banger.EventFailed, Error: o.err}
	default:
		ch <- banger.Event{Type: banger.EventDone, Result: o.result}
	}
	return id
}

func (d *fakeDaemon) events(w http.ResponseWriter, id string) {
	d.mu.Lock()
	ch := d.ops[id]
	d.mu.Unlock()
	w.Header().Set("Content-Type", api.NDJSON)
	enc := json.NewEncoder(w)
	for n := 0; ; n++ {
		e := <-ch
		e.N = n
		if enc.Encode(e) != nil || e.Type == banger.EventDone || e.Type == banger.EventFailed {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

func (d *fakeDaemon) serveExec(w http.ResponseWriter, r *http.Request, body []byte) {
	var req api.ExecRequest
	if err := json.Unmarshal(body, &req); err != nil {
		api.WriteError(w, err)
		return
	}
	conn, err := api.Upgrade(w, r, api.StreamProtocol)
	if err != nil {
		return
	}
	d.stream(conn, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) { return d.exec(ctx, req, s) })
}

func (d *fakeDaemon) serveCopy(w http.ResponseWriter, r *http.Request, body []byte) {
	var req api.CopyRequest
	if err := json.Unmarshal(body, &req); err != nil {
		api.WriteError(w, err)
		return
	}
	conn, err := api.Upgrade(w, r, api.StreamProtocol)
	if err != nil {
		return
	}
	d.stream(conn, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) { return d.copy(ctx, req, s) })
}

// stream serves an upgraded connection; others are served meanwhile.
func (d *fakeDaemon) stream(conn net.Conn, run func(context.Context, api.ExecStreams) (api.ExecExit, error)) {
	d.mu.Unlock()
	defer d.mu.Lock()
	_ = api.ServeExec(context.Background(), conn, run)
}

// requests are the operations that were asked for, one a line.
func (d *fakeDaemon) requests() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.asked, "\n")
}

// A session is one command line against a fake daemon.
type session struct {
	*fakeDaemon
	io       *streams.Streams
	in       *bytes.Buffer
	out, err *bytes.Buffer
	ssh      []string

	startRoot   func(ctx context.Context, why string) error
	tryRoot     func(ctx context.Context, why string) error
	mayHaveRoot bool
}

func newSession(t *testing.T, answers map[string]any) *session {
	t.Helper()
	s := &session{fakeDaemon: newFakeDaemon(t, answers)}
	s.io, s.in, s.out, s.err = streams.Test()
	return s
}

// run runs a command line below banger, such as "vm stop web".
func (s *session) run(ctx context.Context, args ...string) error {
	connect := func(context.Context) (vmcmd.Client, error) { return client.New(s.socket), nil }
	e := vmcmd.Env{
		IO: s.io, Connect: connect, Find: connect, StartRoot: s.startRoot, TryRoot: s.tryRoot, MayHaveRoot: func() bool { return s.mayHaveRoot },
		Report: func(e banger.Event) {
			if e.Type == banger.EventStepDone {
				s.io.Note("%s", e.Step)
			}
		},
		SSH: func(t sshexec.Target, command []string) (err error) {
			s.ssh, err = sshexec.Args(t, command)
			return err
		},
	}
	root := &cobra.Command{Use: "banger", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(vmcmd.New(e))
	root.AddCommand(vmcmd.ShortCuts(e)...)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	s.io.Progress().Close()
	return err
}

var web = banger.VM{
	ID: "0a1b2c3d", State: banger.StateRunning, Ready: true,
	Spec: banger.Spec{Name: "web", Image: "debian-12", CPUs: 2, Memory: 1 << 30, Disk: 10 << 30},
}

// named is web under another name.
func named(name string, state banger.State) banger.VM {
	vm := web
	vm.Name, vm.State = name, state
	return vm
}
