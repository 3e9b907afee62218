package privileged

import (
	"net/netip"

	"banger"
	"banger/internal/network"
)

// A request1 is a Request of protocol 1, in which taps have no
// NAT, and guests no names.
type request1 struct {
	Protocol int       `json:"protocol"`
	Op       Op        `json:"op"`
	Network  *network1 `json:"network,omitempty"`
}

type network1 struct {
	Tag    string       `json:"tag"`
	Subnet netip.Prefix `json:"subnet"`
	Taps   []tap1       `json:"taps"`
}

type tap1 struct {
	VM       banger.VMID `json:"vm"`
	Addr     netip.Addr  `json:"address"`
	Isolated bool        `json:"isolated"`
}

// request is what r means now.
func (r request1) request() Request {
	now := Request{Protocol: Protocol, Op: r.Op}
	if r.Network != nil {
		now.Network = &network.Config{Tag: r.Network.Tag, Subnet: r.Network.Subnet}
		for _, t := range r.Network.Taps {
			now.Network.Taps = append(now.Network.Taps, network.Tap{VM: t.VM, Addr: t.Addr, Isolated: t.Isolated})
		}
	}
	return now
}

// In is the message that r is in a protocol that is spoken. In protocol 1 no tap
// has NAT.
func (r Request) In(protocol int) any {
	r.Protocol = protocol
	if protocol != 1 {
		return r
	}
	old := request1{Protocol: protocol, Op: r.Op}
	if r.Network != nil {
		old.Network = &network1{Tag: r.Network.Tag, Subnet: r.Network.Subnet}
		for _, t := range r.Network.Taps {
			old.Network.Taps = append(old.Network.Taps, tap1{VM: t.VM, Addr: t.Addr, Isolated: t.Isolated})
		}
	}
	return old
}
