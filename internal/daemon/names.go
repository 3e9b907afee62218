package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/dns"
	"banger/internal/doctor"
	"banger/internal/host"
)

const (
	closeNames = time.Second     // answers under way are let out so long
	lookLimit  = 2 * time.Second // for a look at all VMs
)

// names serves the VMs' names on the loopback, and on the gateway's address for guests.
type names struct {
	d      *daemon
	server *dns.Server // nil: nowhere
	err    error       // why, if it was wanted

	guests guestNames

	mu   sync.Mutex
	last seen
}

// seen is what was true at one moment.
type seen struct {
	net netip.Prefix
	vms []banger.VM
	all *dns.Names      // of the host
	old <-chan struct{} // closed once this may not hold any more

	guests *sync.Map // of netip.Addr: *dns.Names, of those guests that have asked
}

// serveNames starts to answer; what keeps it from that is told by status and
// doctor, since no VM depends on it.
func (d *daemon) serveNames(ctx context.Context) {
	at := d.config.DNS
	if !at.IsValid() {
		return
	}
	d.names.server, d.names.err = dns.Listen(ctx, places(at, d.tag), d.names.view, d.log)
	switch s := d.names.server; {
	case s == nil:
		d.log.Warn("names are not served", "err", d.names.err)
	case s.Missed() != nil:
		d.log.Warn("names are served elsewhere than wanted", "listen", s.Addr(), "err", s.Missed())
	default:
		d.log.Info("names are served", "listen", s.Addr())
	}
	if s := d.names.server; s != nil {
		at := s.Addr()
		d.served.Store(&at)
		d.routed.TellHost() // for VMs that run already
	}
}

// places are where the names' server may listen: where it is wanted, else on a port
// that follows from the installation's tag, so that the next daemon most likely has
// the same and what the host's resolver was told stays true, else on any.
func places(wanted netip.AddrPort, tag string) []netip.AddrPort {
	all := []netip.AddrPort{wanted}
	if wanted.Port() == 0 {
		return all
	}
	const base, some = 42070, 1 << 11
	n, err := strconv.ParseUint(tag, 16, 16)
	if err == nil {
		all = append(all, netip.AddrPortFrom(wanted.Addr(), uint16(base+n%some)))
	}
	return append(all, netip.AddrPortFrom(wanted.Addr(), 0))
}

func (n *names) close() error {
	n.forGuests(false)
	return closeServer(n.server)
}

// closeServer ends a server, if there is one, and lets out what it is about to say.
func closeServer(s *dns.Server) error {
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeNames)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		return fmt.Errorf("stop to serve names: %w", err)
	}
	return nil
}

// resolvedSocket is there while systemd-resolved runs (nss-resolve(8) asks there).
const resolvedSocket = "/run/systemd/resolve/io.systemd.Resolve"

// tellable is where names are served, for a resolver of the host's that can be
// told by banger-root; zero otherwise.
func (d *daemon) tellable() netip.AddrPort {
	at := d.served.Load()
	if at == nil || !d.config.TellHost {
		return netip.AddrPort{}
	}
	if _, err := os.Lstat(resolvedSocket); err != nil {
		return netip.AddrPort{}
	}
	return *at
}

// view is what is true now, for whoever asks on the host.
func (n *names) view(ctx context.Context, _ netip.Addr) (*dns.Names, error) {
	s, err := n.look(ctx)
	return s.all, err
}

// look is what was seen last, as long as nothing has changed since.
func (n *names) look(ctx context.Context) (seen, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	subnet := n.d.net().Prefix
	if n.last.all != nil && n.last.net == subnet {
		select {
		case <-n.last.old:
		default:
			return n.last, nil
		}
	}
	old := n.d.vms.News() // before the look: what changes during it is seen the next time
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	vms, err := n.d.vms.List(ctx)
	if err != nil {
		return seen{}, err
	}
	n.last = seen{net: subnet, vms: vms, all: dns.Of(subnet, vms), old: old, guests: new(sync.Map)}
	n.last.all.Add(probe(n.d.tag), netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	return n.last, nil
}

// probe is a label that no VM can have, by which it is seen whether the host asks
// this installation.
func probe(tag string) string { return "_banger-" + tag }

func (n *names) info() *api.DNSInfo {
	zone := strings.TrimSuffix(dns.Zone, ".")
	i := &api.DNSInfo{Zone: zone, Probe: probe(n.d.tag) + "." + zone}
	wanted := n.d.config.DNS
	if wanted.IsValid() {
		i.Wanted = wanted.String()
	}
	i.Guests, _ = n.guestsAt()
	err := n.err
	if n.server != nil {
		i.Listen, err = n.server.Addr().String(), n.server.Missed()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		i.Problem = i.Wanted + " is taken"
		if by := host.Holder(wanted); by != "" {
			i.Problem += " by " + by
		}
	case err != nil:
		i.Problem = err.Error()
	}
	return i
}

func (d *daemon) checkNames(context.Context) doctor.Result {
	i := d.names.info()
	_, err := d.names.guestsAt()
	switch {
	case err != nil:
		return doctor.Result{Status: doctor.Warning, Message: "guests are not answered when they ask for names: " + err.Error(), Remedy: "banger daemon restart tries again"}
	case i.Wanted == "":
		return doctor.Result{Status: doctor.Note, Message: "switched off", Remedy: "listen under [dns] in the configuration switches them on"}
	case i.Problem != "":
		r := doctor.Result{Status: doctor.Warning, Message: i.Problem + ": they are served on " + i.Listen}
		if i.Listen == "" {
			r.Message = i.Problem + ": they are not served"
		}
		r.Remedy = "free it and say banger daemon restart, or name another with listen under [dns] in the configuration"
		return r
	}
	if err := d.routed.Told(); err != nil {
		r := doctor.FromError(err, "")
		r.Status = doctor.Warning
		return r
	}
	return doctor.Result{Status: doctor.OK, Message: "NAME.vm is answered on " + i.Listen + "; whether this host asks there: banger dns status"}
}
