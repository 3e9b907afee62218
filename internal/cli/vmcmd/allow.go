package vmcmd

import (
	"errors"
	"strings"

	"banger"
	"banger/internal/api"
)

// allowed is the value of --allow-host: each use adds one, the word none stands for
// no ports at all.
type allowed struct {
	api.Optional[[]banger.HostPort]
}

func (p *allowed) Type() string { return "PORT[/udp]" }

func (p *allowed) String() string {
	if p == nil {
		return ""
	}
	return joinPorts(p.Value)
}

func joinPorts(ports []banger.HostPort) string {
	var all []string
	for _, one := range ports {
		all = append(all, one.String())
	}
	return strings.Join(all, ", ")
}

func (p *allowed) Set(s string) error {
	if p.Optional.Set && (s == noPorts || len(p.Value) == 0) {
		return errors.New("none goes with no other port")
	}
	all := append([]banger.HostPort{}, p.Value...)
	if s != noPorts {
		one, err := banger.ParseHostPort(s)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	p.Optional = api.Some(all)
	return nil
}
