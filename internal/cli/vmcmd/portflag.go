package vmcmd

import (
	"errors"
	"fmt"
	"strings"

	"banger"
	"banger/internal/api"
)

const noPorts = "none"

// ports is the value of a flag that names ports: each use adds one.
type ports[T fmt.Stringer] struct {
	api.Optional[[]T]
	kind  string
	parse func(string) (T, error)
	none  bool // the word none stands for no ports at all
}

func published(none bool) ports[banger.Publish] {
	return ports[banger.Publish]{kind: "[ADDR:]HOST:GUEST[/udp]", parse: banger.ParsePublish, none: none}
}

func ofHost(kind string, none bool) ports[banger.HostPort] {
	return ports[banger.HostPort]{kind: kind, parse: banger.ParseHostPort, none: none}
}

func (p *ports[T]) Type() string { return p.kind }

func (p *ports[T]) String() string {
	if p == nil {
		return ""
	}
	return joinPorts(p.Value)
}

func joinPorts[T fmt.Stringer](all []T) string {
	var words []string
	for _, one := range all {
		words = append(words, one.String())
	}
	return strings.Join(words, ", ")
}

func (p *ports[T]) Set(s string) error {
	none := p.none && s == noPorts
	if p.Optional.Set && (none || len(p.Value) == 0) {
		return errors.New("none goes with no other port")
	}
	all := append([]T{}, p.Value...)
	if !none {
		one, err := p.parse(s)
		if err != nil {
			return err
		}
		all = append(all, one)
	}
	p.Optional = api.Some(all)
	return nil
}
