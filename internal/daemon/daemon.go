// Package daemon is bangerd: it wires the packages together, listens,
// reconciles and shuts down. It has no logic of its own.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/api"
	"banger/internal/config"
	"banger/internal/daemon/handler"
	"banger/internal/host"
	"banger/internal/image"
	"banger/internal/layout"
	"banger/internal/network"
	"banger/internal/network/routed"
	"banger/internal/network/usernet"
	"banger/internal/op"
	"banger/internal/storage"
	"banger/internal/storage/dmsnap"
	"banger/internal/store"
	"banger/internal/version"
	"banger/internal/vm"
	"banger/internal/vmm"
)

// How long the daemon waits for operations that are under way when it is told
// to end, and how often it looks after logs and its socket.
const (
	drainLimit   = 30 * time.Second
	flushLimit   = time.Second
	housekeeping = 5 * time.Second
	ownLogMax    = 16 << 20 // bytes
)

// Main, without arguments, runs the daemon until it is told to end, and returns its exit code:
// 0, or that of the error's code. Errors before the log is open go to stderr as well.
func Main(args []string, stdout, stderr io.Writer) int {
	if slices.Equal(args, []string{"--version"}) {
		fmt.Fprintln(stdout, "bangerd", version.Build())
		return 0
	}
	if len(args) > 0 { // somebody means something else than to start it
		fmt.Fprintf(stderr, "bangerd: it takes no arguments, not %q\n  use banger daemon\n", args)
		return banger.Invalid.Exit()
	}
	// A terminal that closes, or a Ctrl-C in it, is not meant for a daemon.
	signal.Ignore(unix.SIGHUP)
	unix.Umask(0o077)
	d := &daemon{started: time.Now()}
	if err := d.run(context.Background()); err != nil {
		e := banger.AsError(err)
		fmt.Fprintf(stderr, "bangerd: %s\n", e.Message)
		if e.Remedy != "" {
			fmt.Fprintf(stderr, "  %s\n", e.Remedy)
		}
		return e.Code.Exit()
	}
	return 0
}

// A daemon is one run of bangerd.
type daemon struct {
	layout    layout.Layout
	config    config.Config
	log       *slog.Logger
	tag       string
	subnet    atomic.Pointer[network.Subnet]
	routed    *routed.Attacher
	started   time.Time
	store     *store.Store
	ops       *op.Manager
	vms       *vm.Manager
	watcher   *host.Watcher
	backends  []vmm.Backend
	disks     []storage.Strategy
	snapshots *dmsnap.Strategy // one of disks
	startRoot string           // the command by which this user starts banger-root
	usernet   *usernet.Attacher
	served    atomic.Pointer[netip.AddrPort]   // where names are; nil: nowhere
	owners    func(banger.Lease) *banger.Owner // of a VM with that lease; nil: our own user
	images    *image.Catalog
	scopes    *scoper
	bundles   bundles
	ssh       *sshHosts
	names     *names

	stopOnce sync.Once
	stopping chan struct{} // closed when somebody asked the daemon to end
}

func (d *daemon) run(ctx context.Context) (err error) {
	d.stopping = make(chan struct{})
	if d.layout, err = layout.Resolve(os.Getenv, os.Geteuid()); err != nil {
		return err
	}
	if err := d.layout.Prepare(); err != nil {
		return err
	}
	lock, err := takeLock(d.layout.Lock())
	if err != nil {
		return err
	}
	defer lock.Close()
	if d.config, err = config.Load(d.layout, os.Getenv); err != nil {
		return err
	}
	closeLog, err := d.openLog()
	if err != nil {
		return err
	}
	defer closeLog()
	d.log.Info("bangerd starts", "build", version.Build(), "pid", os.Getpid(), "state", d.layout.State, "run", d.layout.Run)
	if err := d.serve(ctx, lock); err != nil {
		d.log.Error("bangerd ends", "err", err)
		return err
	}
	d.log.Info("bangerd ends")
	return nil
}

// serve wires, reconciles, listens, and returns when the daemon is to end.
func (d *daemon) serve(ctx context.Context, lock *os.File) (err error) {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	closeParts, err := d.wire(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeParts()) }()
	defer func() { err = errors.Join(err, d.names.close()) }()
	if err := d.vms.Reconcile(ctx); err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	if err := d.images.Collect(ctx); err != nil {
		d.log.Warn("remove images that nobody uses", "err", err)
	}
	d.ssh.write(ctx)
	d.serveNames(ctx)
	sock, err := listenPatiently(d.layout.Socket())
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           d.handler().Mux(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelWarn),
	}
	srv.RegisterOnShutdown(d.vms.EndEvents) // who follows them is not waited for
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(sock) }()
	if err := d.announce(lock); err != nil {
		return errors.Join(err, srv.Close())
	}
	d.tend(ctx)
	tick, look := time.NewTicker(housekeeping), time.NewTicker(lookAtLock)
	defer tick.Stop()
	defer look.Stop()
	for {
		if p := placeOf(lock, d.layout.Lock()); p != atHome {
			return d.leave(srv, p)
		}
		select {
		case <-look.C:
			continue
		case <-tick.C:
			d.vms.CutLogs()
			if err := host.CutLog(d.layout.DaemonLog(), ownLogMax); err != nil {
				d.log.Warn("cut the daemon's log", "err", err)
			}
			if err := d.routed.Tend(ctx); err != nil {
				d.log.Warn("look after the host's network", "err", err)
			}
			d.tend(ctx)
			if err := sock.mend(d.layout.Prepare); err != nil {
				d.log.Warn("make the socket again", "err", err)
			}
			continue
		case err := <-failed:
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
		case <-d.stopping:
		}
		limit, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		return d.end(limit, srv)
	}
}

// tend has banger-root remove what disks have left on the host.
func (d *daemon) tend(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, housekeeping)
	defer cancel()
	if err := d.snapshots.Tend(ctx); err != nil {
		d.log.Warn("remove what disks have left", "err", err)
	}
}

// end lets what is under way finish until ctx ends, and refuses the rest.
func (d *daemon) end(ctx context.Context, srv *http.Server) error {
	// Those who only wait, perhaps without a limit, are told at once.
	for _, o := range d.ops.List() {
		if isChange(o) {
			continue
		}
		if err := d.ops.Cancel(o.ID); err != nil {
			d.log.Warn("end a wait", "err", err)
		}
	}
	if err := d.ops.Drain(ctx); err != nil {
		d.log.Warn("operations were ended", "err", err)
	}
	// Those whose streams (exec, logs -f) go through us are told, their guests'
	// commands end by SIGHUP, and answers under way are let out. A client that
	// takes nothing is not waited for.
	flush, stop := context.WithTimeout(context.Background(), flushLimit)
	defer stop()
	if err := d.ops.EndStreams(flush); err != nil {
		d.log.Warn("end streams", "err", err)
	}
	if err := srv.Shutdown(flush); err != nil {
		return srv.Close()
	}
	return nil
}

func (d *daemon) handler() *handler.Handler {
	return &handler.Handler{VMs: d.vms, Ops: d.ops, Images: d.images, Bundles: d.bundles, Daemon: d, SSH: d.ssh, Log: d.log}
}

// Stop implements handler.Daemon.
func (d *daemon) Stop(replace bool) error {
	if replace {
		if busy := d.ops.Seal(isChange); len(busy) > 0 {
			return banger.Errorf(banger.Busy, "bangerd is busy: %s %s, %d in all", busy[0].Kind, busy[0].Subject, len(busy)).
				WithRemedy("wait until they are done, or end them: banger daemon restart")
		}
	}
	d.stopOnce.Do(func() { close(d.stopping) })
	return nil
}

// isChange says of what is under way whether it has something to lose: one that
// only waits has not, and would never end by itself once its client was killed;
// nor has a console, whose client goes on with the next daemon.
func isChange(i op.Info) bool { return i.Kind != api.VMWait && i.Kind != api.VMConsole }

// Status implements handler.Daemon.
func (d *daemon) Status(ctx context.Context) (api.Status, error) {
	vms, err := d.vms.List(ctx)
	if err != nil {
		return api.Status{}, err
	}
	running := 0
	for _, v := range vms {
		if v.PID != 0 {
			running++
		}
	}
	ops, streams := d.ops.List(), d.ops.Streams()
	underWay := []string{}
	for _, i := range slices.Concat(ops, streams) {
		underWay = append(underWay, strings.TrimSpace(i.Kind+" "+i.Subject))
	}
	pending, err := d.snapshots.Pending(ctx)
	if err != nil {
		return api.Status{}, err
	}
	return api.Status{
		PID: os.Getpid(), Build: version.Build(), API: api.Version,
		Socket: d.layout.Socket(), StateDir: d.layout.State, RunDir: d.layout.Run, Log: d.layout.DaemonLog(),
		Tag: d.tag, Subnet: d.net().Prefix.String(), VMs: len(vms), Running: running,
		Ops: len(ops), Streams: len(streams), UnderWay: underWay, Pending: append([]string{}, pending...),
		StartedAt: d.started.UTC().Format(time.RFC3339), DNS: d.names.info(),
	}, nil
}

func (d *daemon) openLog() (func() error, error) {
	f, err := os.OpenFile(d.layout.DaemonLog(), os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	d.log = slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: d.config.LogLevel}))
	return f.Close, nil
}
