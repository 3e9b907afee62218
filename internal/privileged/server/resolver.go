package server

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/fault"
	"banger/internal/privileged"
)

const (
	resolved      = "org.freedesktop.resolve1"
	resolvedPath  = dbus.ObjectPath("/org/freedesktop/resolve1")
	resolverLimit = 5 * time.Second // nobody may wait long for a bus that hangs
)

// A telling is what a connection has had the host's resolver told. It is true
// for as long as the connection lives: whoever holds it answers for the names.
type telling struct {
	by *conn
	privileged.Resolver
}

// resolve has the host's resolver ask who holds the connection c for names of VMs.
func (s *server) resolve(c *conn, r privileged.Resolver) error {
	index, err := s.router.Gateway(r.Tag)
	if err != nil {
		return err
	}
	if index == 0 { // with the link went whatever was known of it
		delete(s.told, r.Tag)
		if !r.Server.IsValid() {
			return nil
		}
		return banger.Errorf(banger.WrongState, "installation %s has no network here", r.Tag)
	}
	s.told[r.Tag] = telling{c, r} // before: what is told in part is taken back, too
	err = tellResolved(s.bus, index, r.Server)
	if err == nil && !r.Server.IsValid() {
		delete(s.told, r.Tag)
	}
	return err
}

// forget takes back what c has had the resolver told.
func (s *server) forget(c *conn) {
	for tag, t := range s.told {
		if t.by != c {
			continue
		}
		if err := s.resolve(c, privileged.Resolver{Tag: tag}); err != nil {
			c.log.Warn("the host's resolver still asks a daemon that is gone", "tag", tag, "err", err)
		}
		delete(s.told, tag)
	}
}

// A dnsServer and a dnsDomain are what org.freedesktop.resolve1(5) has them be.
type dnsServer struct {
	Family  int32
	Address []byte
	Port    uint16
	Name    string
}

type dnsDomain struct {
	Name      string
	RouteOnly bool
}

// tellResolved has systemd-resolved, at the bus of that address, ask server for
// .vm and for nothing else, by way of a link; without a server it forgets what it
// was told of that link. What is so already is not told again.
func tellResolved(bus string, link int, server netip.AddrPort) error {
	ctx, stop := context.WithTimeout(context.Background(), resolverLimit)
	defer stop() // which closes the connection, too
	c, err := dbus.Connect(bus, dbus.WithContext(ctx))
	if err != nil {
		return unheard(err)
	}
	call := func(method string, args ...any) *dbus.Call {
		return c.Object(resolved, resolvedPath).CallWithContext(ctx, resolved+".Manager."+method, dbus.FlagNoAutoStart, append([]any{int32(link)}, args...)...)
	}
	if !server.IsValid() {
		return unheard(fault.Do("have the resolver forget", func() error { return call("RevertLink").Err }))
	}
	servers := []dnsServer{{unix.AF_INET, server.Addr().AsSlice(), server.Port(), ""}}
	domains := []dnsDomain{{"vm", true}}
	var path dbus.ObjectPath
	if err := call("GetLink").Store(&path); err != nil {
		return unheard(err)
	}
	if isTold(ctx, c.Object(resolved, path), servers, domains) {
		return nil
	}
	// The server last: until then the link answers for nothing.
	for _, s := range []struct {
		method string
		arg    any
	}{
		{"SetLinkDefaultRoute", false}, {"SetLinkLLMNR", "no"}, {"SetLinkMulticastDNS", "no"},
		{"SetLinkDNSSEC", "no"}, // the root zone says that there is no .vm
		{"SetLinkDNSOverTLS", "no"}, {"SetLinkDomains", domains}, {"SetLinkDNSEx", servers},
	} {
		if err := fault.Do("tell the resolver "+s.method, func() error { return call(s.method, s.arg).Err }); err != nil {
			return unheard(err)
		}
	}
	return nil
}

// isTold reports whether a link has these servers and domains, and is asked for
// nothing else.
func isTold(ctx context.Context, link dbus.BusObject, servers []dnsServer, domains []dnsDomain) bool {
	var all map[string]dbus.Variant
	if link.CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", dbus.FlagNoAutoStart, resolved+".Link").Store(&all) != nil {
		return false
	}
	var s []dnsServer
	var d []dnsDomain
	for name, into := range map[string]any{"DNSEx": &s, "Domains": &d} {
		if v, ok := all[name]; !ok || v.Store(into) != nil { // Store panics without a value
			return false
		}
	}
	same := func(a, b dnsServer) bool {
		return a.Family == b.Family && slices.Equal(a.Address, b.Address) && a.Port == b.Port
	}
	return all["DefaultRoute"].Value() == false && all["DNSSEC"].Value() == "no" &&
		slices.EqualFunc(s, servers, same) && slices.Equal(d, domains)
}

// unheard says what it means that resolved cannot be asked.
func unheard(err error) error {
	var e dbus.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Name == resolved+".NoSuchLink":
		return nil // it has gone, or resolved has not seen it come; then it is told with the next request
	}
	return banger.Errorf(banger.HostUnready, "systemd-resolved cannot be told who knows .vm: %w", err).
		WithRemedy("banger dns status says how else this host can be told")
}
