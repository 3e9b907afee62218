// Package privileged is what banger-root is asked, and how: the requests that
// need root, the checks of every field of theirs, and the framing. It does
// nothing to the host; its children ask (client) and do (server).
//
// A request holds no names, no paths and no uid. Names follow from the peer's
// uid, its installation's tag and the VM's ID.
package privileged

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"

	"banger"
	"banger/internal/network"
)

// Protocol numbers the meaning of the messages. A request with a field more or
// less than a release's has another one; both sides speak this one and the one before.
// What no release has spoken may still be changed: between builds of that time a field
// that the other does not know is an error that says what to do.
const Protocol = 2

// MaxMessage bounds a message, in bytes: a full Config has less than 100 KiB,
// and a socket takes 208 KiB at a time unless told otherwise.
const MaxMessage = 128 << 10

// An Op is what is asked for.
type Op string

const (
	NetworkProbe Op = "network.probe" // can network.set work here? Changes nothing
	NetworkSet   Op = "network.set"   // make the host's network equal to Request.Network
	ResolverSet  Op = "resolver.set"  // have the host's resolver ask Request.Resolver for .vm while the peer is connected
	DiskProbe    Op = "disk.probe"    // can disk.attach work here, over files in the directory that comes with it?
	DiskAttach   Op = "disk.attach"   // make Request.Disk of the image and the copy-on-write file that come with it
	DiskDetach   Op = "disk.detach"   // take Request.Disk down
	DiskStatus   Op = "disk.status"   // how full is it?
	KVMAllow     Op = "kvm.allow"     // an ACL for the peer's uid on /dev/kvm
	KVMRevoke    Op = "kvm.revoke"    // takes it back, if banger set it
	RootExit     Op = "root.exit"     // end this banger-root; what it made stays
)

// Since is the first protocol that has the operation.
func (o Op) Since() int {
	switch o {
	case ResolverSet, DiskProbe, DiskAttach, DiskDetach, DiskStatus:
		return 2
	}
	return 1
}

// A Request is one message to banger-root. All of it is checked by Check.
type Request struct {
	Protocol int             `json:"protocol"`
	Op       Op              `json:"op"`
	Network  *network.Config `json:"network,omitempty"`  // of NetworkSet, and of no other
	Resolver *Resolver       `json:"resolver,omitempty"` // of ResolverSet, and of no other
	Disk     *Disk           `json:"disk,omitempty"`     // of DiskAttach, DiskDetach and DiskStatus
}

// A Resolver is who knows the names of an installation's VMs.
type Resolver struct {
	Tag    string         `json:"tag"`
	Server netip.AddrPort `json:"server"` // of the loopback, above 1023; zero: nobody any more
}

// A Disk is the root disk of one VM of the asking user's.
type Disk struct {
	Tag  string      `json:"tag"` // of the installation
	VM   banger.VMID `json:"vm"`
	Size int64       `json:"size_bytes,omitempty"` // of DiskAttach
}

// A Response answers one Request, in order.
type Response struct {
	Protocol int           `json:"protocol"`
	Error    *banger.Error `json:"error,omitempty"`       // nil: done
	Device   string        `json:"device,omitempty"`      // of DiskAttach: path of what the user may open
	Used     int64         `json:"used_bytes,omitempty"`  // of DiskStatus: of the copy-on-write file
	Total    int64         `json:"total_bytes,omitempty"` // of DiskStatus
}

// files is the exact number of descriptors beside a request.
func (r Request) files() int {
	switch r.Op {
	case NetworkSet:
		if r.Network != nil {
			return len(r.Network.Ports) // a socket each
		}
	case DiskProbe:
		return 1 // the directory
	case DiskAttach:
		return 2 // the image, the copy-on-write file
	}
	return 0
}

// ParseRequest decodes and checks one request, with which n descriptors came; an
// error is Invalid. Nothing beside the fields that are known is accepted, and
// nothing after them.
func ParseRequest(b []byte, n int) (r Request, err error) {
	// The number first: a request of another protocol is told so, whatever
	// fields it has. This looks at all of b, of which the decoder below would
	// read the first value.
	var p struct {
		Protocol int `json:"protocol"`
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return r, invalid("not a request: %v", err)
	}
	switch p.Protocol {
	case Protocol:
		err = decode(b, &r)
	case 1:
		var old request1
		err = decode(b, &old)
		r = old.request()
	default:
		return r, invalid("protocol %d is not spoken here, %d is", p.Protocol, Protocol).
			WithRemedy(another, os.Getpid())
	}
	if err != nil {
		return Request{}, invalid("not a request of protocol %d: %v", p.Protocol, err).WithRemedy(another, os.Getpid())
	}
	if n != r.files() {
		return Request{}, invalid("%d descriptors came with %s, which has %d", n, cut(string(r.Op)), r.files())
	}
	return r, r.Check()
}

// another is what helps who does not speak as this banger-root does, whose PID it has: others
// may be other users'.
const another = "end this banger-root, and start the one that belongs to your banger: sudo kill %d"

func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func invalid(format string, a ...any) *banger.Error {
	return banger.Errorf(banger.Invalid, format, a...)
}
