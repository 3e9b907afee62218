package link

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/network"
)

// Claim fills in which port of the host p is: the one that the socket is bound to,
// which the kernel gave to nobody who may not have it. It marks the socket as one of
// the Router's user, and the rules lead only what the kernel would give to a socket
// with that mark: nobody but root sets marks, and with the socket the mark is gone.
// Another socket than a bound IPv4 one of this network namespace, TCP's listening and
// UDP's not connected, is Invalid, and not marked.
func (r *Router) Claim(p *network.Port, socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		if p.Host, p.Proto, err = boundTo(int(fd)); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark(r.uid)))
		}
	})
	if err = errors.Join(cerr, err); err != nil {
		return banger.Errorf(banger.Invalid, "the socket of VM %s's port %d: %w", p.VM, p.Guest, err)
	}
	return nil
}

// mark is what sockets of a uid are marked with: no two uids have the same, and none
// has 0, which all sockets of others have. The letter in front keeps it from numbers
// that people choose for their routing.
func mark(uid uint32) uint32 {
	const letter, nobody = 'b' << 24, math.MaxUint32 // the second is no uid (chown(2))
	if uid == letter {
		uid = nobody
	}
	return uid ^ letter
}

// boundTo is what a socket is bound to.
func boundTo(fd int) (at netip.AddrPort, proto banger.Proto, err error) {
	option := func(name int) (v int) {
		if err == nil {
			v, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		}
		return v
	}
	domain, kind, protocol, listens := option(unix.SO_DOMAIN), option(unix.SO_TYPE), option(unix.SO_PROTOCOL), option(unix.SO_ACCEPTCONN)
	if err != nil {
		return at, "", err // no socket
	}
	switch {
	case domain != unix.AF_INET:
		return at, "", errors.New("it is not of IPv4")
	case kind == unix.SOCK_STREAM && protocol == unix.IPPROTO_TCP:
		proto = banger.TCP
	case kind == unix.SOCK_DGRAM && protocol == unix.IPPROTO_UDP:
		proto = banger.UDP
	default:
		return at, "", fmt.Errorf("it is of type %d and protocol %d, neither TCP nor UDP", kind, protocol)
	}
	if _, err := unix.Getpeername(fd); !errors.Is(err, unix.ENOTCONN) {
		return at, "", fmt.Errorf("it is connected (%v)", err)
	}
	if proto == banger.TCP && listens == 0 {
		return at, "", errors.New("it does not listen")
	}
	if err := sameNetwork(fd); err != nil {
		return at, "", err
	}
	sa, err := unix.Getsockname(fd)
	in, ok := sa.(*unix.SockaddrInet4)
	if err != nil || !ok || in.Port == 0 {
		return at, "", fmt.Errorf("it is not bound (%v)", err)
	}
	at = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	if a := at.Addr(); a.IsLoopback() || a.IsMulticast() {
		return at, "", fmt.Errorf("%s is not reached from outside", a)
	}
	return at, proto, nil
}

// sameNetwork fails if the socket is of another network namespace than this thread:
// in one of his own every user may have every port.
func sameNetwork(fd int) error {
	ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return os.NewSyscallError("SIOCGSKNS", err)
	}
	defer unix.Close(ns)
	var its, own unix.Stat_t
	if err := errors.Join(unix.Fstat(ns, &its), unix.Stat("/proc/thread-self/ns/net", &own)); err != nil {
		return err
	}
	if its.Dev != own.Dev || its.Ino != own.Ino {
		return errors.New("it is of another network namespace")
	}
	return nil
}
