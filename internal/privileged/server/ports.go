package server

import (
	"slices"
	"time"

	"banger"
	"banger/internal/network"
)

// boundEvery is how often it is looked whether ports of UDP are their user's still, as
// long as any is led: there is no event for a socket's end that would not come for each
// question that the host asks for a name.
const boundEvery = 2 * time.Second

func isUDP(p network.Port) bool { return p.Proto == banger.UDP }

// lookAtPorts has ports led no more that their user has given up.
func (s *server) lookAtPorts() {
	s.doing.Lock()
	defer s.doing.Unlock()
	for tag, h := range s.held {
		still, err := s.router.Bound(h.net.Ports)
		if err == nil && len(still) == len(h.net.Ports) {
			continue
		}
		if err == nil {
			h.net.Ports = still
			s.held[tag] = h
			_, err = s.apply(h.net)
		}
		h.by.log.Info("a port was given up", "tag", tag, "err", err)
	}
	s.watchPorts()
}

// watchPorts has it looked at them, if there are any. s.doing is held.
func (s *server) watchPorts() {
	for _, h := range s.held {
		if slices.ContainsFunc(h.net.Ports, isUDP) {
			s.bound.Reset(boundEvery)
			return
		}
	}
}

// leadNoUDP is done as the last that can be about a network that nobody holds any more:
// nobody would look at its ports. s.doing is held.
func (s *server) leadNoUDP(h holding) {
	if !slices.ContainsFunc(h.net.Ports, isUDP) {
		return
	}
	h.net.Ports = slices.DeleteFunc(slices.Clone(h.net.Ports), isUDP)
	changes, err := s.apply(h.net)
	h.by.log.Info("UDP is led no more", "tag", h.net.Tag, "changed", changes, "err", err)
}
