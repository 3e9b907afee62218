// Package passt runs passt(1): a VM's network as an unprivileged process of its
// own, to which the VMM is joined by a unix socket. One process per VM, which
// outlives the daemon and is found again by its argv. The package starts, finds
// and ends it, and chooses no port.
package passt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

const (
	tool          = "passt"
	startLimit    = 15 * time.Second // 50 ms on a machine that has nothing else to do
	termLimit     = 2 * time.Second
	maxSocketPath = 107 // sun_path of unix(7), less the final NUL
)

// gatewayMAC is what the gateway's address is on a guest's link. Each VM has a
// link of its own.
const gatewayMAC = "02:67:77:00:00:01"

// A Starter is what this package needs of the host.
type Starter interface {
	host.Runner
	host.Launcher
}

// A Passt starts and finds the processes of one daemon.
type Passt struct {
	host    Starter
	watcher *host.Watcher
	uid     int // of the daemon
}

// New returns the Passt of a daemon that runs as uid.
func New(h Starter, w *host.Watcher, uid int) *Passt { return &Passt{host: h, watcher: w, uid: uid} }

// A Net is what a guest is shown and what leads to it.
type Net struct {
	Addr, Gateway, Resolver netip.Addr
	Bits                    int // of the subnet that all three are in
	Ports                   []banger.Publish
}

// A Place is where a process of one VM has its files, and whose it is.
type Place struct {
	Socket string // where the VMM connects
	Mark   string // is there as long as a process may be: made before it, removed after it
	Log    string // appended to
	Owner  *banger.Owner
}

// argv is passt's command line. Facts, measured with Debian 12's: without -i,
// -M, -a and -g together it refuses a host that has only lo, or no default
// route; --no-map-gw keeps the host's loopback shut; it forwards what is asked
// of the resolver's address even to a resolver on the host's loopback.
func argv(n Net, more ...string) []string {
	a := []string{
		"-f", "-q", "-4", "--no-dhcp", "--no-ra", "--no-dhcpv6", "--no-map-gw",
		"-a", n.Addr.String(), "-n", strconv.Itoa(n.Bits), "-g", n.Gateway.String(),
		"-i", "lo", "-M", gatewayMAC, "--dns-forward", n.Resolver.String(),
	}
	for _, p := range n.Ports {
		option := "-t"
		if p.Proto == banger.UDP {
			option = "-u"
		}
		a = append(a, option, fmt.Sprintf("%s/%d:%d", p.Host.Addr(), p.Host.Port(), p.Guest))
	}
	return append(a, more...)
}

// Probe says whether passt is there and comes up as owner, by letting it: with
// a client that is gone already it ends by itself, whatever becomes of us.
func (p *Passt) Probe(ctx context.Context, n Net, owner *banger.Owner) error {
	if err := p.checkOwner(owner); err != nil {
		return err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[0]), "passt's")
	defer theirs.Close()
	if err := unix.Close(fds[1]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	_, err = p.host.Run(ctx, host.Cmd{Tool: tool, Args: argv(n, "-F", "3"), Dir: "/", Files: []*os.File{theirs}, Owner: owner})
	return err
}

// checkOwner refuses to run it as root, as which it would become nobody.
func (p *Passt) checkOwner(o *banger.Owner) error {
	if p.uid == 0 && (o == nil || o.UID == 0) {
		return banger.Errorf(banger.Internal, "passt never runs as root: the VM has no owner")
	}
	return nil
}

// Start launches a VM's process and returns once its socket listens and all
// ports are bound. ctx bounds the launch alone; a failed Start leaves nothing.
// What an earlier one left is ended first.
func (p *Passt) Start(ctx context.Context, n Net, at Place) (_ *Process, err error) {
	if err := p.checkOwner(at.Owner); err != nil {
		return nil, err
	}
	if len(at.Socket) > maxSocketPath {
		return nil, banger.Errorf(banger.HostUnready, "path of passt's socket is too long (%d bytes, at most %d): %s", len(at.Socket), maxSocketPath, at.Socket).
			WithRemedy("set BANGER_STATE_DIR to a shorter path")
	}
	if err := p.Clear(ctx, at); err != nil {
		return nil, fmt.Errorf("end an earlier passt: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Clear(context.WithoutCancel(ctx), at))
		}
	}()
	if err := makeMark(at); err != nil {
		return nil, err
	}
	said := host.SizeOf(at.Log)
	id, err := p.host.Launch(ctx, host.Cmd{Tool: tool, Args: argv(n, "-1", "-s", at.Socket, "-P", at.Mark), Dir: "/", Owner: at.Owner}, at.Log)
	if err != nil {
		return nil, err
	}
	watch, err := p.watcher.Watch(id)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch passt: %w", err), host.Signal(id, unix.SIGKILL))
	}
	q := &Process{id: id, watch: watch, log: at.Log, said: said}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := awaitPID(ctx, at.Mark, id.PID, watch.Gone); err != nil {
		if errors.Is(err, host.ErrGone) {
			err = q.Why()
		}
		return nil, errors.Join(err, q.End(context.WithoutCancel(ctx)))
	}
	q.said = host.SizeOf(at.Log) // its greeting is no reason for anything
	return q, nil
}

// makeMark makes the file in which passt will write its PID.
func makeMark(at Place) error {
	f, err := os.OpenFile(at.Mark, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("make passt's PID file: %w", err)
	}
	if at.Owner != nil {
		err = f.Chown(int(at.Owner.UID), int(at.Owner.GID))
	}
	return errors.Join(err, f.Close())
}

// awaitPID waits until passt has written its PID, which it does last: its
// socket listens, its ports are bound, it has shut itself in. host.ErrGone if it
// ends before. The socket itself is not tried: the first client is the only one.
func awaitPID(ctx context.Context, file string, pid int, gone <-chan struct{}) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return host.ErrGone
		case <-ctx.Done():
			return fmt.Errorf("wait for passt: %w", context.Cause(ctx))
		case <-tick.C:
		}
		if got, ok := readPID(file); ok && got == pid {
			return nil
		}
	}
}
