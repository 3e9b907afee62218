package handler

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/guest"
	"banger/internal/guestapi"
	"banger/internal/op"
	"banger/internal/vm"
)

func (h *Handler) cancelOp(_ context.Context, req api.OpRequest) (none, error) {
	return none{}, h.Ops.Cancel(req.Op)
}

// listOps answers a list, also when nothing is under way: never null.
func (h *Handler) listOps(context.Context, none) ([]op.Info, error) {
	return append([]op.Info{}, h.Ops.List()...), nil
}

// events streams an operation's events from a number on, until it has ended.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	from := 0
	if s := r.URL.Query().Get("from"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			h.fail(w, r, banger.Errorf(banger.Invalid, "from=%q is not a number", s))
			return
		}
		from = n
	}
	var out *api.EventWriter
	for e, err := range h.Ops.Events(r.Context(), r.PathValue("id"), from) {
		if err != nil && out == nil {
			h.fail(w, r, err)
			return
		}
		if err != nil {
			return // the client is gone
		}
		if out == nil {
			if out, err = api.NewEventWriter(w); err != nil {
				return
			}
		}
		if out.Write(e) != nil {
			return
		}
	}
}

// exec joins the client's framed streams to a channel of the VM's connection.
// What is wrong before the command starts is an ordinary answer.
func (h *Handler) exec(w http.ResponseWriter, r *http.Request) {
	var req api.ExecRequest
	err := api.Decode(r, &req)
	if err == nil {
		err = api.WantsUpgrade(r, api.StreamProtocol)
	}
	cmd := guestapi.Exec{Argv: req.Argv, Env: req.Env, Dir: req.Dir, User: req.User}
	if err == nil {
		err = vm.CheckExec(cmd)
	}
	if err == nil {
		err = checkTerminal(req)
	}
	h.session(w, r, api.VMExec, req.VM, err, func(ctx context.Context, s api.ExecStreams) (guest.Exit, error) {
		return h.VMs.Exec(ctx, req.VM, cmd, guestStreams(ctx, req, s))
	})
}

// copy is exec for files.
func (h *Handler) copy(w http.ResponseWriter, r *http.Request) {
	var req api.CopyRequest
	err := api.Decode(r, &req)
	if err == nil {
		err = api.WantsUpgrade(r, api.StreamProtocol)
	}
	c := guestapi.Copy{Path: req.Path, Out: req.Out, Name: req.Name, Archive: req.Archive}
	if err == nil {
		err = vm.CheckCopy(c)
	}
	h.session(w, r, api.VMCopy, req.VM, err, func(ctx context.Context, s api.ExecStreams) (guest.Exit, error) {
		g := guest.Streams{Stdout: s.Stdout, Stderr: s.Stderr}
		if !c.Out {
			g.Stdin = s.Stdin
		}
		return h.VMs.Copy(ctx, req.VM, c, g)
	})
}

// session refuses a request that is wrong (err), or whose VM cannot be reached,
// by an ordinary answer, and then joins the client's streams to run's.
func (h *Handler) session(w http.ResponseWriter, r *http.Request, op, ref string, err error, run func(context.Context, api.ExecStreams) (guest.Exit, error)) {
	var name string
	if err == nil {
		name, err = h.VMs.Reachable(r.Context(), ref)
	}
	var leave func()
	if err == nil {
		leave, err = h.Ops.Attach(op, name)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer leave()
	// Hijacked connections do not end r's context; ServeExec sees the client go.
	ctx := context.WithoutCancel(r.Context())
	conn, err := api.Upgrade(w, r, api.StreamProtocol)
	if err != nil {
		return
	}
	err = api.ServeExec(ctx, conn, func(ctx context.Context, s api.ExecStreams) (api.ExecExit, error) {
		ctx, cancel := h.untilEnding(ctx)
		defer cancel(nil)
		exit, err := run(ctx, s)
		return api.ExecExit{Code: exit.Code, Signal: exit.Signal}, err
	})
	if err != nil {
		h.Log.Debug("client of a stream is gone", "path", r.URL.Path, "vm", ref, "err", err)
	}
}

// errEnding is what the client of a command or a copy is told when the daemon ends.
var errEnding = &banger.Error{
	Code: banger.Lost, Message: "bangerd was told to end",
	Remedy: "what went through it was cut off (a command by SIGHUP), the VM goes on: banger ps",
}

// untilEnding is ctx until the daemon ends. That ends a session and leaves its
// connection open, so that its client can be told why.
func (h *Handler) untilEnding(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-h.Ops.Ending():
			cancel(errEnding)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// maxSide bounds a terminal's rows and columns: a guest keeps them in 16 bits.
const maxSide = 1<<16 - 1

func checkTerminal(req api.ExecRequest) error {
	if req.Rows < 0 || req.Cols < 0 || req.Rows > maxSide || req.Cols > maxSide {
		return banger.Errorf(banger.Invalid, "no terminal has %d rows of %d columns", req.Rows, req.Cols)
	}
	return nil
}

func guestStreams(ctx context.Context, req api.ExecRequest, s api.ExecStreams) guest.Streams {
	g := guest.Streams{Stdout: s.Stdout, Stderr: s.Stderr, Signals: s.Signals}
	if req.Stdin {
		g.Stdin = s.Stdin
	}
	if req.TTY {
		g.TTY = &guest.PTY{Term: req.Term, Rows: req.Rows, Cols: req.Cols}
		sizes := make(chan guest.Size)
		g.Resize = sizes
		go func() {
			for {
				select {
				case r := <-s.Resize:
					select {
					case sizes <- guest.Size{Rows: r.Rows, Cols: r.Cols}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return g
}

// followEvery is how often a log that is followed is looked at, only while a
// client follows it.
const followEvery = 200 * time.Millisecond

// logs streams a VM's log. One that was cut meanwhile is read from its new start.
func (h *Handler) logs(w http.ResponseWriter, r *http.Request) {
	var req api.LogsRequest
	err := api.Decode(r, &req)
	var path string
	if err == nil {
		path, err = h.logPath(r.Context(), req)
	}
	var leave func()
	if err == nil {
		leave, err = h.Ops.Attach(api.VMLogs, req.VM)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer leave()
	f, err := vm.OpenLog(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = banger.Errorf(banger.NotFound, "no %s log yet: %s was never started", req.Which, req.VM).WithRemedy("banger start %s", req.VM)
		}
		h.fail(w, r, err)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	h.copyLog(r.Context(), w, f, req.Follow)
}

func (h *Handler) logPath(ctx context.Context, req api.LogsRequest) (string, error) {
	v, err := h.VMs.Show(ctx, req.VM)
	if err != nil {
		return "", err
	}
	switch req.Which {
	case "serial", "":
		return v.SerialLog, nil
	case "vmm":
		return v.VMMLog, nil
	}
	return "", banger.Errorf(banger.Invalid, "no log %q", req.Which).WithRemedy("ask for serial or vmm")
}

func (h *Handler) copyLog(ctx context.Context, w http.ResponseWriter, f *os.File, follow bool) {
	flush := http.NewResponseController(w)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for at := int64(0); ; {
		n, err := io.Copy(w, f)
		at += n
		if err != nil || !follow {
			return
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-h.Ops.Ending():
			panic(http.ErrAbortHandler) // what was not the log's end is not to look like it
		}
		if st, err := f.Stat(); err == nil && st.Size() < at {
			at, _ = f.Seek(0, io.SeekStart)
		}
	}
}
